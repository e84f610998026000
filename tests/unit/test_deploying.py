"""When an owner puts an application in force, and lets a built view count: between two batches."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from replica_world import ReplicaWorld
from test_generations import FOLDER, entries, variant

from engine import limits, wire
from engine.application import Application
from engine.application.folder import load_application
from engine.model import Held, NodeBeat, Phase
from engine.node.operations import Operations
from engine.partition.deploying import Loaded
from engine.partition.replica import Identity, Replica
from engine.simulator.applications import ledger, ledger_next
from engine.wire import Kind

NEXT = FOLDER.with_name("ledger_next")


@pytest.fixture
def world() -> ReplicaWorld:
    return ReplicaWorld()


def owning(world: ReplicaWorld, records_min: int = limits.BUILD_RECORDS_MIN) -> Replica:
    replica = world.opened(Identity("n", 0, ledger()), None, records_min)
    world.until(replica, Phase.OWNING)
    return replica


def versions(replica: Replica) -> list[str]:
    return [one.version for one in replica.applications.values()]


def test_an_owner_waits_for_every_node_and_says_for_whom(
    world: ReplicaWorld, tmp_path: Path
) -> None:
    replica, newer = owning(world), variant(tmp_path / "a", "1.1.0")
    replica.deploying.loaded = Loaded(newer, ("two",))
    world.move(1)
    world.settle(replica)
    assert versions(replica) == ["1.0.0"]
    assert "two" in replica.deploying.reason
    assert "1.1.0" in replica.deploying.reason
    replica.deploying.loaded = Loaded(newer)
    world.settle(replica)
    assert versions(replica) == ["1.0.0", "1.1.0"]
    assert replica.deploying.reason == ""
    assert replica.phase is Phase.OWNING
    world.move(2)
    world.settle(replica)
    assert [reply.sequence for reply in world.replies] == [1, 2]
    assert world.kinds().count(Kind.OWNER) == 1  # no claim of its own for it


def test_force_waits_for_nobody(world: ReplicaWorld, tmp_path: Path) -> None:
    replica = owning(world)
    replica.deploying.loaded = Loaded(variant(tmp_path / "a", "1.1.0"), ("two",), force=True)
    world.settle(replica)
    assert versions(replica) == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize("version", ["0.9.0", "1.0.0"])
def test_only_a_higher_version_is_deployed_even_by_force(
    world: ReplicaWorld, tmp_path: Path, version: str
) -> None:
    replica = owning(world)
    other = variant(tmp_path / "a", version, ("application.toml", "max = 9", "max = 8"))
    replica.deploying.loaded = Loaded(other, force=True)
    world.move(1)
    world.settle(replica)
    assert versions(replica) == ["1.0.0"]
    assert "as the log says" in replica.deploying.reason
    assert len(world.replies) == 1


def test_a_rollback_is_a_higher_version_with_old_content(
    world: ReplicaWorld, tmp_path: Path
) -> None:
    replica = owning(world)
    stricter = variant(tmp_path / "a", "1.1.0", ("application.toml", "max = 9", "max = 1"))
    for application in (stricter, variant(tmp_path / "b", "1.2.0")):
        replica.deploying.loaded = Loaded(application)
        world.settle(replica)
        world.move(1)
        world.settle(replica)
        world.move(1)
        world.settle(replica)
    assert versions(replica) == ["1.0.0", "1.1.0", "1.2.0"]
    assert [reply.code for reply in world.replies] == ["", "check_failed", "", ""]


def test_a_batch_in_flight_is_decided_by_the_old_one_and_answered(
    world: ReplicaWorld, tmp_path: Path
) -> None:
    replica = owning(world)
    for _ in range(3):
        world.move(1)
    replica.tick()  # appended, not landed
    replica.deploying.loaded = Loaded(variant(tmp_path / "a", "1.1.0"))
    replica.tick()
    world.move(1)
    replica.tick()
    assert not replica.deploying.underway
    world.settle(replica)
    kinds = world.kinds()
    assert kinds == [
        Kind.OWNER,
        Kind.APPLICATION,
        *[Kind.OUTCOME] * 3,
        Kind.APPLICATION,
        Kind.OUTCOME,
    ]
    assert [reply.sequence for reply in world.replies] == [1, 2, 3, 4]


def test_a_release_lets_an_application_on_its_way_land_first(
    world: ReplicaWorld, tmp_path: Path
) -> None:
    replica = owning(world)
    replica.deploying.loaded = Loaded(variant(tmp_path / "a", "1.1.0"))
    replica.tick()
    assert replica.deploying.underway
    replica.release()
    world.until(replica, Phase.CLOSED)
    assert world.kinds()[-2:] == [Kind.APPLICATION, Kind.RELEASED]


def test_a_releasing_owner_deploys_nothing(world: ReplicaWorld, tmp_path: Path) -> None:
    replica = owning(world)
    world.move(1)
    replica.tick()
    replica.release()
    replica.deploying.loaded = Loaded(variant(tmp_path / "a", "1.1.0"))
    world.until(replica, Phase.CLOSED)
    assert versions(replica) == ["1.0.0"]
    assert world.kinds()[-1] is Kind.RELEASED


def test_a_build_under_way_is_replaced_by_that_of_the_next_version(
    world: ReplicaWorld, tmp_path: Path
) -> None:
    replica = owning(world, records_min=1)
    for amount in range(1, 6):
        world.move(amount)
    world.settle(replica)
    replica.deploying.loaded = Loaded(ledger_next())
    while not replica.builds():
        replica.tick()
        world.broker.step()
    replica.deploying.loaded = Loaded(again(tmp_path / "again"))
    world.settle(replica, steps=80)
    assert len(versions(replica)) == 3
    assert replica.builds() == ()
    assert [row["number"] for row in entries(replica)] == [1, 2, 3, 4, 5]
    assert "times" in entries(replica)[0]


def again(folder: Path) -> Application:
    """Return the next ledger with a higher version, and its projector revised once more."""
    shutil.copytree(NEXT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = folder / "application.toml"
    text = manifest.read_text().replace("1.1.0", "1.2.0")
    manifest.write_text(text.replace("revision = 2", "revision = 3"))
    return load_application(folder)


def test_a_view_counts_only_when_its_standbys_have_built_it(world: ReplicaWorld) -> None:
    replica = owning(world)
    for amount in range(1, 4):
        world.move(amount)
    world.settle(replica)
    replica.deploying.behind = ("two",)
    replica.deploying.loaded = Loaded(ledger_next())
    world.settle(replica, steps=40)
    assert Kind.SWITCH not in world.kinds()
    assert replica.builds()
    world.move(4)
    world.settle(replica)
    assert len(world.replies) == 4  # nobody waits for it
    replica.deploying.behind = ()
    world.settle(replica)
    assert Kind.SWITCH in world.kinds()


def beat(node: str, application: Application, *held: Held, process: bytes = b"p") -> NodeBeat:
    fingerprint = application.fingerprint
    return NodeBeat(
        node,
        process,
        "1",
        1,
        application.version,
        fingerprint,
        "",
        1,
        leaving=False,
        partitions=held,
    )


def test_who_lacks_a_version_is_told_by_heartbeats(world: ReplicaWorld, tmp_path: Path) -> None:
    replica, newer = owning(world), variant(tmp_path / "a", "1.1.0")
    operations = Operations("n", b"p", Loaded(ledger(), ("n",)), lambda: newer, {0: replica})
    operations.look([])
    assert operations.loaded.lacking == ("n",)  # heartbeats were not read yet
    operations.look([beat("n", ledger(), process=b"an earlier one")])
    assert operations.loaded.lacking == ("n",)
    operations.reload()
    operations.look([beat("n", ledger()), beat("two", newer)])
    assert operations.loaded.lacking == ("n",)
    operations.look([beat("n", newer), beat("two", ledger()), beat("three", ledger())])
    assert operations.loaded.lacking == ("three", "two")
    assert replica.deploying.loaded is operations.loaded
    world.settle(replica)
    assert "three, two" in operations.waiting()[0]
    operations.look([beat("n", newer), beat("two", newer)])
    world.settle(replica)
    assert operations.waiting() == {}
    assert versions(replica) == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize(
    ("held", "behind"),
    [
        (Held(0, "standby", 1, 1, application=1, unbuilt=0), ()),
        (Held(0, "standby", 1, 1, application=0, unbuilt=0), ("two",)),
        (Held(0, "standby", 1, 1, application=1, unbuilt=limits.BUILD_PAUSE_RECORDS), ()),
        (Held(0, "standby", 1, 1, application=1, unbuilt=limits.BUILD_PAUSE_RECORDS + 1), ("two",)),
        (Held(0, "restoring", 1, 1, application=0, unbuilt=9_999), ()),
        (Held(1, "standby", 1, 1, application=0, unbuilt=9_999), ()),
    ],
)
def test_a_standby_is_behind_by_what_it_says(
    world: ReplicaWorld, held: Held, behind: tuple[str, ...]
) -> None:
    replica = owning(world)
    operations = Operations("n", b"p", Loaded(ledger()), ledger, {0: replica})
    operations.look([beat("n", ledger()), beat("two", ledger(), held)])
    assert replica.deploying.behind == behind


def test_an_owner_writes_the_lowest_format_of_the_live_nodes(world: ReplicaWorld) -> None:
    replica = world.opened(Identity("n", 0, ledger()), None)
    operations = Operations("n", b"p", Loaded(ledger()), ledger, {0: replica})
    older, newer = (replace(beat("two", ledger()), format=limits.FORMAT + by) for by in (-1, 1))
    operations.look([beat("n", ledger()), newer])
    assert replica.deploying.loaded.format == limits.FORMAT
    operations.look([beat("n", ledger()), newer, older])
    world.until(replica, Phase.OWNING)
    owner = wire.decode_event(world.broker.events(0)[0].value or b"")[1]
    assert owner["format"] == limits.FORMAT - 1
