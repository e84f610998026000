"""How long a partition stands still when its owner is killed, stopped or paused.

A real broker with Kafka's own time-outs, nodes as `partita serve` runs them, 1,000 commands a
second from outside whatever becomes of them. The gap of a round is the longest pause between two
confirmed outcomes of a partition that the node owned, by the times at which the log took them. The
read gap is the longest pause between two answers of a node that was left alone, asked for a row of
such a partition all the time.
"""

import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine import wire
from engine.application import Application
from engine.application.folder import load_application
from engine.application.schema import encode
from engine.bench.bank import Sendable
from engine.bench.places import KafkaPlace
from engine.bench.probes import Load, Outcomes, Reads
from engine.bench.serving import Served
from engine.bench.waiting import await_
from engine.errors import ConfigError
from engine.log.kafka.local import LocalKafka
from engine.world import SystemClock, SystemRandom, uuid7

FOLDER = Path(__file__).with_name("vault")
FAULTS = ("kill", "term", "pause", "rolling")
SNAPSHOTS = "PARTITA__SNAPSHOTS__URL"
BOX_BYTES = 8_192
TOUCHED = 400  # boxes that the load touches
STEADY_S = 2.0  # between two rounds, and before the first
SETTLED_S = 1.0  # of outcomes behind a fault, before its gap is taken
READY_S = 240.0
BACK_S = 120.0


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure."""

    fault: str = "kill"
    standbys: int = 1
    state_mb: int = 100
    rounds: int = 20
    nodes: int = 2
    rate: int = 1_000
    pause_s: float = 10.0
    flags: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Round:
    """What one fault did."""

    gap_ms: float
    read_gap_ms: float
    partitions: int  # that the node owned
    claim_ms: float = 0.0  # of the gap: until the last of them had another owner's claim
    walk_ms: float = 0.0  # and from a claim to the next outcome


def run(cases: Sequence[Asked]) -> dict[str, Any]:
    """Measure cases one after the other; return the document's values."""
    unknown = {asked.fault for asked in cases} - set(FAULTS)
    if unknown:
        raise ConfigError("E1001", f"--fault {min(unknown)}", f"Faults are: {', '.join(FAULTS)}")
    measured = [(asked, measure(asked)) for asked in cases]
    return {
        "cases": [_case(asked, rounds) for asked, rounds in measured],
        "every_round": [
            {"fault": asked.fault, "round": number, **asdict(one)}
            for asked, rounds in measured
            for number, one in enumerate(rounds, 1)
        ],
        "commands_per_s": cases[0].rate,
        "nodes": cases[0].nodes,
    }


def _case(asked: Asked, rounds: list[Round]) -> dict[str, Any]:
    gaps = [one.gap_ms for one in rounds]
    return {
        "fault": asked.fault,
        "standbys": asked.standbys,
        "state_mb": asked.state_mb,
        "rounds": len(rounds),
        "gap_ms_p50": statistics.median(gaps),
        "gap_ms_max": max(gaps),
        "read_gap_ms_max": max(one.read_gap_ms for one in rounds),
    }


def measure(asked: Asked) -> list[Round]:
    """Start a broker and nodes, fill them, and do the rounds."""
    application = load_application(FOLDER)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="partita-bench-")))
        kafka = LocalKafka(folder / "kafka", stock=True)
        stack.callback(kafka.stop)
        place = KafkaPlace(folder, kafka.start(port=0).bootstrap_servers, application)
        names = [f"node-{number}" for number in range(1, asked.nodes + 1)]
        flags = ("--standbys", str(asked.standbys), *asked.flags)
        # Without standbys another node has nothing but the snapshots of who is killed.
        copies = {} if asked.standbys else {SNAPSHOTS: (folder / "snapshots").as_uri()}
        nodes = stack.enter_context(
            Served(FOLDER, folder / "nodes", place.bootstrap, names, flags, copies)
        )
        bench = Bench(asked, application, place, nodes)
        bench.fill()
        return list(bench.rounds())


