"""A real node in this process for the tests of HTTP: embedded log, memory store, Python host.

`Bent` bends single answers of it, for what a healthy node never says.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from engine.application import Application
from engine.application.folder import load_application
from engine.application.types import EntryPoint
from engine.http import Waits, create_app
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.model import MembershipChange, NodeBeat
from engine.node.api import NodeApi
from engine.node.gate import Gate
from engine.node.node import Node
from engine.node.parts import Parts
from engine.node.stores import Cadence, Places, Stores
from engine.partition.building import BuildPorts
from engine.partition.processor import Ports
from engine.partition.replica import Identity, Replica
from engine.partition.snapshots import Retention
from engine.ports import Observer
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost
from engine.sandbox.session import ARGS, EVENT, RESULT, Call
from engine.settings import HttpSettings, load_settings
from engine.simulator.disks import MemoryObjects
from engine.store.memory import MemoryStore
from engine.telemetry.traces import NoTraces
from engine.world import SystemClock, SystemRandom

W = "/v1/workspaces/{}"
BASE = W + "/commands/{}"
PARTITIONS = 2

MANIFEST = """
application = { name = "shop", version = "1.0.0", partitions = 2 }
records.item = { schema = "item.avsc", kind = "operational" }
records.till = { schema = "till.avsc", kind = "singleton" }
commands.refuse = { args = "refuse.avsc", run = "shop:refuse" }
commands.noop = { args = "noop.avsc", run = "shop:noop" }
views.by_day = { row = "line.avsc", key = ["day:date", "name:string", "entry:long"] }
views.kinds = { row = "line.avsc", key = [
  "l:long", "t:time", "d:double", "b:bytes", "o:boolean" ] }
views.one = { row = "line.avsc", key = [] }
projectors.lines = { on = ["item.create"], writes = ["by_day", "kinds", "one"], run = "shop:lines" }
extensions.shop = { python = "shop:Shop" }
[commands.put]
args = "put.avsc"
result = "result.avsc"
run = "shop:put"
renamed_from = "store"
"""


def _record(name: str, *fields: tuple[str, Any] | tuple[str, Any, Any]) -> str:
    listed: list[dict[str, Any]] = []
    for field in fields:
        listed.append({"name": field[0], "type": field[1]})
        if len(field) == 3:
            listed[-1]["default"] = field[2]
    return json.dumps({"type": "record", "name": name, "fields": listed})


DATE = {"type": "int", "logicalType": "date"}
TIME = {"type": "long", "logicalType": "timestamp-millis"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}
FILES = {
    "item.avsc": _record(
        "Item", ("count", "long"), ("name", "string", ""), ("day", DATE, 0), ("price", DECIMAL, "")
    ),
    "till.avsc": _record("Till", ("total", "long", 0)),
    "put.avsc": _record(
        "Put",
        ("count", "long"),
        ("name", "string", ""),
        ("day", DATE, 0),
        ("price", DECIMAL, "\x00"),
        ("colour", COLOUR, "red"),
        ("at", ["null", TIME], None),
        ("ratio", "double", 0.0),
        ("raw", "bytes", ""),
    ),
    "result.avsc": _record("Result", ("id", "long"), ("day", DATE)),
    "refuse.avsc": _record(
        "Refuse", ("code", "string"), ("text", "string", ""), ("field", "string", "")
    ),
    "noop.avsc": _record("Noop"),
    "line.avsc": _record("Line", ("count", "long", 0), ("note", ["null", "string"], None)),
    "shop.py": "class Shop:\n    pass\n",
}


def write_application(folder: Path) -> Application:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "application.toml").write_text(MANIFEST)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return load_application(folder)


class Shop:
    """The extension, on the calls that any extension is given."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def run(self, entry: EntryPoint, call: Call, time_ms: int | None) -> None:
        getattr(self, entry.function)(call)

    def close(self) -> None:
        pass

    def _arg(self, command: str, call: Call, name: str) -> Any:
        return call.get(ARGS, self._application.commands[command].args.by_name[name])

    def put(self, call: Call) -> None:
        type_ = self._application.records["item"]
        item = call.create(type_)
        for name in ("count", "name", "day", "price"):
            call.set(item, type_.schema.by_name[name], self._arg("put", call, name))
        result = self._application.commands["put"].result
        assert result is not None
        call.set(RESULT, result.by_name["id"], call.id(item))
        call.set(RESULT, result.by_name["day"], self._arg("put", call, "day"))

    def refuse(self, call: Call) -> None:
        text, field = (self._arg("refuse", call, name) for name in ("text", "field"))
        call.reject(self._arg("refuse", call, "code"), text, field or None)

    def noop(self, call: Call) -> None:
        pass

    def lines(self, call: Call) -> None:
        fields = self._application.records["item"].schema.by_name
        count, entry = call.get(EVENT, fields["count"]), call.id(EVENT)
        day, name = call.get(EVENT, fields["day"]), call.get(EVENT, fields["name"])
        self._put(call, "by_day", (day, name, entry), count)
        self._put(call, "kinds", (count, count, count / 2, b"%d" % count, count % 2), count)
        self._put(call, "one", (), count)

    def _put(self, call: Call, name: str, columns: Sequence[Any], count: int) -> None:
        view = self._application.views[name]
        key = call.key(view)
        for column, value in zip(view.key, columns, strict=True):
            call.set(key, column, value)
        row = call.put(key)
        call.set(row, view.schema.by_name["count"], count)


