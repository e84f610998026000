"""What the walk costs around the state host: TAKE, APPEND, CONFIRM, APPLY, REPLY of one process.

The replicas, logs and stores are the real ones; the host is a stand-in that returns as many
outcomes and rows as `credit` of bank has, of the same sizes, without deciding anything. Its own
time is told apart. Processor time of the walking thread, so that a busy machine doesn't matter.
"""

import cProfile
import io
import pstats
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import limits, wire
from engine.application import Application, rows
from engine.application.generations import Views
from engine.assembly import build_replica
from engine.bench import bank, places
from engine.bench.hosts import HOSTS
from engine.errors import UnavailableError
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.kafka.logs import KafkaLogs
from engine.log.objects import FolderObjects
from engine.model import Batch, Chain, Decided, HostState, Input, Phase, Position, Stage
from engine.partition.replica import Identity, Replica
from engine.ports import Logs, StateHost, Statistics
from engine.settings import LogSettings
from engine.store.rocks import RocksStore, StoreMemory
from engine.world import SystemClock, SystemRandom

_ID = slice(wire.HEADER_BYTES, wire.HEADER_BYTES + 16)
_IDLE_WAIT_MS = 5
_STALLED_S = 30.0
_PROFILE_LINES = 40


class StandIn:
    """A state host that decides nothing: outcomes and rows of the right number and sizes."""

    def __init__(self, workload: bank.Bank) -> None:
        self._state = HostState()
        application = workload.application
        self._record = rows.table_prefix(application.records["account"].table)
        self._view = rows.table_prefix(application.views["statement"].table)
        self._workspace = rows.table_prefix(rows.TABLE_WORKSPACE)
        self._tail = b"\x00" + bytes(16)
        # As `credit` of bank leaves them behind.
        self._values = bytes(78), bytes(27 + 8 * limits.WORKSPACE_PAGE // 2), bytes(42)
        self._body = bytes(217)
        self.entries = 0

    def open(
        self,
        partition: int,
        applications: Mapping[int, Application],
        position: Position,
        views: Views | None = None,
    ) -> None:
        """Start at a position."""
        del partition, applications, views
        self._state = replace(position.host)

    def own(self, epoch: int) -> None:
        """Take note of nothing."""

    def decide(self, batch: Batch, source: Input, now_ms: int) -> Decided:
        """Return an outcome and three rows for each command."""
        del source
        state, decided = self._state, Decided()
        record, workspace, view = self._record, self._workspace, self._view
        account, log, line = self._values
        made: dict[bytes, bytes | None] = {}
        for key, value in zip(batch.keys, batch.values, strict=True):
            assert key is not None
            assert value is not None
            self.entries += 1
            decided.outcomes.append(value[_ID] + self._body)
            decided.workspaces.append(key)
            decided.ids.append(value[_ID])
            made[record + key + self._tail] = account
            made[workspace + key + b"\x00"] = log
            made[view + key + b"\x00" + self.entries.to_bytes(16)] = line
        decided.command_times = list(batch.times_ms)
        state.sequence += len(batch)
        state.previous = wire.hash64(decided.outcomes[-1])
        state.registered_at, state.newest_command_time = now_ms, batch.times_ms[-1]
        decided.digests = {256: state.sequence, 5: state.sequence, 32_768: state.sequence}
        decided.rows, decided.done, decided.state = made, len(batch), replace(state)
        return decided

    def fold(self, batch: Batch) -> Decided:
        """Fold marks, which is all there is to fold before the walk begins."""
        marks: list[dict[int, int]] = [{} for _ in batch.values]
        return Decided(marks=marks, done=len(batch), state=replace(self._state))

    def chained(self, batch: Batch, at: int, epoch: int, sequence: int, previous: int) -> Chain:
        """Judge nothing: a mark is no outcome."""
        del batch, at, epoch, sequence, previous
        return Chain()

    def provide(
        self, rows: Mapping[bytes, bytes | None], prefixes: Sequence[bytes] = (), /
    ) -> None:
        """Remember nothing."""

    def confirm(self, sequence: int) -> None:
        """Remember nothing."""

    def discard(self) -> None:
        """Never happens: nobody else claims."""

    def find(self, command_id: bytes) -> int:
        """Return 0: nothing is remembered."""
        del command_id
        return 0

    def statistics(self) -> Statistics:
        """Return nothing."""
        return {}

    def close(self) -> None:
        """Hold nothing."""


@dataclass(slots=True)
class Stages:
    """An observer that adds up processor time between the ends of stages."""

    spent_ns: dict[str, int] = field(default_factory=dict[str, int])
    outcomes: int = 0
    batches: int = 0
    _at_ns: int = 0

    def batch(self, stage: Stage, partition: int, decided: Decided) -> None:
        """Count the time since the stage before, whichever batch's it was."""
        del partition
        now_ns = time.thread_time_ns()
        self.spent_ns[stage] = self.spent_ns.get(stage, 0) + now_ns - self._at_ns
        self._at_ns = now_ns
        if stage is Stage.REPLY:
            self.outcomes += len(decided.outcomes)
            self.batches += 1

    def begin(self) -> None:
        """Forget what was counted."""
        self.spent_ns.clear()
        self.outcomes = self.batches = 0
        self._at_ns = time.thread_time_ns()


def run(
    log: str, commands: int, accounts: int, folder: Path, *, host: str = "", profile: bool = False
) -> dict[str, Any]:
    """Measure; return the case's keys. Without a `host`, the stand-in takes its place."""
    workload = bank.Bank(folder, accounts)
    with places.place(log, workload.application) as place:
        opened = place.load(workload.opens())
        place.load(workload.credits(commands))
        logs, data = _connect(place, workload.application), place.folder / "walk"
        stages, profiler = Stages(), cProfile.Profile() if profile else None
        make = HOSTS[host] if host else lambda: StandIn(workload)
        replicas = list(_replicas(logs, workload, data, stages, make))
        try:
            _until(replicas, logs, lambda: all(one.phase is Phase.OWNING for one in replicas))
            _until(replicas, logs, lambda: _applied(replicas) >= opened)
            before, left = _applied(replicas), opened + commands
            commands = left - before
            stages.begin()
            began_s, cpu_ns = time.perf_counter(), time.process_time_ns()
            if profiler:
                profiler.enable()
            _until(replicas, logs, lambda: _applied(replicas) >= left)
            if profiler:
                profiler.disable()
            seconds, cpu_ns = time.perf_counter() - began_s, time.process_time_ns() - cpu_ns
        finally:
            for replica in replicas:
                replica.close()
            logs.close()
    each_us = {name: ns / commands / 1_000 for name, ns in stages.spent_ns.items()}
    total_us = sum(each_us.values())
    if profiler:
        _told(profiler)
    return {
        "log": log,
        "host": host or "stand-in",
        "commands": commands,
        "accounts": accounts,
        "commands_per_batch": round(commands / max(stages.batches, 1), 1),
        "stages": [{"stage": name, "us": round(us, 3)} for name, us in each_us.items()],
        "walk_us": round(total_us, 2),
        "around_host_us": round(total_us - each_us.get(Stage.DECIDE, 0.0), 2),
        "process_cpu_us": round(cpu_ns / commands / 1_000, 2),
        "commands_per_s": round(commands / seconds),
    }


def _applied(replicas: Sequence[Replica]) -> int:
    return sum(one.held().sequence for one in replicas)


def _connect(place: places.Place, application: Application) -> Logs:
    if isinstance(place, places.KafkaPlace):
        settings = LogSettings.model_validate(place.settings()["log"])
        return KafkaLogs(settings, application.name, application.partitions, "walk")
    folder = place.folder / "data" / application.name / "log"
    wanted = EmbeddedSettings(application.name, application.partitions)
    return EmbeddedLogs(folder, wanted, SystemClock(), SystemRandom())


def _replicas(
    logs: Logs, workload: bank.Bank, data: Path, stages: Stages, make: Callable[[], StateHost]
) -> Iterator[Replica]:
    memory, clock, random = StoreMemory(), SystemClock(), SystemRandom()
    content = FolderObjects(data / "content")
    for partition in range(workload.partitions):
        replica = build_replica(
            Identity("walk", partition, workload.application),
            logs,
            RocksStore(data / "stores" / str(partition), memory),
            content,
            replies=logs.replies,
            host=make(),
            clock=clock,
            random=random,
            observer=stages,
        )
        replica.open()
        yield replica


def _until(replicas: Sequence[Replica], logs: Logs, done: Callable[[], bool]) -> None:
    """Tick as a node's shell does, until it is done."""
    moved_s = time.monotonic()
    while not done():
        moved = False
        for replica in replicas:
            moved |= replica.tick()
        if moved:
            moved_s = time.monotonic()
            continue
        if time.monotonic() - moved_s > _STALLED_S:
            raise UnavailableError("E1402", f"nothing moved for {_STALLED_S:.0f} s")
        logs.wait(_IDLE_WAIT_MS)


def _told(profiler: cProfile.Profile) -> None:
    """Say to stderr where the time went."""
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(_PROFILE_LINES)
    sys.stderr.write(out.getvalue())
