"""Chaos on real Kafka: three brokers, three nodes, open-loop load, faults drawn from a seed.

    python -m loadtest.chaos --minutes 20 --seed 1

Processes are killed, paused and stopped, links are cut in silence or reset. Afterwards an auditor
that knows nothing of the engine compares all that was sent and answered with the topics, and
`partita verify` compares every replica with a replay. A report goes to loadtest/results; on a
difference the folder with all logs stays, and the exit status is 1.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtest import network
from loadtest.chaos_audit import Audit, audit, longest_gaps
from loadtest.chaos_faults import SNAPSHOTS, Fault, Schedule
from loadtest.chaos_load import Book, HttpClient, KafkaLoad
from loadtest.exactly_once import BANK
from loadtest.nodes import LocalNodes, Setup, partita

RESULTS = Path(__file__).parent / "results"
NODES = ("first", "second", "third")
BROKERS = 3
HTTP_CLIENTS = 3
WARM_S = 3.0
CALM_S = 5.0  # of load without an answer are no overload
SNAPSHOT_S = 10
SETTLE_S = 240.0
POLL_S = 0.5


@dataclass(frozen=True)
class Asked:
    """What a run is to do."""

    minutes: float = 20.0
    seed: int = 1
    rate: float = 100.0
    accounts: int = 300
    kinds: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def run(asked: Asked, folder: Path) -> dict[str, Any]:
    """Run it; return the report, whose `faults` are empty if every promise held."""
    book = Book()
    with ExitStack() as stack:
        net = None
        if network.inside():
            places = [f"broker-{at}" for at in range(1, BROKERS + 1)]
            net = stack.enter_context(network.Network([*places, *NODES]))
        variables = {
            "PARTITA__SNAPSHOTS__URL": (folder / SNAPSHOTS).resolve().as_uri(),
            "PARTITA__SNAPSHOTS__INTERVAL_S": str(SNAPSHOT_S),
            "PARTITA__SNAPSHOTS__KEEP_YOUNGER_S": str(2 * SNAPSHOT_S),
        }
        setup = Setup(BROKERS, asked.options, variables, net)
        nodes = stack.enter_context(LocalNodes(BANK, folder, NODES, setup))
        schedule = Schedule(
            nodes, asked.seed, lambda: book.unanswered() < asked.rate * CALM_S, asked.kinds
        )
        begun = time.time()
        try:
            drive(asked, nodes, schedule, book)
        except (OSError, RuntimeError) as fault:
            book.fault(f"the run broke off: {fault!r}")
        took_s = time.time() - begun
        say(f"settled after {took_s:.0f} s; asking for balances")
        balances = held(nodes, sorted({one.account for one in book.sent.values()}))
        nodes.stop_nodes()
        say(f"{time.time() - begun:.0f} s: reading the topics")
        made = audit(nodes.bootstrap, book)
        say(f"{time.time() - begun:.0f} s: partita verify")
        faults = [*book.faults, *made.faults, *differences(balances, made)]
        checked = verify(nodes, faults)
    spans = _spans(schedule.done)
    for one, gap_s in zip(schedule.done, longest_gaps(made, spans), strict=True):
        one.gap_s = round(gap_s, 3)
    return {
        "minutes": round(took_s / 60, 1),
        "seed": asked.seed,
        "commands_per_s": asked.rate,
        "cuts": net is not None,
        "options": list(asked.options),
        "faults_done": len(schedule.done),
        "by_kind": by_kind(schedule.done),
        "clients": dict(sorted(book.counts.items())),
        "audit": dict(sorted(made.counts.items())),
        "verify": checked,
        "faults": faults,
        "schedule": [_row(one, begun) for one in schedule.done],
    }


def drive(asked: Asked, nodes: LocalNodes, schedule: Schedule, book: Book) -> None:
    """Load the nodes, do the faults, and wait until everything has its answer."""
    load = KafkaLoad(book, nodes.bootstrap, asked.rate, asked.accounts, asked.seed)
    urls = [nodes.url(name) for name in nodes.names]
    clients = [HttpClient(book, urls, at, asked.seed) for at in range(HTTP_CLIENTS)]
    try:
        for one in (load, *clients):
            one.start()
        time.sleep(WARM_S)
        until = time.monotonic() + asked.minutes * 60
        for round_ in schedule.run(until):
            for one in round_:
                say(f"{len(schedule.done):4} {one.kind:13} {one.target:22} {one.lasts_s:5.1f} s")
            ended = nodes.ended()
            if ended:
                book.fault(f"nodes ended by themselves: {ended}")
                break
        for one in (load, *clients):
            one.rest()
        say(f"{book.unanswered()} commands without an answer yet")
        settle(nodes, schedule, book)
    finally:
        for one in (load, *clients):
            one.stop()


def settle(nodes: LocalNodes, schedule: Schedule, book: Book) -> None:
    """Wait until every command is answered and every partition has its owner and its copies."""
    deadline = time.monotonic() + SETTLE_S
    while book.unanswered() or len(nodes.owners()) < nodes.partitions or not schedule.whole():
        if time.monotonic() > deadline:
            owners = sorted(nodes.owners())
            book.fault(f"not settled: {book.unanswered()} unanswered, owners of {owners}")
            return
        time.sleep(POLL_S)


def held(nodes: LocalNodes, accounts: list[str]) -> dict[str, dict[str, int | None]]:
    """Return every account's balance as each node answers for it; -1 where none ever does."""
    found: dict[str, dict[str, int | None]] = defaultdict(dict)
    deadline = time.monotonic() + SETTLE_S
    for name in nodes.names:
        with httpx.Client(base_url=nodes.url(name), timeout=30) as http:
            for account in accounts:
                found[account][name] = _balance(http, account, deadline)
    return found