class Bench:
    """The rounds of one case."""

    def __init__(
        self, asked: Asked, application: Application, place: KafkaPlace, nodes: Served
    ) -> None:
        self._asked, self._place, self._nodes = asked, place, nodes
        self._application = application
        self._partitions = application.partitions
        self._random, self._clock = SystemRandom(), SystemClock()

    def fill(self) -> None:
        """Fill boxes until there is as much state as asked for, and every touched box is there."""
        nodes, count = self._nodes, self._asked.state_mb * 1_000_000 // BOX_BYTES
        await_(lambda: len(nodes.owners()) == self._partitions, "every partition owned", READY_S)
        self._place.load(self._fills(count))
        self._place.load(self._touches(TOUCHED))
        total = count + TOUCHED
        await_(
            lambda: sum(nodes.sequences().values()) >= total, f"{total} boxes filled", READY_S * 4
        )

    def rounds(self) -> Iterator[Round]:
        """Do a fault after the other, under load, and yield what each did."""
        with Outcomes(self._place, self._application) as outcomes:
            load = Load(self._place, self._application.name, self._asked.rate)
            with load.sending(self._touches()):
                time.sleep(STEADY_S)
                for number in range(self._asked.rounds):
                    yield self._round(number, outcomes)

    def _round(self, number: int, outcomes: Outcomes) -> Round:
        nodes = self._nodes
        await_(self._steady, "every partition owned, and stood by for", READY_S)
        time.sleep(STEADY_S)
        owners = nodes.owners()
        victims = sorted(set(owners.values()))
        if self._asked.fault == "rolling":
            return self._rolling(outcomes)
        victim = victims[number % len(victims)]
        owned = [partition for partition, name in owners.items() if name == victim]
        others = [nodes.url(name) for name in nodes.names if name != victim]
        if not self._asked.standbys:
            for partition in owned:
                nodes.snapshot(partition, victim)
        with Reads(others, self._box_in(owned[0])) as reads:
            since, at_ms = outcomes.mark(), self._clock.now_ms()
            back = self._hurt(victim)
            if self._asked.fault == "term":
                nodes.ended(victim)
            await_(lambda: outcomes.moved(owned, since, SETTLED_S), "an owner again", BACK_S)
            gap_ms = outcomes.longest_ms(owned, since)
            parts_ms = outcomes.parts_ms(owned, at_ms)
        back()
        return Round(gap_ms, round(reads.longest_ms, 1), len(owned), *parts_ms)

    def _rolling(self, outcomes: Outcomes) -> Round:
        """Stop and start each node in turn, as an update does."""
        nodes, since = self._nodes, outcomes.mark()
        everything = list(range(self._partitions))
        read_gap_ms = 0.0
        for name in nodes.names:
            others = [nodes.url(other) for other in nodes.names if other != name]
            with Reads(others, self._box_in(0)) as reads:
                self._hurt(name)()
                await_(self._steady, "every partition owned, and stood by for", READY_S)
            read_gap_ms = max(read_gap_ms, reads.longest_ms)
        later = outcomes.mark()
        await_(lambda: outcomes.moved(everything, later, SETTLED_S), "an owner again", BACK_S)
        gap_ms = outcomes.longest_ms(everything, since)
        return Round(gap_ms, round(read_gap_ms, 1), self._partitions)

    def _hurt(self, name: str) -> Callable[[], None]:
        """Do the fault; return what ends it."""
        nodes, fault = self._nodes, self._asked.fault
        if fault == "pause":
            nodes.signal(name, signal.SIGSTOP)
            until_s = time.monotonic() + self._asked.pause_s

            def wake() -> None:
                time.sleep(max(until_s - time.monotonic(), 0))
                nodes.signal(name, signal.SIGCONT)

            return wake
        nodes.signal(name, signal.SIGKILL if fault == "kill" else signal.SIGTERM)

        def again() -> None:
            nodes.ended(name)
            if not self._asked.standbys:
                nodes.wipe(name)
            nodes.start(name)

        return again

    def _steady(self) -> bool:
        """Return whether every partition is owned, and its standbys follow closely."""
        standing = dict.fromkeys(range(self._partitions), 0)
        owned: set[int] = set()
        for name in self._nodes.names:
            for partition, entry in self._nodes.held(name).items():
                if entry["owner"] == "here":
                    owned.add(partition)
                elif entry.get("phase") == "standby":
                    standing[partition] += 1
        wanted = min(self._asked.standbys, len(self._nodes.names) - 1)
        return len(owned) == self._partitions and min(standing.values()) >= wanted

    def _box_in(self, partition: int) -> str:
        """Return the path of a touched box of a partition."""
        found = next(
            number
            for number in range(TOUCHED)
            if wire.partition_of(_box(number), self._partitions) == partition
        )
        return f"/v1/workspaces/{_box(found).decode()}/records/box/0"

    def _fills(self, count: int) -> Iterator[Sendable]:
        for number in range(count):
            content = self._random.bytes(BOX_BYTES // 2).hex()
            yield self._command("fill", {"content": content}, b"full-%07d" % number)

    def _touches(self, count: int | None = None) -> Iterator[Sendable]:
        number = 0
        while count is None or number < count:
            yield self._command("touch", {"by": 1}, _box(number % TOUCHED))
            number += 1

    def _command(self, name: str, args: dict[str, Any], key: bytes) -> Sendable:
        schema = self._application.commands[name].args
        value = wire.encode_command(
            {
                "command_id": uuid7(self._clock.now_ms(), self._random.bytes(10)),
                "name": name,
                "args_schema": schema.fingerprint,
                "args": encode(schema, args),
            }
        )
        return Sendable(wire.partition_of(key, self._partitions), key, value)


def _box(number: int) -> bytes:
    return b"box-%d" % number
