"""Nodes of a bench, each a process of its own, and what their samples say together."""

import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from engine.bench.places import Place
from engine.bench.waiting import await_
from engine.errors import UnavailableError

READY_S = 120.0
STALLED_S = 60.0
STOP_S = 30.0
ANSWER_S = 120.0
_POLL_S = 0.02

Sample = dict[str, Any]


class Window(NamedTuple):
    """What was decided between two moments, and what that took."""

    outcomes: int
    seconds: float
    cpu_us: float  # processor time of all node processes per outcome
    shell_us: float  # of the threads that walk

    @property
    def per_s(self) -> float:
        """Return how many a second."""
        return self.outcomes / self.seconds if self.seconds else 0.0


class Worker:
    """One node's process, and the samples it has sent so far."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any], **asked: Any) -> None:
        self.name = name
        self.url = ""
        self.samples: list[Sample] = []
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        command = [sys.executable, "-m", "engine.bench.worker"]
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter and our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        asked = {"folder": str(folder), "settings": {**settings, "node": name}, **asked}
        self._process.stdin.write(orjson.dumps(asked) + b"\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = orjson.loads(line)
            if "url" in found:
                self.url = found["url"]
            elif "answer" in found:
                self._answers.put(found["answer"])
            else:
                self.samples.append(found)

    @property
    def last(self) -> Sample:
        """Return the newest sample."""
        if self._process.poll() is not None:
            what = f"the node {self.name} ended with {self._process.returncode}"
            raise UnavailableError("E1402", what, "Its own words stand above")
        return self.samples[-1] if self.samples else {"owned": {}, "folded": {}}

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Ask the node from inside (worker.answer)."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(asked) + b"\n")
        self._process.stdin.flush()
        return self._answers.get(timeout=ANSWER_S)

    def stop(self) -> None:
        """Let the node hand over and end; kill it if that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()


class Nodes:
    """All nodes of a bench; stopped with the block."""

    def __init__(
        self, place: Place, folder: Path, partitions: int, count: int, host: str | None
    ) -> None:
        self._partitions = partitions
        more = {"host": host} if host else {}
        self.workers = [
            Worker(f"node-{number}", folder, {**place.settings(), **more})
            for number in range(1, count + 1)
        ]

    def __enter__(self) -> Self:
        """Stop them with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all nodes."""
        for worker in self.workers:
            worker.stop()

    def sequences(self, of: str = "owned") -> dict[str, int]:
        """Return how many outcomes each partition has."""
        found: dict[str, int] = {}
        for worker in self.workers:
            for partition, sequence in worker.last[of].items():
                found[partition] = max(sequence, found.get(partition, 0))
        return found

    def wait_owned(self) -> None:
        """Wait until every partition has an owner here."""
        await_(lambda: len(self.sequences()) == self._partitions, "all partitions owned", READY_S)

    def wait_outcomes(self, total: int, of: str = "owned") -> None:
        """Wait until there are so many outcomes; give up when none comes for a while."""
        seen, moved_s = -1, time.monotonic()
        while (now := sum(self.sequences(of).values())) < total:
            if now != seen:
                seen, moved_s = now, time.monotonic()
            elif time.monotonic() - moved_s > STALLED_S:
                what = f"{now} of {total} outcomes, none since {STALLED_S:.0f} s"
                raise UnavailableError("E1402", what)
            time.sleep(_POLL_S)

    def check_accepted(self) -> None:
        """Refuse figures of rejections: they cost less than what was to be measured."""
        rejected = sum(worker.ask()["rejected"] for worker in self.workers)
        if rejected:
            raise UnavailableError("E1402", f"{rejected} commands were rejected, none should be")

    def window(self, first: int, last: int, of: str = "owned") -> Window:
        """Return what happened from the first moment with `first` outcomes to that with `last`.

        `of` says which partitions count: those that are owned, or all that are folded here.
        """
        rows = self._rows(of)
        to = next(at for at, row in enumerate(rows) if row[1] >= last)
        # All of it between two samples: then from the first of these on.
        since = min(next(at for at, row in enumerate(rows) if row[1] >= first), max(to - 1, 0))
        begin, end = rows[since], rows[to]
        outcomes = end[1] - begin[1]
        cpu, shell = ((end[at] - begin[at]) / max(outcomes, 1) / 1_000 for at in (2, 3))
        return Window(outcomes, (end[0] - begin[0]) / 1e9, cpu, shell)

    def _rows(self, of: str) -> list[tuple[int, int, int, int]]:
        """Return (time, outcomes, cpu, shell cpu) of all nodes together, in the order of time."""
        merged = sorted(
            (sample["at_ns"], number, sample)
            for number, worker in enumerate(self.workers)
            for sample in list(worker.samples)
        )
        sequences: dict[str, int] = {}
        spent = [(0, 0)] * len(self.workers)
        rows: list[tuple[int, int, int, int]] = []
        for at_ns, number, found in merged:
            for partition, sequence in found[of].items():
                sequences[partition] = max(sequence, sequences.get(partition, 0))
            spent[number] = found["cpu_ns"], found["shell_ns"]
            cpu_ns, shell_ns = (sum(column) for column in zip(*spent, strict=True))
            rows.append((at_ns, sum(sequences.values()), cpu_ns, shell_ns))
        return rows
