"""An application's folder: what the manifest may say, and what its errors say."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import wire
from engine.application.compat import is_higher
from engine.application.folder import load_application
from engine.application.manifest import parse_manifest
from engine.application.record import from_record, numbered, to_record
from engine.application.types import Application, EntryPoint, KeyColumn, Table
from engine.errors import ApplicationError, LogError
from engine.limits import MANIFEST_BYTES_MAX, TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST

MANIFEST = """\
application = { name = "bank", version = "1.0.0", partitions = 8 }
records.account.schema = "account.avsc"
records.account.kind = "singleton"
records.account.checks = { balance = { min = 0 } }
records.note = { schema = "account.avsc", kind = "operational" }
commands.credit = { args = "credit.avsc", run = "bank:credit", result = "account.avsc" }
views.statement = { row = "credit.avsc", key = ["day:date", "entry:long"] }
views.total = { row = "credit.avsc", key = [] }
projectors.statement.on = ["account.update", "credit.execute"]
projectors.statement.writes = ["statement", "total"]
projectors.statement.run = "bank:project"
projectors.statement.revision = 2
extensions.bank = { wasm = "build/bank.wasm", time_ms = 20 }
extensions.trusted = { python = "trusted:Trusted" }
"""
FILES = {
    "application.toml": MANIFEST,
    "account.avsc": '{"type": "record", "name": "Account", "fields": ['
    '{"name": "balance", "type": "long"}, {"name": "owner", "type": "string", "default": ""}]}',
    "credit.avsc": '{"type": "record", "name": "Credit", "fields": ['
    '{"name": "amount", "type": "long"}]}',
    "build/bank.wasm": "\0asm",
    "trusted.py": "class Trusted: ...\n",
}


def make(folder: Path, **changed: str | None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in {**FILES, **changed}.items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return folder


def refused(folder: Path, *, old: str = "", new: str = "") -> ApplicationError:
    assert old in MANIFEST
    make(folder, **{"application.toml": MANIFEST.replace(old, new, 1) if old else new})
    with pytest.raises(ApplicationError) as caught:
        load_application(folder)
    return caught.value


def logged(application: Application, previous: Application | None = None) -> Application:
    """Take an application through the bytes of an Application record."""
    head = {"epoch": 1, "sequence": 0, "previous": 0, "skippable": False}
    value = wire.encode_event(wire.Kind.APPLICATION, {**head, **to_record(application, previous)})
    modules = {name: entry.content for name, entry in application.extensions.items()}
    return from_record(wire.decode_event(value)[1], modules)


def test_a_folder_becomes_an_application(tmp_path: Path) -> None:
    application = load_application(make(tmp_path))
    assert (application.name, application.version, application.partitions) == ("bank", "1.0.0", 8)
    assert application.index == 0
    assert len(application.fingerprint) == 32
    account, note = application.records["account"], application.records["note"]
    assert (account.table, note.table) == (TABLE_RECORDS_FIRST, TABLE_RECORDS_FIRST + 1)
    assert account.checks[0].field.name == "balance"
    assert (account.checks[0].minimum, account.checks[0].maximum) == (0, None)
    assert application.record_tables[note.table] is note
    view = application.views["statement"]
    assert view.key == (KeyColumn("day", "date"), KeyColumn("entry", "long"))
    assert (view.table, view.generation) == (TABLE_VIEWS_FIRST, 1)
    assert application.view_tables[view.table] is view
    assert application.views["total"].key == ()
    assert application.commands["credit"].run == EntryPoint("bank", "credit")
    result = application.commands["credit"].result
    assert result is not None
    assert result.name == "Account"
    assert application.projectors[0].on == (("account", "update"), ("credit", "execute"))
    assert application.projectors[0].revision == 2
    bank, trusted = application.extensions["bank"], application.extensions["trusted"]
    assert (bank.kind, bank.target, bank.content) == ("wasm", "build/bank.wasm", b"\0asm")
    assert (bank.time_ms, bank.memory_kib) == (20, 1024)
    assert (trusted.kind, trusted.target) == ("python", "trusted:Trusted")
    assert trusted.content == b"class Trusted: ...\n"


def test_the_fingerprint_covers_every_part(tmp_path: Path) -> None:
    prints = {load_application(make(tmp_path / "0")).fingerprint}
    assert load_application(make(tmp_path / "0")).fingerprint in prints
    for number, (name, text) in enumerate(FILES.items()):
        folder = make(tmp_path / str(number + 1), **{name: text + "\n"})
        prints.add(load_application(folder).fingerprint)
    assert len(prints) == 1 + len(FILES)


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("min = 0", "mn = 0", "records.account.checks.balance.mn", "did you mean min?"),
        ("kind = ", "kin = ", "records.account.kin", "did you mean kind?"),
        ("commands.credit", "comands.credit", "comands", "did you mean commands?"),
        ("partitions = 8", "partitions = 0", "application.partitions", "greater than or equal"),
        ("partitions = 8", "partitions = true", "application.partitions", "valid integer"),
        ("partitions = 8", 'partitions = "8"', "application.partitions", "valid integer"),
        ('name = "bank"', 'name = "Bank"', "application.name", "lower-case"),
        ('"1.0.0"', '"1.0"', "application.version", "semantic version"),
        ('"singleton"', '"single"', "records.account.kind", "'operation' or 'singleton'"),
        ("min = 0", 'min = "0"', "records.account.checks.balance.min", "must be a number"),
        ("min = 0", "min = 0.5", "records.account.checks.balance", "integers"),
        ("min = 0", "min = 1, max = 0", "records.account.checks.balance", "above max"),
        ("{ balance", "{ balanse", "records.account.checks.balanse", "did you mean balance?"),
        ("{ balance", "{ owner", "records.account.checks.owner", "no bounds"),
        ('"bank:credit"', '"bank.credit"', "commands.credit.run", "extension:function"),
        ('"bank:credit"', '"bnk:credit"', "commands.credit.run", "did you mean bank?"),
        ('"day:date"', '"day:dat"', "views.statement.key.0", "name:kind"),
        ('"day:date"', '"entry:date"', "views.statement.key", "entry is there twice"),
        ('"entry:long"', '"limit:long"', "views.statement.key", "a parameter limit"),
        ('"day:date"', '"min_sequence:long"', "views.statement.key", "a parameter min_sequence"),
        ('"account.update"', '"acount.update"', "projectors.statement.on", "did you mean account?"),
        ('"account.update"', '"account.execute"', "projectors.statement.on", "no command account"),
        ('"account.update"', '"account.delete"', "projectors.statement.on.0", "record.create"),
        ('"statement", "total"', '"statment"', "projectors.statement.writes", "statement?"),
        ("revision = 2", "revision = 0", "projectors.statement.revision", "greater than"),
        ("time_ms = 20", "time_ms = 20000", "extensions.bank.time_ms", "less than or equal"),
        ('python = "trusted:T', 'wasm = "a", python = "t:T', "extensions.trusted", "either"),
        ("records.note", 'records."no-te"', "records.no-te", "lower-case"),
    ],
)
def test_an_error_names_file_and_key(
    tmp_path: Path, old: str, new: str, key: str, says: str
) -> None:
    error = refused(tmp_path, old=old, new=new)
    assert error.code == "E1102"
    place = {"file": str(tmp_path / "application.toml"), "key": key}
    if "key" in error.where:
        assert error.where == place
    else:
        assert f"\n  {key}: " in error.message  # it led to a second error
    assert says in str(error)


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, new=MANIFEST.replace("min = 0", "mn = 0").replace("args", "arg"))
    for key in ("records.account.checks.balance.mn", "commands.credit.arg"):
        assert f"\n  {key}: " in str(error)


def test_two_projectors_may_not_write_one_view(tmp_path: Path) -> None:
    more = 'projectors.other = { on = ["note.create"], writes = ["total"], run = "bank:other" }\n'
    error = refused(tmp_path, new=MANIFEST + more)
    assert error.where["key"] == "projectors.other.writes"
    assert "already written by the projector statement" in error.message


def test_toml_errors_name_the_line(tmp_path: Path) -> None:
    error = refused(tmp_path, old="records.note = {", new="records.note = {{")
    assert (error.code, error.where["line"]) == ("E1101", "5")


def test_missing_and_wrong_files(tmp_path: Path) -> None:
    def load(**changed: str | None) -> ApplicationError:
        folder = make(tmp_path / str(len(list(tmp_path.iterdir()))), **changed)
        with pytest.raises(ApplicationError) as caught:
            load_application(folder)
        return caught.value

    with pytest.raises(ApplicationError, match="E1101"):
        load_application(tmp_path / "nowhere")
    error = load(**{"account.avsc": None})
    assert (error.code, error.where["key"]) == ("E1103", "records.account.schema")
    assert "account.avsc is missing" in error.message
    error = load(**{"build/bank.wasm": None})
    assert (error.code, error.where["key"]) == ("E1104", "extensions.bank.wasm")
    assert "partita extension build" in error.hint
    assert load(**{"trusted.py": None}).code == "E1104"
    assert load(**{"credit.avsc": "{"}).where == {"file": "credit.avsc"}
    assert load(**{"application.toml": "#" * (MANIFEST_BYTES_MAX + 1)}).code == "E1101"


@pytest.mark.parametrize("name", ["../account.avsc", "/etc/passwd", "a/../../b.avsc", "a//b", "."])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "account.avsc").write_text(FILES["account.avsc"])
    error = refused(tmp_path / "app", old="account.avsc", new=name)
    assert error.where["key"] == "records.account.schema"


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.avsc").write_text(FILES["account.avsc"])
    folder = make(tmp_path / "app", **{"account.avsc": None})
    (folder / "account.avsc").symlink_to(tmp_path / "outside.avsc")
    with pytest.raises(ApplicationError, match="symbolic link"):
        load_application(folder)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.avsc").write_text(FILES["account.avsc"])
    make(folder, **{"application.toml": MANIFEST.replace("account.avsc", "linked/a.avsc")})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ApplicationError, match="symbolic link"):
        load_application(folder)


def test_a_record_of_the_log_gives_the_equal_application(tmp_path: Path) -> None:
    application = load_application(make(tmp_path))
    again = logged(application)
    assert again == dataclasses.replace(application, index=1)
    assert again == numbered(application, None)
    assert logged(again, again) == dataclasses.replace(again, index=2)


def test_tables_are_kept_and_never_given_twice(tmp_path: Path) -> None:
    first = logged(load_application(make(tmp_path / "1")))
    second_text = (
        'records.first = { schema = "account.avsc", kind = "operational" }\n'
        'views.another = { row = "credit.avsc", key = [] }\n'
        + MANIFEST.replace('views.total = { row = "credit.avsc", key = [] }\n', "")
    ).replace('["statement", "total"]', '["statement"]')
    second = logged(
        load_application(make(tmp_path / "2", **{"application.toml": second_text})), first
    )
    tables = {name: record.table for name, record in second.records.items()}
    assert tables == {"account": 0x100, "note": 0x101, "first": 0x102}
    views = {name: view.table for name, view in second.views.items()}
    # Its projector has changed: the statement is built again, in a table of its own.
    assert views == {"statement": 0x8002, "another": 0x8003}
    # The removed view comes back: with a number of its own, and as another generation.
    third = logged(load_application(make(tmp_path / "1")), second)
    assert (third.index, third.views["total"].table, third.views["total"].generation) == (
        3,
        0x8005,
        2,
    )
    assert third.views["statement"].table == 0x8004
    assert Table("view", "total", 1, 0x8001) in third.tables


def test_a_record_with_other_parts_is_refused(tmp_path: Path) -> None:
    application = load_application(make(tmp_path))
    fields = to_record(application, None)
    modules = {name: entry.content for name, entry in application.extensions.items()}
    with pytest.raises(LogError, match="E1306"):
        from_record(fields, {**modules, "bank": b"other"})
    with pytest.raises(LogError, match="E1306"):
        from_record(fields, {})
    with pytest.raises(LogError, match="E1303"):
        from_record({**fields, "manifest": fields["manifest"] + "\n"}, modules)
    with pytest.raises(LogError, match="E1304"):
        from_record({**fields, "manifest": fields["manifest"] + "new = 1\n"}, modules)
    with pytest.raises(LogError, match="E1304"):
        from_record({**fields, "schemas": []}, modules)


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_an_error(text: str) -> None:
    with pytest.raises(ApplicationError):
        parse_manifest(text)


def test_versions_have_the_order_of_semver() -> None:
    ordered = ["0.9.9", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0", "1.0.1"]
    ordered += ["1.2.0", "1.10.0", "2.0.0"]
    for at, older in enumerate(ordered):
        assert not is_higher(older, older)
        for newer in ordered[at + 1 :]:
            assert is_higher(newer, older)
            assert not is_higher(older, newer)
