"""A small application in builtin Python, and a world around a state host: log, store, restarts.

The log is a list, the store and the ledger are the engine's own, so pages and positions are real.
"""

import functools
import tempfile
import uuid
from collections import deque
from dataclasses import replace
from pathlib import Path

from engine import wire
from engine.application import rows, schema
from engine.application.folder import load_application
from engine.model import Batch, Decided, Input
from engine.partition.ledger import Ledger, pages
from engine.partition.ownership import LogState
from engine.replies import reply_of
from engine.sandbox.guests import load_guests
from engine.sandbox.host_ranges import StoreReader
from engine.sandbox.python import PythonHost
from engine.sandbox.wasm_host import WasmHost
from engine.store.memory import MemoryStore
from engine.wire import Kind
from engine.world import uuid7

# Hosts are made of a store: those of NAMING say which rows they miss, others read them.
NAMING = {
    "python": lambda _: PythonHost(load_guests),
    "wasm": lambda _: WasmHost(load_guests),
}
HOSTS = {
    **NAMING,
    "python reading": lambda store: PythonHost(load_guests, StoreReader(store)),
}
# The same of the bytes that the rows they hold may take.
BOUNDED = {
    "python": lambda cache_bytes_max: PythonHost(load_guests, cache_bytes_max=cache_bytes_max),
    "wasm": lambda cache_bytes_max: WasmHost(load_guests, cache_bytes_max),
}
START_MS = 1_700_000_000_000
PARTITIONS = 4

MANIFEST = """
application = { name = "shop", version = "%(version)s", partitions = 4 }
extensions.shop = { python = "shop:Shop" }
records.account = { schema = "account.avsc", kind = "singleton", checks.balance.max = 1000000 }
records.item = { schema = "item.avsc", kind = "operational", checks.quantity.min = 0 }
commands.open = { args = "open.avsc", run = "shop:open" }
commands.credit = { args = "amount.avsc", run = "shop:credit" }
commands.debit = { args = "amount.avsc", run = "shop:debit" }
commands.add = { args = "add.avsc", run = "shop:add", result = "added.avsc" }
commands.sell = { args = "sell.avsc", run = "shop:sell" }
commands.retire = { args = "sell.avsc", run = "shop:retire" }
commands.revive = { args = "sell.avsc", run = "shop:revive" }
commands.trouble = { args = "trouble.avsc", run = "shop:trouble" }
views.statement = { row = "statement.avsc", key = ["day:date", "entry:long"] }
views.stock = { row = "stock.avsc", key = ["name:string"] }
[projectors.statement]
on = ["account.create", "account.update"]
writes = ["statement"]
run = "shop:project_statement"
revision = 1
[projectors.stock]
on = ["item.create", "item.update", "item.deactivate", "item.activate", "sell.execute"]
writes = ["stock"]
run = "shop:project_stock"
revision = 1
"""