def _balance(http: httpx.Client, account: str, deadline: float) -> int | None:
    """Ask until there is an answer: a node may still be about to learn who owns what."""
    while True:
        try:
            answer = http.get(f"/v1/workspaces/{account}/records/account/0")
            if answer.status_code in {200, 404}:
                told: dict[str, Any] = answer.json()
                return told.get("fields", told).get("balance")
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            return -1
        time.sleep(POLL_S)


def differences(balances: dict[str, dict[str, int | None]], made: Audit) -> list[str]:
    """Compare balances with the model."""
    found: list[str] = []
    for account, told in balances.items():
        wanted = made.model.balances.get(account)
        found += [
            f"{account} on {name} holds {balance}, the model says {wanted}"
            for name, balance in told.items()
            if balance != wanted
        ]
    return found[:20]


def verify(nodes: LocalNodes, faults: list[str]) -> dict[str, Any]:
    """Have every replica's store compared with a replay of the log."""
    stores = [f"--store={nodes.data / name}" for name in nodes.names]
    servers = ("--bootstrap-servers", nodes.bootstrap)
    done = partita("verify", str(BANK), *servers, "--settled", "--json", *stores)
    if done.returncode:
        faults.append(f"verify: {done.stderr[-2000:]} {done.stdout[:2000]}")
    try:
        return json.loads(done.stdout)["total"]
    except (ValueError, KeyError):
        return {}


def by_kind(done: list[Fault]) -> dict[str, dict[str, float]]:
    """Return how many faults of each kind there were, and how long partitions stood still."""
    kinds: dict[str, list[Fault]] = defaultdict(list)
    for one in done:
        kinds[one.kind].append(one)
    return {
        kind: {
            "count": len(found),
            "gap_s_p50": round(statistics.median(one.gap_s for one in found), 2),
            "gap_s_max": round(max(one.gap_s for one in found), 2),
            "lasted_s_max": round(max(one.ended - one.begun for one in found), 1),
        }
        for kind, found in sorted(kinds.items())
    }


def _spans(done: list[Fault]) -> list[tuple[float, float]]:
    """Return each fault's time: from its begin to the next one's."""
    begins = [one.begun for one in done]
    return list(zip(begins, [*begins[1:], time.time()], strict=True))


def _row(one: Fault, begun: float) -> dict[str, Any]:
    row = asdict(one)
    row["begun"], row["ended"] = round(one.begun - begun, 1), round(one.ended - begun, 1)
    row["lasts_s"] = round(one.lasts_s, 1)
    return row


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(report: dict[str, Any]) -> None:
    """Print the table for people."""
    say(f"{'fault':14} {'count':>5} {'gap p50':>8} {'gap max':>8} {'lasted':>8}")
    for kind, row in report["by_kind"].items():
        gaps = f"{row['gap_s_p50']:8.2f} {row['gap_s_max']:8.2f} {row['lasted_s_max']:8.1f}"
        say(f"{kind:14} {row['count']:5} {gaps}")
    say(f"clients {report['clients']}\naudit   {report['audit']}\nverify  {report['verify']}")
    for fault in report["faults"]:
        say(f"WRONG: {fault}")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=100.0, help="commands a second")
    parser.add_argument("--do", action="append", default=[], help="exactly this kind of fault")
    parser.add_argument("--serve", action="append", default=[], help="one more option of serve")
    parser.add_argument("--folder", type=Path, help="where to keep everything")
    parser.add_argument("--keep", action="store_true", help="keep the report in loadtest/results")
    return parser.parse_args()


def main() -> int:
    given = _asked()
    if not network.inside():
        if network.available():
            return network.enter("loadtest.chaos", sys.argv[1:])
        say("this machine gives no network namespaces: links are not cut")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="partita-chaos-"))
    asked = Asked(
        given.minutes,
        given.seed,
        given.rate,
        kinds=tuple(given.do),
        options=tuple(given.serve),
    )
    report = run(asked, folder)
    show(report)
    print(json.dumps(report))
    if given.keep:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"chaos-{stamp}-seed{given.seed}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
        say(f"report: {path}")
    if report["faults"]:
        say(f"everything is kept in {folder}")
        return 1
    if given.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
