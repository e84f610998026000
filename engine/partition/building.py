"""Builds new generations of views from the log's begin, beside the walk.

Owns a second host, a second place in the event log, and a position row of its own; all views that
wait are built together. It writes rows only into tables that don't count yet, and never reads
beyond what the partition has applied. Whether and when a generation counts, the log says.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine import limits, wire
from engine.application import Application, rows
from engine.application.generations import Generations, Projection, Views
from engine.application.types import ProjectorType
from engine.errors import ApplicationError, EngineError, LogError, StoreError
from engine.model import Batch, BuildProgress, Decided, Phase, Position
from engine.partition.ledger import Ledger, add_digests
from engine.partition.ownership import LogState, Verdict
from engine.partition.progress import RestoreProgress
from engine.ports import Clock, EventReader, StateHost
from engine.wire import Kind


@dataclass(slots=True, frozen=True)
class BuildPorts:
    """What a build is connected to, beside the partition's own ports."""

    history: EventReader
    make_host: Callable[[], StateHost]
    clock: Clock
    records_min: int = limits.BUILD_RECORDS_MIN


@dataclass(slots=True)
class _Build:
    """What is being built, as its row has it."""

    application: int
    projectors: list[str]
    position: Position
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def row(self) -> tuple[bytes, bytes]:
        fields = {
            "application": self.application,
            "projectors": self.projectors,
            "failed": [{"projector": name, "why": why} for name, why in self.failed.items()],
            "position": wire.encode_position(self.position, limits.FORMAT),
        }
        return rows.BUILD_KEY, wire.encode_build(fields)