SOURCE = """
class Shop:
    def open(self, call):
        if call.record("account"):
            call.reject("open_already", "this account is open", "owner")
        account = call.create("account")
        account["owner"] = call.args["owner"]
        account["state"] = "open"

    def credit(self, call):
        account = call.record("account") or call.reject("no_account", "open it first")
        account["balance"] += call.args["amount"]
        account["entries"] += 1

    def debit(self, call):
        account = call.record("account") or call.reject("no_account", "open it first")
        if account["balance"] < call.args["amount"]:
            call.reject("insufficient_funds", "the balance is too low", "amount")
        account["balance"] -= call.args["amount"]
        account["entries"] += 1

    def add(self, call):
        item = call.create("item")
        item["name"] = call.args["name"]
        item["quantity"] = call.args["quantity"]
        item.append("marks", call.args["quantity"])
        call.result["id"] = item.id

    def sell(self, call):
        item = self.item(call)
        item["quantity"] -= 1
        item.append("sales")["at"] = call.context["command_time"]

    def retire(self, call):
        self.item(call).active = False

    def revive(self, call):
        self.item(call).active = True

    def item(self, call):
        return call.record("item", call.args["id"]) or call.reject("no_item", "no such item")

    def trouble(self, call):
        getattr(self, "trouble_" + call.args["kind"])(call)

    def trouble_raises(self, call):
        call.create("item")["name"] = "lost"
        raise ValueError("bad luck")

    def trouble_exits(self, call):
        raise SystemExit(3)

    def trouble_recursion(self, call):
        self.trouble_recursion(call)

    def trouble_type(self, call):
        call.create("item")["quantity"] = "many"

    def trouble_range(self, call):
        call.create("item")["quantity"] = 1 << 31

    def trouble_swallows(self, call):
        try:
            call.create("item")["quantity"] = None
        except Exception:
            pass

    def trouble_stubborn(self, call):
        try:
            call.record("item", 99_999)
        except Exception:
            raise ValueError("a row that is not cached is nobody's fault")
        call.reject("went_on", "when it was")

    def trouble_readonly(self, call):
        call.args["kind"] = "x"

    def trouble_field(self, call):
        call.create("item")["colour"] = 1

    def trouble_large(self, call):
        call.create("item")["name"] = "x" * 70_000

    def trouble_row(self, call):
        item = call.create("item")
        for _ in range(3):
            item.append("labels", "x" * 65_000)
        for _ in range(2):
            item.append("labels", "x" * 65_000)

    def trouble_outcome(self, call):
        for _ in range(5):
            item = call.create("item")
            for _ in range(3):
                item.append("labels", "x" * 65_000)

    def trouble_changes(self, call):
        for _ in range(101):
            call.create("item")

    def trouble_handles(self, call):
        item = call.create("item")
        for _ in range(5_000):
            item.append("sales")

    def trouble_inactive(self, call):
        item = call.record("item", 65_536)
        item.active = False
        item = call.record("item", 65_537)
        item["quantity"] = 1

    def trouble_view(self, call):
        call.put("stock", name="x")

    def trouble_projector(self, call):
        call.create("item")["name"] = "poison"

    def trouble_code(self, call):
        call.reject("Not A Code", "")

    def trouble_refusal(self, call):
        call.reject("id_expired", "")

    def trouble_text(self, call):
        raise ValueError("\\ud800" * 2_000)

    def project_statement(self, call):
        day = call.context["command_time"] // 86_400_000
        row = call.put("statement", day=day, entry=call.event["entries"])
        row["balance"] = call.event["balance"]
        row["command"] = call.context["name"]

    def project_stock(self, call):
        if call.context["op"] == "execute":
            row = call.put("stock", name="#sold")
            row["quantity"] += 1
            return
        if call.event["name"] == "poison":
            raise ValueError("a projector's bad luck")
        if call.context["op"] == "deactivate":
            call.remove("stock", name=call.event["name"])
            return
        row = call.put("stock", name=call.event["name"])
        row["quantity"] = call.event["quantity"]
        row["id"] = call.event.id
"""


def _avsc(name, *fields):
    shown = ", ".join(f'{{"name": "{field}", "type": {type_}}}' for field, type_ in fields)
    return f'{{"type": "record", "name": "{name}", "fields": [{shown}]}}'


