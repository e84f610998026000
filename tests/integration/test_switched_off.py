"""A command, or a whole extension, is switched off by a new version; its partition goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
from host_world import NAMING, World

from engine import wire
from engine.application import Application
from engine.application.building import Parts, build
from engine.application.compat import Verdict, diff
from engine.application.folder import load_application

BANK = Path(__file__).parents[2] / "topology" / "bank"
WHY = "payments are looked into"


def bank(index: int, **changes: str) -> Application:
    """Return the bank, with parts of its manifest replaced."""
    made = load_application(BANK)
    manifest = made.manifest.replace(f'version = "{made.version}"', f'version = "9.{index}.0"')
    for old, new in changes.items():
        assert old in manifest
        manifest = manifest.replace(old, new)
    modules = {name: each.content for name, each in made.extensions.items()}
    parts = Parts(manifest, made.schema_texts, modules, "application.toml")
    return replace(build(parts, made.tables), index=index)


CREDIT = {"commands.credit = {": f'commands.credit = {{ off = "{WHY}",'}
EXTENSION = {"extensions.bank = {": f'extensions.bank = {{ off = "{WHY}",'}


@pytest.fixture(params=["python", "wasm"])
def world(request):
    world = World(NAMING[request.param], bank(1))
    assert world.do("open", {"owner": "Ada"})["code"] == ""
    yield world
    world.host.close()


def test_one_command_is_off_and_on_again_and_the_others_never_notice(world):
    payment = {"amount": 5, "reference": "x"}
    assert world.do("credit", payment)["code"] == ""
    world.deploy(bank(2, **CREDIT))
    refused = world.do("credit", payment)
    assert (refused["code"], refused["message"]) == ("switched_off", WHY)
    assert refused["changes"] == []
    assert world.do("debit", payment)["code"] == ""
    world.deploy(bank(3))
    assert world.do("credit", payment)["code"] == ""
    assert world.record("account")["balance"] == 5


def test_an_extension_is_off_with_all_its_commands(world):
    world.deploy(bank(2, **EXTENSION))
    for name, args in (("open", {"owner": "Bo"}), ("credit", {"amount": 5, "reference": ""})):
        assert world.do(name, args)["code"] == "switched_off"
    assert world.record("account")["owner"] == "Ada"


def test_what_was_switched_off_is_in_the_log_and_folds_anywhere(world):
    """Nobody asks a switch when the log is folded: the outcome says what was decided."""
    world.deploy(bank(2, **CREDIT))
    world.do("credit", {"amount": 5, "reference": "x"})
    codes = [wire.decode_outcome(value)["code"] for value in world.log]
    assert codes == ["", "switched_off"]
    for make_host in NAMING.values():
        fresh = World(make_host, bank(1))
        fresh.fold(world.log[:1])
        fresh.deploy(bank(2, **CREDIT))
        fresh.fold(world.log[1:])
        assert fresh.rows() == world.rows()
        fresh.host.close()


def test_a_duplicate_of_what_was_accepted_is_answered_though_it_is_off(world):
    value = world.command("credit", {"amount": 5, "reference": "x"})
    (first,) = world.send(value)
    world.deploy(bank(2, **CREDIT))
    (again,) = world.send(value)
    assert again.first_sequence == first.sequence


def test_switching_off_may_always_follow():
    for changed in (CREDIT, EXTENSION):
        entries = diff(bank(1), bank(2, **changed)).entries
        found = {entry.where: entry.verdict for entry in entries if entry.where.endswith(".off")}
        assert found, entries
        assert set(found.values()) == {Verdict.COMPATIBLE}
