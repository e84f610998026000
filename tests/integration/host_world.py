"""A world around a state host that runs a shop: log, store, restarts.

The log is a list, the store and the ledger are the engine's own, so pages and positions are real.
"""

import uuid
from collections import deque

from host_shop import shop

from engine import wire
from engine.application import rows, schema
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


def code(reply):
    return str(reply.code)


def warm(world):
    """Open an account with two items."""
    world.do("open", {"owner": "Ann"})
    for name in ("pen", "ink"):
        world.do("add", {"name": name, "quantity": 3})