class Builder:
    """Builds what a partition's views wait for. `tick` never blocks and is bounded."""

    def __init__(self, partition: int, ports: BuildPorts, ledger: Ledger) -> None:
        self._partition = partition
        self._ports = ports
        self._ledger = ledger
        self._progress = RestoreProgress(partition, ports.clock)
        self._applications: Mapping[int, Application] = {}
        self._building: dict[str, ProjectorType] = {}
        self._build: _Build | None = None
        self._host: StateHost | None = None
        self._log = LogState()
        self._built_total = 0
        self._seen = ledger.position.offset
        self.begin_offset = 0  # where the log begins, as far as is known

    def follow(self, generations: Generations, applications: Mapping[int, Application]) -> None:
        """Build what these generations wait for, from where an earlier run of this node was."""
        self._applications = applications
        self._building = {projector.name: projector for projector in generations.building}
        known = self._load()
        self._stop()
        if not self._building:
            if known is not None:
                self._ledger.store.write([(rows.BUILD_KEY, None)])
            self._build = None
            return
        index = generations.application.index
        goes_on = (
            known is not None
            and known.application == index
            and not self._building.keys() - set(known.projectors)
        )
        if known is None or not goes_on:
            for table in self._tables(self._building):
                self._ledger.drop(table)
            begin = Position(offset=self.begin_offset)
            known = _Build(index, list(self._building), begin)
            self._ledger.store.write([known.row()])
        digests = known.position.digests
        tables = self._tables(self._building)
        known.position.digests = {at: sum_ for at, sum_ in digests.items() if at in tables}
        self._build = known
        self._progress.start(known.position.offset, self._ledger.position.offset)
        self._resume()

    def tick(self) -> bool:
        """Build on, up to what the partition has applied; return True if anything moved."""
        build, end = self._build, self._ledger.position.offset
        if build is None or self._host is None or build.position.offset >= end:
            return False
        # Twice what came in since, or a busy partition's build would never catch up.
        count = max(self._ports.records_min, 2 * (end - self._seen))
        self._seen = end
        try:
            batch = self._ports.history.take(min(count, end - build.position.offset))
            if not batch:
                return False
            run = self._judge(batch)
            decided = Decided(state=self._log.position.host)
            if run:
                decided = self._ledger.finish(run, self._host, self._host.fold)
        except (ApplicationError, LogError) as fault:
            self._fail(build, fault)
            return True
        build.position = self._log.position.copy()
        build.position.digests = add_digests(build.position.digests, decided.digests)
        self._ledger.store.write([*decided.rows.items(), build.row()])
        self._host.confirm(decided.state.sequence)
        self._log.position.digests = build.position.digests
        self._built_total += len(batch)
        return True

    @property
    def position(self) -> int:
        """Return the offset below which everything is built; -1 when nothing is."""
        return self._build.position.offset if self._build else -1

    @property
    def behind(self) -> int:
        """Return how many records what is being built lacks; 0 where nothing sound is."""
        build = self._build
        if build is None or not self._building.keys() - build.failed.keys():
            return 0
        return self._ledger.position.offset - build.position.offset

    def complete(self, projector: str, offset: int) -> bool:
        """Return whether a projector's views hold all that lies below `offset`, and no more."""
        build = self._build
        return (
            build is not None
            and projector in self._building
            and projector not in build.failed
            and build.position.offset == offset
        )

    def builds(self, projector: str) -> bool:
        """Return whether a projector's views don't count yet."""
        return projector in self._building

    def nearly(self) -> ProjectorType | None:
        """Return a projector whose views lack so little that it is worth waiting for."""
        build = self._build
        if build is None:
            return None
        if self._ledger.position.offset - build.position.offset > limits.BUILD_PAUSE_RECORDS:
            return None
        sound = (one for name, one in self._building.items() if name not in build.failed)
        return next(sound, None)

    def problem(self, projector: str) -> str:
        """Return why a projector's build failed, or ""."""
        return self._build.failed.get(projector, "") if self._build else ""

    def gained(self, projector: ProjectorType) -> dict[int, int]:
        """Return the tables of a projector's views with the digests of what is built."""
        assert self._build is not None
        digests = self._build.position.digests
        return {table: digests.get(table, 0) for table in self._tables([projector.name])}

    def progress(self) -> Sequence[BuildProgress]:
        """Return how far each view's new generation is."""
        build = self._build
        if build is None:
            return ()
        self._progress.target_offset = self._ledger.position.offset
        at = self._progress.report(Phase.RECOVERING, build.position.offset)
        views = self._applications[build.application].views
        return tuple(
            BuildProgress(
                name,
                views[name].generation,
                at.applied_offset,
                at.target_offset,
                at.records_per_s,
                at.eta_s,
                build.failed.get(projector.name, ""),
            )
            for projector in self._building.values()
            for name in projector.writes
        )

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters, and how much waits."""
        progress = self.progress()
        return {
            "builds": sum(not one.problem for one in progress),
            "builds_failed": sum(bool(one.problem) for one in progress),
            "build_behind": self.behind,
            "built_total": self._built_total,
        }

    def close(self) -> None:
        """Close the host; what is built stays."""
        self._stop()

    def _load(self) -> _Build | None:
        value = self._ledger.store.get(rows.BUILD_KEY)
        if value is None:
            return None
        try:
            fields = wire.decode_build(value)
            position = wire.decode_position(fields["position"])[1]
        except wire.WireError as fault:
            raise StoreError("E1206", f"the row of builds can't be read: {fault}") from fault
        failed = {one["projector"]: one["why"] for one in fields["failed"]}
        return _Build(fields["application"], list(fields["projectors"]), position, failed)

    def _resume(self) -> None:
        """Open a host for what has not failed, at the build's position."""
        build = self._build
        assert build is not None
        self._stop()
        self._log = LogState(build.position.copy())
        runs = [
            Projection(build.application, projector)
            for name, projector in self._building.items()
            if name not in build.failed
        ]
        if not runs:
            return
        # The build's code is that of the newest application, whatever its place in the log.
        host_state = replace(build.position.host, application=build.application)
        position = replace(build.position, host=host_state)
        self._host = self._ports.make_host()
        views = Views(tuple(runs), only=True)
        self._host.open(self._partition, self._applications, position, views)
        self._ports.history.seek(build.position.offset)

    def _stop(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None
            self._ports.history.rest()

    def _judge(self, batch: Batch) -> Batch:
        """Return the outcomes among the records that count."""
        run = Batch()
        for record in batch.records():
            try:
                judged = self._log.judge(record.offset, record.value, record.leader_epoch)
            except StoreError as fault:
                what = f"the log no longer holds its begin, which a build needs: {fault.message}"
                raise LogError("E1302", what, partition=self._partition) from fault
            if judged.verdict is Verdict.COUNTS and judged.kind is Kind.OUTCOME:
                run.add(record.offset, record.time_ms, record.key, record.value)
        return run

    def _fail(self, build: _Build, fault: EngineError) -> None:
        """Give up a projector's views, or all if none is named; the others go on."""
        named = fault.where.get("projector")
        names = [named] if isinstance(named, str) and named in self._building else [*self._building]
        for name in names:
            build.failed.setdefault(name, fault.message)
        self._ledger.store.write([build.row()])
        for table in self._tables(names):
            self._ledger.drop(table)
        self._resume()

    def _tables(self, projectors: Iterable[str]) -> list[int]:
        """Return the tables that projectors' views are built in."""
        newest = self._applications[max(self._applications)].views
        return [newest[view].table for name in projectors for view in self._building[name].writes]
