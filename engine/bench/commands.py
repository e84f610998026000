"""How many commands a second, exactly once, and how long one takes.

Throughput: a backlog of `credit` is in the log before any node starts; counted is what the nodes
have confirmed and applied, from when all partitions move until the last outcome. Beside it, in the
same run, the bare loop. Latency: commands are sent when they are due, whatever the nodes do, and
timed until a reader of the log has the outcome; not those of the first seconds, in which a broker
that has just been started compiles the code it runs.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from engine.bench import bank, bare_loop, places
from engine.bench.nodes import Nodes, Window
from engine.bench.open_loop import through_log
from engine.errors import UnavailableError
from engine.wire import partition_of

WARM_SHARE = 0.1
RATES = (1_000, 10_000)
WARM_S = 5.0
BARE_TIMEOUT_S = 300
_HEADROOM = 1.2  # over its throughput a node's latency is the length of its queue


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure."""

    log: str = "kafka"
    host: str | None = None
    accounts: int = 10_000
    commands: int = 400_000
    processes: int = 1
    latency_s: float = 10.0
    rates: Sequence[int] = RATES
    folder: Path = bank.FOLDER


def run(asked: Asked) -> dict[str, Any]:
    """Measure; return the case's keys."""
    workload = bank.Bank(asked.folder, asked.accounts)
    with places.place(asked.log, workload.application) as place:
        bare_per_s = _bare(place, workload, asked.commands)
        opened = place.load(workload.opens())
        place.load(workload.credits(asked.commands))
        with Nodes(place, asked.folder, workload.partitions, asked.processes, asked.host) as nodes:
            nodes.wait_owned()
            total = opened + asked.commands
            nodes.wait_outcomes(total)
            warm = opened + int(asked.commands * WARM_SHARE)
            window = nodes.window(warm, total)
            nodes.check_accepted()
            latencies = [
                _latency(place, nodes, workload, asked, rate)
                for rate in asked.rates
                if asked.latency_s and rate * _HEADROOM < window.per_s
            ]
    return {
        "log": asked.log,
        "host": asked.host or "default",
        "processes": asked.processes,
        "accounts": asked.accounts,
        "commands": asked.commands,
        **_throughput(window, bare_per_s),
        "p50_ms": latencies[0]["p50_ms"] if latencies else None,
        "p99_ms": latencies[0]["p99_ms"] if latencies else None,
        "latencies": latencies,
    }


def _throughput(window: Window, bare_per_s: float) -> dict[str, Any]:
    return {
        "commands_per_s": round(window.per_s),
        "bare_loop_per_s": round(bare_per_s),
        "ratio": round(window.per_s / bare_per_s, 3),
        "cpu_us": round(window.cpu_us, 2),
        "walk_cpu_us": round(window.shell_us, 2),
    }


def _latency(
    place: places.Place, nodes: Nodes, workload: bank.Bank, asked: Asked, rate: int
) -> dict[str, Any]:
    count = int(rate * asked.latency_s)
    if isinstance(place, places.KafkaPlace):
        warm = int(rate * min(WARM_S, asked.latency_s))
        through_log(place, workload, workload.credits(warm), rate)
        return through_log(place, workload, workload.credits(count), rate).row()
    return nodes.workers[0].ask(
        folder=str(asked.folder), accounts=asked.accounts, commands=count, rate=rate
    )


def _bare(place: places.Place, workload: bank.Bank, count: int) -> float:
    """Run the bare loop in a process of its own, over as many commands of as many accounts."""
    pick = bank.uniform(workload.accounts)
    command = [sys.executable, "-m", "engine.bench.bare_loop"]
    if isinstance(place, places.KafkaPlace):
        place.topics("bare.commands", "bare.events", partitions=bare_loop.PARTITIONS)
        sent = (_bare_command(pick(), number) for number in range(count))
        places.publish(place.producer(), "bare.commands", sent)
        command += [place.bootstrap, "bare.commands", "bare.events", str(count)]
    else:
        source = place.folder / "bare.commands"
        with source.open("wb") as file:
            for number in range(count):
                file.write(_bare_command(pick(), number).value + b"\n")
        command += ["files", str(source), str(place.folder / "bare.events"), str(count)]
    done = subprocess.run(  # noqa: S603 - this very interpreter and our own module
        command, capture_output=True, text=True, check=False, timeout=BARE_TIMEOUT_S
    )
    if done.returncode != 0:
        raise UnavailableError("E1402", f"the bare loop failed: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def _bare_command(account: int, number: int) -> bank.Sendable:
    key = b"a%07d" % account
    fields = {
        "id": f"{number:032x}",
        "account": key.decode(),
        "amount": number % bank.AMOUNTS + 1,
        "reference": f"payment {number % bank.AMOUNTS + 1}",
    }
    return bank.Sendable(partition_of(key, bare_loop.PARTITIONS), key, orjson.dumps(fields))
