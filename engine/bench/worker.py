"""A node in a process of its own, watched from inside: how far each partition is, and what it cost.

`python -m engine.bench.worker`: settings as JSON on the first line of stdin, then samples as JSON
lines on stdout, until stdin ends; further lines of stdin ask for more. The clock of the samples is
the machine's, so that those of several processes can be put together.
"""

import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson

from engine.assembly import Engine, settle_process
from engine.bench.bank import Bank
from engine.bench.open_loop import through_node
from engine.settings import load_settings
from engine.telemetry.logs import configure_logs

SAMPLE_S = 0.02


def sample(engine: Engine) -> dict[str, Any]:
    """Return where the node is, and how much processor time it has taken so far."""
    held = engine.node.held()
    return {
        "at_ns": time.monotonic_ns(),
        "cpu_ns": time.process_time_ns(),
        "shell_ns": _shell_ns(),
        "ready": engine.node.ready(),
        "folded": {str(one.partition): one.sequence for one in held},
        "owned": {str(one.partition): one.sequence for one in held if one.role == "owner"},
    }


def _shell_ns() -> int:
    """Return the processor time of the thread that walks."""
    for thread in threading.enumerate():
        if thread.name == "partita-shell" and thread.ident is not None:
            return time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
    return 0


def _write(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def answer(engine: Engine, asked: dict[str, Any]) -> None:
    """Say how many commands were rejected, or measure latency where nobody else can read a log."""
    if not asked:
        counters = engine.node.statistics().values()
        _write({"answer": {"rejected": sum(each.get("rejected", 0) for each in counters)}})
        return
    workload = Bank(Path(asked["folder"]), asked["accounts"])
    latency = through_node(engine.node, workload.credits(asked["commands"]), asked["rate"])
    _write({"answer": latency.row()})


def main() -> None:
    """Run a node until stdin ends."""
    asked = orjson.loads(sys.stdin.buffer.readline())
    configure_logs("json", "warning")
    engine = Engine(load_settings(None, asked["settings"]), Path(asked["folder"]))
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            requests.put(line)
        requests.put(b"")

    threading.Thread(target=listen, daemon=True).start()
    settle_process()
    engine.start()
    _write({"url": engine.server.url})
    while True:
        try:
            line = requests.get(timeout=SAMPLE_S)
        except queue.Empty:
            _write(sample(engine))
            continue
        if not line:
            break
        answer(engine, orjson.loads(line))
    engine.stop()


if __name__ == "__main__":
    main()