STATE = '{"type": "enum", "name": "State", "symbols": ["new", "open"]}'
SALES = (
    '{"type": "array", "items": {"type": "record", "name": "Sale", "fields": '
    '[{"name": "at", "type": "long"}]}}'
)
FILES = {
    "account.avsc": _avsc(
        "Account",
        ("owner", '"string"'),
        ("balance", '"long"'),
        ("entries", '"long"'),
        ("state", STATE),
        ("note", '["null", "string"]'),
    ),
    "item.avsc": _avsc(
        "Item",
        ("name", '"string"'),
        ("quantity", '"int"'),
        ("marks", '{"type": "array", "items": "int"}'),
        ("labels", '{"type": "array", "items": "string"}'),
        ("sales", SALES),
    ),
    "open.avsc": _avsc("Open", ("owner", '"string"')),
    "amount.avsc": _avsc("Amount", ("amount", '"long"')),
    "add.avsc": _avsc("Add", ("name", '"string"'), ("quantity", '"int"')),
    "added.avsc": _avsc("Added", ("id", '"long"')),
    "sell.avsc": _avsc("Sell", ("id", '"long"')),
    "trouble.avsc": _avsc("Trouble", ("kind", '"string"')),
    "statement.avsc": _avsc("Statement", ("balance", '"long"'), ("command", '"string"')),
    "stock.avsc": _avsc("Stock", ("quantity", '"long"'), ("id", '"long"')),
}