class Everything:
    """A membership of one, and a directory that knows whom it is told."""

    def __init__(self, partitions: Sequence[int]) -> None:
        self._partitions: tuple[int, ...] = tuple(partitions)
        self.beats: list[NodeBeat] = []

    def poll(self) -> MembershipChange:
        assigned, self._partitions = self._partitions, ()
        return MembershipChange(assigned)

    def released(self, partition: int) -> None:
        pass

    def decided(self, offsets: object) -> None:
        """No tool asks for it here."""

    def pause(self, *, paused: bool) -> None:
        pass

    def announce(self, beat: NodeBeat) -> None:
        self.beats = [beat]

    def peers(self) -> Sequence[NodeBeat]:
        return self.beats

    def close(self) -> None:
        pass


def start_node(
    folder: Path,
    name: str = "node-1",
    observer: Observer | None = None,
    application: Application | None = None,
) -> Node:
    """Return a running node that owns all partitions: of the shop, or of `application`."""
    guests = load_guests if application else Shop
    application = application or write_application(folder / "application")
    clock, random = SystemClock(), SystemRandom()
    settings = EmbeddedSettings(application.name, application.partitions)
    logs = EmbeddedLogs(folder / "log", settings, clock, random)
    gate, content, world = (
        Gate(logs.commands, logs.replies),
        MemoryObjects(),
        Everything(range(application.partitions)),
    )

    def open_replica(partition: int) -> Replica:
        ports = Ports(
            commands=logs.command_log(partition),
            events=logs.event_log(partition),
            host=PythonHost(guests),
            replies=gate,
            clock=clock,
            observer=observer or NoTraces(),
            builds=BuildPorts(logs.history(partition), lambda: PythonHost(Shop), clock),
        )
        identity = Identity(name, partition, application)
        return Replica(identity, ports, MemoryStore(), content, random)

    places = Places(application.name, lambda _: None, None, Cadence(1 << 40, Retention()))
    stores = Stores(places, clock, random)

    def load() -> Application:
        return load_application(folder / "application")

    node = Node(
        Parts(
            name, application, logs, world, world, gate, open_replica, stores, clock, random, load
        )
    )
    node.start()
    return node


def wait_ready(node: Node) -> None:
    """Return once the node owns all partitions."""
    deadline_ms = SystemClock().monotonic_ms() + 30_000
    while not node.ready():
        assert SystemClock().monotonic_ms() < deadline_ms, node.problems()
        SystemClock().sleep_ms(5)


class Bent:
    """A node of which single answers are replaced."""

    def __init__(self, node: NodeApi, **answers: Any) -> None:
        self._node = node
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return self._answers[name] if name in self._answers else getattr(self._node, name)


def http_settings(**given: Any) -> HttpSettings:
    return load_settings(None, {"http": given}).http


def client(
    node: Any,
    waits: Waits | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    traces: Any = None,
    **settings: Any,
) -> httpx.AsyncClient:
    """Return a client of an app over `node`, no sockets in between."""
    app = create_app(node, http_settings(**settings), traces, waits, transport)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60
    )


async def put(
    http: httpx.AsyncClient, workspace: str, headers: dict[str, str] | None = None, **args: Any
) -> httpx.Response:
    return await http.post(BASE.format(workspace, "put"), json=args, headers=headers)


def check_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"/problems/{code}"
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    assert ("retry-after" in response.headers) == (status in {429, 503})
    return body
