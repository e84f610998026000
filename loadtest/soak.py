"""A soak: half of full speed for a long time; does anything grow that should not?

    python -m loadtest.soak --minutes 30

Two nodes and a real broker. Full speed is measured first, with a client that sends as fast as it
can, unless --rate says what to run at. Memory, open files and threads of each node, lag and the
size of the stores are sampled from outside; the second part of the run decides whether they are
flat. The bounded caches are so small that they are full before it, and what they still gain, as the
nodes themselves say, is told apart. A report goes to loadtest/results; the exit status is 1 if
something grew.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from engine.bench.bank import Bank
from engine.bench.machine import machine
from engine.bench.places import KafkaPlace
from engine.bench.probes import Load
from loadtest.exactly_once import BANK
from loadtest.nodes import LocalNodes, Setup

RESULTS = Path(__file__).parent / "results"
NODES = ("first", "second")
ACCOUNTS = 5_000
BACKLOG = 300_000
WARM_UP = 100_000
SAMPLE_S = 5.0
WARM_SHARE = 0.4
POLL_S = 0.2
DECIDED_S = 600.0
# What may be gained from the warm-up to the end: a share of what there was, and a floor.
GROWTH = {"rss_bytes": (0.05, 16 * 2**20), "files": (0.05, 8), "threads": (0.05, 2)}
LAG_S = 2.0  # of load that may wait at any time
CACHE_MB = 64  # of each node; the default would take longer to fill than a soak is long
# A remembered command id (24 hours, at most 8,388,608 a partition) is state, not a leak: 16 bytes
# of id, 8 of time, slots of a table, and what a column that grows by doubling has spare.
ID_BYTES = 56
BLOCKS = "partita_memory_cache_bytes"  # write buffers are in it
ROWS = "partita_host_held_bytes"
IDS = "partita_host_remembered_ids"
KNOWN = ("blocks_bytes", "rows_bytes", "ids_bytes")


@dataclass
class Series:
    """Samples of one quantity over time."""

    times_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time_s: float, value: float) -> None:
        self.times_s.append(time_s)
        self.values.append(value)

    def warm(self) -> "Series":
        """Return the samples behind the warm-up."""
        first = int(len(self.values) * WARM_SHARE)
        return Series(self.times_s[first:], self.values[first:])

    def growth(self) -> float:
        """Return what a straight line through the samples gains over their whole time."""
        count = len(self.values)
        if count < 2:
            return 0.0
        mean_s, mean = sum(self.times_s) / count, sum(self.values) / count
        spread = sum((at - mean_s) ** 2 for at in self.times_s)
        pairs = zip(self.times_s, self.values, strict=True)
        slope = sum((at - mean_s) * (value - mean) for at, value in pairs) / spread
        return slope * (self.times_s[-1] - self.times_s[0])


def flat(series: Series, share: float, floor: float, explained: float = 0.0) -> bool:
    """Return whether a series gains no more than it may, besides what is explained."""
    warm = series.warm()
    mean = sum(warm.values) / max(len(warm.values), 1)
    return warm.growth() - explained <= max(share * mean, floor)


def process(pid: int) -> dict[str, int]:
    """Return a process's memory, open files and threads."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status if ":" in line)
    return {
        "rss_bytes": int(fields["VmRSS"].split()[0]) * 1_024,
        "files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        "threads": int(fields["Threads"]),
    }


def known(url: str) -> dict[str, float]:
    """Return what a node says it holds: bounded caches, and ids that it must remember."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()

    def total(name: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    return {
        "blocks_bytes": total(BLOCKS),
        "rows_bytes": total(ROWS),
        "ids_bytes": total(IDS) * ID_BYTES,
    }


def size_bytes(folder: Path) -> int:
    """Return what the files below a folder take; some go while they are counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def full_speed(nodes: LocalNodes, place: KafkaPlace, bank: Bank) -> float:
    """Return how many commands a second are sent and decided at most, once all is warm."""
    speed = 0.0
    for count in WARM_UP, BACKLOG:
        before, begun = nodes.decided(), time.monotonic()
        place.load(bank.credits(count))
        while (done := nodes.decided() - before) < count:
            if time.monotonic() - begun > DECIDED_S:
                raise SystemExit(f"only {done} of {count} decided after {DECIDED_S:.0f} s")
            time.sleep(POLL_S)
        speed = count / (time.monotonic() - begun)
    return speed