def build(index=1, version="1.0.0", files=FILES, source=SOURCE, manifest=MANIFEST):
    """Load the application from a folder; `index` is that of its Application record."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "application.toml").write_text(manifest % {"version": version})
        (path / "shop.py").write_text(source)
        for name, text in files.items():
            (path / name).write_text(text)
        return replace(load_application(path), index=index)


shop = functools.cache(build)


def workspaces(partition, count=5):
    """Return names of workspaces that lie in a partition."""
    found = (f"w{number}" for number in range(10_000))
    mine = (name for name in found if wire.partition_of(name.encode(), PARTITIONS) == partition)
    return [next(mine) for _ in range(count)]


class World:
    """One partition: its log and store outlive its hosts."""

    def __init__(self, make_host, application=None, partition=0):
        self.make_host = make_host  # from a store, which a host may read or not
        self.partition = partition
        self.applications = {}
        self.store = MemoryStore()
        self.ledger = Ledger(self.store)
        self.log = []  # counting outcomes, as applied
        self.flights = []  # decided, not confirmed
        self.now_ms = START_MS
        self.command_offset = 0
        self.ids = 0
        self.passes = 0
        self.workspace = workspaces(partition)[0]
        self.host = None
        self.deploy(application or shop())

    def deploy(self, application):
        """Let an application come into force."""
        self.applications[application.index] = application
        state = LogState(self.ledger.position.copy())
        self.ledger.apply_application(application.index, b"application", state)
        if self.host is None:
            self.restart()
        else:
            self.host.open(self.partition, self.applications, self.ledger.position)

    @property
    def application(self):
        return self.applications[max(self.applications)]

    def restart(self):
        """Open a new host on what is stored; what was unconfirmed is gone."""
        if self.host is not None:
            self.host.close()
        self.flights = []
        self.host = self.make_host(self.store)
        self.host.open(self.partition, self.applications, self.ledger.position)
        self.host.own(7)
        self.host.provide(dict(pages(self.store)))

    def command(self, name, args=None, **fields):
        """Encode a command."""
        fields.setdefault("command_id", self.next_id())
        schema_ = self.application.commands[name].args
        return wire.encode_command(
            {
                "name": name,
                "args_schema": schema_.fingerprint,
                "args": schema.encode(schema_, args or {}),
                **fields,
            }
        )

    def next_id(self):
        self.ids += 1
        return uuid7(self.now_ms, self.ids.to_bytes(10))

    def batch(self, *values, key=None):
        """Return a batch of commands at the next offsets."""
        batch = Batch()
        for value in values:
            workspace, data = value if isinstance(value, tuple) else (key, value)
            workspace = self.workspace.encode() if workspace is None else workspace
            workspace = workspace.encode() if isinstance(workspace, str) else workspace
            batch.add(self.command_offset, self.now_ms, workspace, data)
            self.command_offset += 1
        return batch

    def decide(self, *values, key=None):
        """Decide commands; they stay unconfirmed."""
        decided = self.finish(self.batch(*values, key=key), self.decide_pass)
        self.flights.append(decided)
        return decided

    def decide_pass(self, batch):
        return self.host.decide(batch, Input.COMMANDS, self.now_ms)

    def finish(self, batch, step):
        """Call a step until the batch is finished, reading what is missing."""

        def counted(rest):
            self.passes += 1
            return step(rest)

        return self.ledger.finish(batch, self.host, counted) if batch else Decided()

    def confirm(self):
        """Confirm and apply the oldest decided batch."""
        decided = self.flights.pop(0)
        self.apply(decided, decided.outcomes)
        if decided.outcomes:
            self.host.confirm(decided.state.sequence)

    def apply(self, decided, values):
        first = len(self.log)
        self.log += values
        state = LogState(self.ledger.position.copy())
        self.ledger.apply(decided, list(range(first, len(self.log))), state)

    def send(self, *values, key=None):
        """Decide and confirm; return a reply for each, in order."""
        decided = self.decide(*values, key=key)
        while self.flights:
            self.confirm()
        return answers(values, decided)

    def do(self, name, args=None, **fields):
        """Send one command; return its outcome."""
        (reply,) = self.send(self.command(name, args, **fields))
        assert reply.sequence, reply
        return wire.decode_outcome(self.log[reply.sequence - 1])

    def discard(self):
        self.flights = []
        self.host.discard()

    def fold(self, values):
        """Fold records of a log, as a replica does."""
        batch = Batch()
        for at, value in enumerate(values):
            batch.add(at, self.now_ms, None, value)
        decided = self.finish(batch, self.host.fold)
        self.apply(decided, [v for v in values if wire.head(v).kind is Kind.OUTCOME])
        self.host.confirm(decided.state.sequence)
        return decided

    def rows(self):
        """Return what is stored but positions and pages: equal on all replicas."""
        view = self.store.view()
        found = dict(view.scan(b"", b"\xff\xff\xff"))
        view.close()
        return {k: v for k, v in found.items() if rows.table_of(k) not in rows.LOCAL_TABLES}

    def record(self, name, id_=0, workspace=None):
        """Return a record's fields, or None."""
        type_ = self.application.records[name]
        key = rows.record_key(type_.table, workspace or self.workspace, id_, id_)
        value = self.store.get(key)
        return value and schema.decode(type_.schema, rows.decode_value(value).body)

    def view(self, name, *columns, workspace=None):
        """Return a view row's fields, or None."""
        view = self.application.views[name]
        kinds = [column.kind for column in view.key]
        columns = zip(kinds, columns, strict=True)
        value = self.store.get(rows.view_key(view.table, workspace or self.workspace, columns))
        return value and schema.decode(view.schema, rows.decode_value(value).body)


def digests_of(found):
    """Return the digest of each table, counted anew from rows."""
    digests = {}
    for key, value in found.items():
        table = rows.table_of(key)
        digests[table] = digests.get(table, 0) + rows.row_hash(key, value)
    return {table: wire.signed64(digest) for table, digest in digests.items() if digest}


def uuid4_of(number):
    """Return an id that is no UUIDv7."""
    return uuid.UUID(int=number, version=4).bytes


def answers(values, decided):
    """Return what each sender would be told: what the host says, else what its outcome says."""
    made = [reply_of(value) for value in decided.outcomes]
    said = {reply.sequence: reply for reply in decided.replies if getattr(reply, "sequence", 0)}
    others = deque(reply for reply in decided.replies if not getattr(reply, "sequence", 0))
    outcomes = deque(said.get(reply.sequence, reply) for reply in made)
    found = []
    for value in values:
        names_outcome = not others or (outcomes and _names(value, outcomes[0].command_id))
        if outcomes and (names_outcome or not _names(value, others[0].command_id)):
            found.append(outcomes.popleft())
        else:
            found.append(others.popleft())
    assert not outcomes
    assert not others
    return found


def _names(value, command_id):
    return command_id in value or str(uuid.UUID(bytes=command_id)).encode() in value
