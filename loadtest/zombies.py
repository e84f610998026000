"""An owner that is paused, and one that is cut off from its broker but not from its clients.

    python -m loadtest.zombies

One broker, two nodes, an HTTP client that reaches both. While the owner is away the other node
takes over and decides; the old one must refuse, mark, or answer as the log has it, and nothing it
had on its way may count. Without network namespaces nothing is cut, only paused. The report goes
to stdout; the exit status is 1 if an answer was wrong.
"""

import json
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from engine.wire import partition_of
from loadtest import network
from loadtest.exactly_once import BANK
from loadtest.nodes import LocalNodes, Setup, partita

NODES = ("first", "second")
ACCOUNT = "zombie"
WAIT_S = 60.0
POLL_S = 0.05
ANSWER_S = 45.0  # longer than a node lets a request wait
IN_FLIGHT = 20


class Run:
    """The nodes, one account on them, and what was wrong."""

    def __init__(self, nodes: LocalNodes, net: network.Network | None) -> None:
        self.nodes = nodes
        self.net = net
        self.faults: list[str] = []
        self.seen: dict[str, Counter[int]] = {}
        self._at = partition_of(ACCOUNT.encode(), nodes.partitions)
        self._done: dict[str, int] = {}

    def expect(self, told: object, what: str) -> None:
        """Note a fault unless something is so."""
        if not told:
            self.faults.append(what)

    def until(self, reached: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + WAIT_S
        while not reached():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what}: it never came; see {self.nodes.data}/*.log")
            time.sleep(POLL_S)

    def owner(self, besides: str = "") -> str:
        """Return who says that it owns the account's partition, leaving one out."""
        for name in self.nodes.names:
            if name == besides:
                continue
            page = _get(f"{self.nodes.url(name)}/v1/partitions")
            entries = page.json()["partitions"] if page is not None else []
            if [one for one in entries if one["owner"] == "here" and one["partition"] == self._at]:
                return name
        return ""

    def ready(self) -> bool:
        """Return whether one node owns all and the other stands by for all."""
        phases: list[str] = []
        for name in self.nodes.names:
            page = _get(f"{self.nodes.url(name)}/v1/partitions")
            if page is None:
                return False
            entries = page.json()["partitions"]
            phases += [one["phase"] if "phase" in one else one["owner"] for one in entries]
        return phases.count("standby") == self.nodes.partitions

    def credit(self, name: str, key: str = "") -> httpx.Response | None:
        """Credit the account by 1 at a node; note what was wrong with the answer."""
        key = key or str(uuid.uuid4())
        answer = self._post(name, "credit", {"amount": 1, "reference": "z"}, key)
        if answer is None:
            return None
        self.seen.setdefault(name, Counter())[answer.status_code] += 1
        if answer.status_code == 200:
            sequence = int(answer.json()["sequence"])
            self.expect(self._done.setdefault(key, sequence) == sequence, f"{key}: two outcomes")
        elif answer.status_code == 503:
            self.expect("retry-after" in answer.headers, "a 503 without Retry-After")
        else:
            self.faults.append(f"{name} answered {answer.status_code}: {answer.text}")
        return answer

    def settle(self, name: str, key: str) -> None:
        """Credit with a key until it is answered."""
        self.until(lambda: _ok(self.credit(name, key)), f"an answer of {name}")

    def open(self) -> None:
        """Open the account."""
        key = str(uuid.uuid4())
        args: dict[str, object] = {"owner": "someone"}
        self.until(lambda: _ok(self._post(NODES[0], "open", args, key)), "an account")

    def _post(
        self, name: str, command: str, args: dict[str, object], key: str
    ) -> httpx.Response | None:
        url = f"{self.nodes.url(name)}/v1/workspaces/{ACCOUNT}/commands/{command}"
        try:
            headers = {"Idempotency-Key": key}
            return httpx.post(url, json=args, headers=headers, timeout=ANSWER_S)
        except httpx.TransportError:
            return None

    def balance(self, name: str, least: int) -> None:
        """Read at a node: what it tells is marked as old, or what was answered before is in it."""
        for stale in ("", "?stale=ok"):
            page = _get(f"{self.nodes.url(name)}/v1/workspaces/{ACCOUNT}/records/account/0{stale}")
            if page is None:
                continue
            self.seen.setdefault(f"{name} read", Counter())[page.status_code] += 1
            if page.status_code == 503:
                self.expect("retry-after" in page.headers, "a 503 without Retry-After")
            elif not page.json().get("stale"):
                shown = page.json()["fields"]["balance"]
                self.expect(shown >= least, f"{name} shows {shown} of at least {least}, unmarked")

    @property
    def answered(self) -> int:
        """Return how many credits were answered."""
        return len(self._done)


def _ok(answer: httpx.Response | None) -> bool:
    return answer is not None and answer.status_code == 200


def _get(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=10)
    except httpx.TransportError:
        return None


@contextmanager
def paused(run: Run, victim: str) -> Generator[None]:
    """Stop a process in the middle of what it does."""
    run.nodes.signal(victim, signal.SIGSTOP)
    try:
        yield
    finally:
        run.nodes.signal(victim, signal.SIGCONT)


@contextmanager
def cut_off(run: Run, victim: str) -> Generator[None]:
    """Lose all between a node and its broker; clients and the other node still reach it."""
    assert run.net is not None
    links = [(victim, "broker-1"), ("broker-1", victim)]
    for link in links:
        run.net.cut(*link)
    try:
        yield
    finally:
        for link in links:
            run.net.heal(*link)


def away(run: Run, how: Callable[[Run, str], Any], *, answers: bool) -> None:
    """Take the owner away with commands on their way; let the other decide; let it come back."""
    run.until(run.ready, "a standby")
    victim = run.owner()
    other = next(name for name in NODES if name != victim)
    keys = [str(uuid.uuid4()) for _ in range(IN_FLIGHT)]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        asked = [pool.submit(run.credit, victim, key) for key in keys]
        with how(run, victim):
            run.until(lambda: run.owner(besides=victim) == other, "another owner")
            for key in keys[: IN_FLIGHT // 2]:
                run.settle(other, key)
            if answers:
                run.balance(victim, run.answered)
                late = pool.submit(run.credit, victim, str(uuid.uuid4()))
                told = late.result(ANSWER_S)
                run.expect(told is not None, "a client of the node that is cut off hears nothing")
                run.expect(not _ok(told), "decided without a broker")
        run.balance(victim, run.answered)  # the moment it is back
        for one in asked:
            one.result(2 * ANSWER_S)
    for name in NODES:
        for key in keys:
            run.settle(name, key)
        run.balance(name, run.answered)


def run(folder: Path) -> dict[str, Any]:
    """Do both; return the report."""
    with ExitStack() as stack:
        net = None
        if network.inside():
            net = stack.enter_context(network.Network(["broker-1", *NODES]))
        nodes = stack.enter_context(LocalNodes(BANK, folder, NODES, Setup(network=net)))
        made = Run(nodes, net)
        made.open()
        away(made, paused, answers=False)
        if net is not None:
            away(made, cut_off, answers=True)
        made.until(made.ready, "a standby")
        nodes.stop_nodes()
        stores = [f"--store={nodes.data / name}" for name in NODES]
        servers = ("--bootstrap-servers", nodes.bootstrap)
        done = partita("verify", str(BANK), *servers, "--settled", "--json", *stores)
        made.expect(done.returncode == 0, f"verify: {done.stderr[-2000:]} {done.stdout[:2000]}")
    return {"cut": net is not None, "answered": made.answered, "seen": made.seen} | {
        "faults": made.faults
    }


def main() -> int:
    if not network.inside() and network.available():
        return network.enter("loadtest.zombies", sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="partita-zombies-") as folder:
        report = run(Path(folder))
    print(json.dumps(report))
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
