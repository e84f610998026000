"""How throughput holds when there is more and more state.

The accounts are written into the stores as if they had been opened long ago, which would take hours
otherwise; everything after that is real: a backlog of credits, decided by a node.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import limits, wire
from engine.application import rows
from engine.bench import bank, places
from engine.bench.nodes import Nodes
from engine.model import HostState, Position
from engine.store.rocks import RocksStore, StoreMemory

ROWS = (10_000, 1_000_000, 10_000_000)
CHOICES = {"uniform": bank.uniform, "zipf": bank.zipf}
NODE = "node-1"
WARM_SHARE = 0.2
_CHUNK = 5_000
_SEEDED = 1  # the sequence that a seeded store is at: at 0 it would be taken for empty
_APPLICATION = 1  # the index under which a new log's first application comes into force


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure."""

    log: str = "kafka"
    host: str | None = None
    rows: Sequence[int] = ROWS
    commands: int = 200_000
    folder: Path = bank.FOLDER


def run(asked: Asked) -> dict[str, Any]:
    """Measure each number of rows with each choice of accounts; return the case's keys."""
    cases: list[dict[str, Any]] = []
    first: dict[str, float] = {}
    for accounts in asked.rows:
        for choice in CHOICES:
            case = _case(asked, accounts, choice)
            smallest = first.setdefault(choice, case["commands_per_s"])
            share = case["commands_per_s"] / smallest if smallest else 0.0
            cases.append({**case, "share_of_smallest": round(share, 3)})
    return {"log": asked.log, "host": asked.host or "default", "cases": cases}


def _case(asked: Asked, accounts: int, choice: str) -> dict[str, Any]:
    workload = bank.Bank(asked.folder, accounts)
    with places.place(asked.log, workload.application) as place:
        seed(place, workload)
        place.load(workload.credits(asked.commands, CHOICES[choice](accounts)))
        with Nodes(place, asked.folder, workload.partitions, 1, asked.host) as nodes:
            nodes.wait_owned()
            total = asked.commands + workload.partitions * _SEEDED
            nodes.wait_outcomes(total)
            window = nodes.window(int(total * WARM_SHARE), total)
            nodes.check_accepted()
    return {
        "rows": accounts,
        "choice": choice,
        "commands_per_s": round(window.per_s),
        "cpu_us": round(window.cpu_us, 2),
        "walk_cpu_us": round(window.shell_us, 2),
    }


def seed(place: places.Place, workload: bank.Bank) -> None:
    """Write every account into the stores that the node is going to open."""
    name, memory = workload.application.name, StoreMemory()
    base = place.folder / "data" / name
    base = base / "nodes" / NODE if place.kind == "kafka" else base / "stores"
    stores = [RocksStore(base / str(at), memory) for at in range(workload.partitions)]
    position = wire.encode_position(Position(host=HostState(sequence=_SEEDED)), limits.FORMAT)
    waiting: list[list[tuple[bytes, bytes | None]]] = [
        [(rows.POSITION_KEY, position)] for _ in stores
    ]
    try:
        for partition, account in _accounts(workload):
            waiting[partition] += account
            if len(waiting[partition]) >= _CHUNK:
                stores[partition].write(waiting[partition])
                waiting[partition] = []
        for store, left in zip(stores, waiting, strict=True):
            store.write(left)
    finally:
        for store in stores:
            store.close()


def _accounts(workload: bank.Bank) -> Iterator[tuple[int, list[tuple[bytes, bytes | None]]]]:
    """Yield each account's partition and rows, as opening it leaves them."""
    record = workload.application.records["account"]
    table = rows.table_prefix(record.table)
    tail = rows.record_key(record.table, "", 0, 0)[len(table) :]
    began = rows.table_prefix(rows.TABLE_WORKSPACE)
    body = workload.account_body()
    account = rows.encode_value(_APPLICATION, record.table, 0, body)
    workspace = rows.encode_workspace(rows.Workspace(1, 1, 65_536, [1]))
    for number in range(workload.accounts):
        key = workload.key(number)
        found: list[tuple[bytes, bytes | None]] = [
            (table + key + tail, account),
            (began + key + b"\x00", workspace),
        ]
        yield workload.partition(number), found
