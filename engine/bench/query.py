"""How long a view read takes over HTTP: while nothing else happens, and while commands are decided.

Reads are due at a fixed rate and timed from then, on connections that stay open. The commands come
from a process of their own.
"""

import http.client
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.bench import bank, places
from engine.bench.nodes import Nodes
from engine.bench.open_loop import Latency
from engine.errors import UnavailableError
from engine.world import SeededRandom

CONNECTIONS = 8
# A broker that was just started compiles itself, which takes half a core and more; so long what
# is read doesn't count, under the load that is measured next.
WARM_S = 15.0
SETTLE_S = 2.0
READ_S = 30.0
STOP_S = 10.0
TARGET = "/v1/workspaces/{}/views/statement?limit=10"


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure."""

    host: str | None = None
    rate: int = 100
    busy_per_s: int = 50_000
    seconds: float = 20.0
    accounts: int = 10_000
    folder: Path = bank.FOLDER


def run(asked: Asked) -> dict[str, Any]:
    """Measure idle and busy; return the case's keys."""
    workload = bank.Bank(asked.folder, asked.accounts)
    with places.place("kafka", workload.application) as place:
        assert isinstance(place, places.KafkaPlace)
        total = place.load(workload.opens())
        total += place.load(workload.credits(asked.accounts))
        with Nodes(place, asked.folder, workload.partitions, 1, asked.host) as nodes:
            nodes.wait_owned()
            nodes.wait_outcomes(total)
            url = nodes.workers[0].url
            time.sleep(min(SETTLE_S, asked.seconds))
            idle = _read(url, workload, asked)
            feeder = _feed(place.bootstrap, asked)
            try:
                nodes.wait_outcomes(total + 1)  # the first of them
                time.sleep(min(WARM_S, asked.seconds))
                before, began_s = sum(nodes.sequences().values()), time.monotonic()
                busy = _read(url, workload, asked)
                decided = sum(nodes.sequences().values()) - before
                per_s = decided / (time.monotonic() - began_s)
            finally:
                feeder.terminate()
                feeder.wait(STOP_S)
    return {
        "host": asked.host or "default",
        "rate_per_s": asked.rate,
        "asked_commands_per_s": asked.busy_per_s,
        "cases": [
            {"while": "idle", "decided_per_s": 0, **idle.row()},
            {"while": "busy", "decided_per_s": round(per_s), **busy.row()},
        ],
    }


def _feed(bootstrap: str, asked: Asked) -> "subprocess.Popen[bytes]":
    """Start sending credits at a steady rate until terminated."""
    command = [sys.executable, "-m", "engine.bench.feed", bootstrap, str(asked.busy_per_s)]
    command += [str(asked.accounts), str(asked.folder)]
    return subprocess.Popen(command)  # noqa: S603 - this very interpreter and our own module


def _read(url: str, workload: bank.Bank, asked: Asked) -> Latency:
    """Read views of accounts at a fixed rate, on several connections in turn."""
    latency, lock = Latency(asked.rate), threading.Lock()
    failures: list[str] = []
    start_s = time.perf_counter() + 0.1
    count = int(asked.rate * asked.seconds)

    def connection(number: int) -> None:
        place, random = urlsplit(url), SeededRandom(number)
        client = http.client.HTTPConnection(place.hostname or "", place.port, timeout=READ_S)
        for at in range(number, count, CONNECTIONS):
            due_s = start_s + at / asked.rate
            time.sleep(max(due_s - time.perf_counter(), 0))
            workspace = workload.key(random.below(workload.accounts)).decode()
            client.request("GET", TARGET.format(workspace))
            answer = client.getresponse()
            answer.read()
            taken_ns = int((time.perf_counter() - due_s) * 1e9)
            with lock:
                latency.sent += 1
                latency.add(taken_ns)
                if answer.status != 200:
                    failures.append(f"{answer.status} {workspace}")
        client.close()

    threads = [threading.Thread(target=connection, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise UnavailableError("E1402", f"{len(failures)} reads failed: {failures[0]}")
    latency.missing = count - latency.sent
    return latency