def sample(nodes: LocalNodes, seconds: float) -> Iterator[dict[str, dict[str, float]]]:
    """Yield samples of every node, and of the application, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found: dict[str, dict[str, float]] = {}
        for name in nodes.names:
            found[name] = {
                **process(nodes.pid(name)),
                **known(nodes.url(name)),
                "store_bytes": float(size_bytes(nodes.data / name)),
            }
        owners = nodes.owners().values()
        found["application"] = {
            "lag": float(sum(entry["statistics"]["lag"] for entry in owners)),
            "outcomes": float(sum(entry["statistics"]["sequence"] for entry in owners)),
        }
        yield found
        time.sleep(SAMPLE_S)


def run(
    minutes: float,
    rate: float,
    folder: Path,
    options: Sequence[str] = (),
    cache_mb: int = CACHE_MB,
) -> dict[str, Any]:
    """Run it; return the report, whose `faults` name what grew."""
    bank = Bank(BANK, ACCOUNTS)
    series: dict[str, dict[str, Series]] = {}
    setup = Setup(options=tuple(options), variables={"PARTITA__CACHE_MB": str(cache_mb)})
    with LocalNodes(BANK, folder, NODES, setup) as nodes:
        place = KafkaPlace(folder, nodes.bootstrap, bank.application)
        place.load(bank.opens())
        rate = rate or full_speed(nodes, place, bank) / 2
        say(f"{rate:.0f}/s for {minutes:g} minutes")
        load, begun = Load(place, "bank", int(rate)), time.monotonic()

        with load.sending(bank.credits(sys.maxsize)):
            for found in sample(nodes, minutes * 60):
                now = time.monotonic() - begun
                for name, values in found.items():
                    for kind, value in values.items():
                        series.setdefault(name, {}).setdefault(kind, Series()).add(now, value)
                say(f"{now:6.0f} s  {json.dumps(found)}")
    return {**report(series, minutes, rate), "cache_mb": cache_mb}


def report(series: dict[str, dict[str, Series]], minutes: float, rate: float) -> dict[str, Any]:
    """Judge each series."""
    faults: list[str] = []
    outcomes = series["application"]["outcomes"].warm().values
    decided = outcomes[-1] - outcomes[0]
    rows: list[dict[str, Any]] = []
    for name, kinds in series.items():
        for kind, one in kinds.items():
            warm = one.warm()
            row = {"of": name, "what": kind, "first": warm.values[0], "last": warm.values[-1]}
            row |= {"max": max(warm.values), "growth": round(warm.growth())}
            if kind in GROWTH:
                explained = 0.0
                if kind == "rss_bytes":
                    explained = sum(kinds[each].warm().growth() for each in KNOWN)
                row["explained"] = round(explained)
                row["flat"] = flat(one, *GROWTH[kind], explained)
                if not row["flat"]:
                    faults.append(f"{kind} of {name} grew by {row['growth']}")
            rows.append(row)
    lag = max(series["application"]["lag"].warm().values)
    if lag > LAG_S * rate:
        faults.append(f"{lag:.0f} commands waited at {rate:.0f}/s")
    return {
        "command": f"python -m loadtest.soak --minutes {minutes:g}",
        "machine": machine(),
        "minutes": minutes,
        "commands_per_s": round(rate),
        "decided_behind_warm_up": round(decided),
        "series": rows,
        "faults": faults,
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=0.0, help="commands a second; 0 = half speed")
    parser.add_argument("--cache-mb", type=int, default=CACHE_MB, help="of each node")
    parser.add_argument("--serve", action="append", default=[], help="one more option of serve")
    parser.add_argument("--keep", action="store_true", help="keep the report in loadtest/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="partita-soak-") as folder:
        made = run(given.minutes, given.rate, Path(folder), given.serve, given.cache_mb)
    print(json.dumps(made, indent=1))
    if given.keep:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"soak-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.write_text(json.dumps(made, indent=1) + "\n")
        say(f"report: {path}")
    return 1 if made["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
