"""A state host in plain Python: slow, simple, and the oracle for any other.

`_decide_one` reads top to bottom as DECIDE's inner steps; `fold` is the same without deciding.
Owns what is in memory of one partition: rows, dedup window, the state behind the last outcome.
Knows no log, no store and no clock; the helpers `host_*` know their part of it.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from engine import wire
from engine.application import Application, rows
from engine.application.generations import Views
from engine.errors import ApplicationError, Code, LogError
from engine.limits import MISSING_ROWS_MAX, OUTCOME_BYTES_MAX, ROW_CACHE_BYTES_MAX
from engine.model import Batch, Chain, Decided, Duplicate, HostState, Input, Position, Reply
from engine.sandbox import host_input, host_steps
from engine.sandbox.host_apply import Effects, Rejection
from engine.sandbox.host_dedup import DedupWindow
from engine.sandbox.host_force import InForce, put_in_force
from engine.sandbox.host_guests import Guests
from engine.sandbox.host_held import IdWindow, RowStore
from engine.sandbox.host_input import Request, Source
from engine.sandbox.host_ranges import Reader
from engine.sandbox.host_rows import Rows
from engine.sandbox.host_run import run_command
from engine.sandbox.host_values import UNKNOWN, Prefix
from engine.wire import Kind, Outcome

_COUNTERS = ("commands", "outcomes", "rejected", "duplicates", "refused", "folded", "misses")


@dataclass(slots=True)
class Pass:
    """One call of decide or fold: its results, and what it misses."""

    decided: Decided = field(default_factory=Decided)
    rows: dict[bytes, bytes | None] = field(default_factory=dict["bytes", "bytes | None"])
    missing: dict[bytes, None] = field(default_factory=dict[bytes, None])
    prefixes: dict[bytes, None] = field(default_factory=dict[bytes, None])
    before: HostState | None = None  # the state before the first miss; from there on all is guessed
    now_ms: int = 0


class PythonHost:
    """Implements `ports.StateHost`. `guests` loads an application's extensions.

    With a `reader` of stored rows nothing is ever missing.
    """

    def __init__(
        self,
        guests: Callable[[Application], Guests],
        reader: Reader | None = None,
        held: tuple[RowStore, IdWindow] | None = None,
        cache_bytes_max: int = ROW_CACHE_BYTES_MAX,
    ) -> None:
        self._load = guests
        self._partition = 0
        self._epoch = 0
        self._in_force: InForce | None = None
        self._rows: RowStore
        self._dedup: IdWindow
        self._rows, self._dedup = held or (
            Rows(reader, cache_bytes_max=cache_bytes_max),
            DedupWindow(),
        )
        self._state = HostState()
        self._confirmed: HostState | None = None
        self._counters = dict.fromkeys(_COUNTERS, 0)

    def open(
        self,
        partition: int,
        applications: Mapping[int, Application],
        position: Position,
        views: Views | None = None,
    ) -> None:
        """Start at a stored position, or go on in another application with nothing in flight."""
        goes_on = (
            self._confirmed is not None
            and partition == self._partition
            and self._confirmed.sequence == position.host.sequence
            and self._confirmed.previous == position.host.previous
        )
        if goes_on:
            assert not self._rows.unconfirmed, "an application changes between batches"
        else:
            self._rows.clear()
            self._dedup.start(position.host.sequence, position.host.dedup_floor)
        self._partition = partition
        self._confirmed = replace(position.host)
        self._state = replace(position.host)
        self.close()
        index = position.host.application
        if index:
            self._in_force = put_in_force(applications, index, views, self._rows, self._load)

    @property
    def _building(self) -> bool:
        return self._in_force is not None and self._in_force.only_views

    def own(self, epoch: int) -> None:
        """Outcomes carry this epoch from here on."""
        self._epoch = epoch

    def decide(self, batch: Batch, source: Input, now_ms: int) -> Decided:
        """Decide commands in order; each sees all earlier ones. Never raises for user input."""
        assert self._in_force is not None, "nothing is decided before the first Application record"
        assert source is Input.COMMANDS, "emits and timers are not served yet"
        run = Pass(now_ms=now_ms)
        for at in range(len(batch)):
            place = Source(self._partition, batch.offsets[at], batch.times_ms[at], batch.keys[at])
            self._decide_one(run, place, batch.values[at])
            if len(run.missing) >= MISSING_ROWS_MAX:
                break
        return self._end(run)

    def fold(self, batch: Batch) -> Decided:
        """Fold counting Outcome and Mark records, confirmed by being read. No budget, no limits."""
        run = Pass()
        for value in batch.values:
            assert value is not None
            kind, fields = wire.decode_event(value)
            if kind is Kind.MARK:
                self._fold_mark(run, fields)
            else:
                self._fold_outcome(run, cast("Outcome", fields), value)
            if len(run.missing) >= MISSING_ROWS_MAX:
                break
        decided = self._end(run)
        self._confirmed = replace(self._state)
        self._dedup.forget(self._state.sequence + 1, self._state.dedup_floor)
        return decided

    def chained(self, batch: Batch, at: int, epoch: int, sequence: int, previous: int) -> Chain:
        """Leave every record to whoever asks: judging one is no work beside folding it here."""
        del batch, at, epoch, sequence, previous
        return Chain()

    def provide(self, rows_: Mapping[bytes, bytes | None], prefixes: Sequence[bytes] = ()) -> None:
        """Take rows as stored. Dedup pages fill the window, oldest first."""
        ordered = sorted(rows_)
        for prefix in prefixes:
            start, end = (bisect_left(ordered, key) for key in (prefix, rows.prefix_end(prefix)))
            pairs = ((key, rows_[key]) for key in ordered[start:end])
            self._rows.provide_range(
                prefix, [(k, value) for k, value in pairs if value is not None]
            )
        for key in ordered:
            value = rows_[key]
            if rows.table_of(key) != rows.TABLE_PAGES:
                self._rows.provide(key, value)
            elif value is not None:
                self._dedup.load(rows.decode_page(key, value))

    def confirm(self, sequence: int) -> None:
        """Outcomes up to `sequence` are applied to the store: their rows may be evicted."""
        state = self._rows.confirm(sequence)
        if state is not None:
            self._confirmed = state
            self._dedup.forget(state.sequence + 1, state.dedup_floor)

    def discard(self) -> None:
        """Forget everything since the last confirmed outcome."""
        assert self._confirmed is not None
        self._rows.discard()
        self._state = replace(self._confirmed)
        self._dedup.drop_after(self._state.sequence, self._state.dedup_floor)

    def find(self, command_id: bytes) -> int:
        """Return the sequence of the confirmed outcome of a remembered id, or 0."""
        sequence = self._dedup.find(command_id)
        confirmed = self._confirmed.sequence if self._confirmed else 0
        return sequence if sequence <= confirmed else 0

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters, and how much is held."""
        return {
            **self._counters,
            "rows_held": len(self._rows),
            "rows_bytes": self._rows.size_bytes,
            "outcomes_unconfirmed": self._rows.unconfirmed,
            "ids_remembered": len(self._dedup),
        }

    def close(self) -> None:
        """Let go of the extensions."""
        if self._in_force is not None:
            self._in_force.close()
            self._in_force = None

    # DECIDE, step by step.

    def _decide_one(self, run: Pass, place: Source, value: bytes | None) -> None:
        """Decode, dedupe, run the extension, check, project; then it is an outcome."""
        force = self._in_force
        assert force is not None
        request = host_input.decode_request(place, value, force.application, force.older)
        command_time = max(place.time_ms, self._state.newest_command_time)
        answer = host_steps.dedupe(self._dedup, request, command_time)
        if answer is not None:
            self._answer(run, answer)
            return
        workspace, missed = self._workspace(request)
        outcome = host_steps.begin(request, self._state, self._epoch, command_time, run.now_ms)
        try:
            args = host_steps.check(
                request,
                force.application,
                force.older,
                workspace,
                outcome["registered_at"],
                known=not missed,
            )
            outcome["workspace_sequence"] = workspace.last + 1 if workspace else 1
            begun = host_steps.begun(workspace, force.application, request.name)
            unread = run_command(force.scope, force.guests, outcome, args, begun)
            if unread:
                self._miss(run, missed + unread)
                return
            effects = force.folder.effects(outcome, None if request.masked else args, budget=True)
        except Rejection as why:
            effects = self._reject(outcome, workspace, why)
        self._miss(run, missed + effects.missed)
        # What is only guessed goes to no log: its bytes and its place in the chain don't matter.
        encoded = b"" if run.before else wire.encode_event(Kind.OUTCOME, outcome)
        if len(encoded) > OUTCOME_BYTES_MAX:
            what = f"the outcome has {len(encoded)} bytes, at most {OUTCOME_BYTES_MAX} are logged"
            effects = self._reject(outcome, workspace, Rejection(Code.OUTCOME_TOO_LARGE, what))
            encoded = wire.encode_event(Kind.OUTCOME, outcome)
        self._publish(run, outcome, effects, encoded, place.key or b"", confirmed=False)
        self._answer(run, host_steps.reply(request, outcome))

    def _workspace(self, request: Request) -> tuple[rows.Workspace | None, list[bytes]]:
        """Return the workspace's row, if it has begun, and the row's key if that is not known."""
        if not request.here:
            return None, []
        key = rows.workspace_key(request.workspace)
        value = self._rows.get(key)
        if value is UNKNOWN:
            return None, [key]
        return (rows.decode_workspace(value) if isinstance(value, bytes) else None), []

    def _reject(
        self, outcome: Outcome, workspace: rows.Workspace | None, why: Rejection
    ) -> Effects:
        force = self._in_force
        assert force is not None
        host_steps.reject(outcome, workspace, why)
        try:
            return force.folder.effects(outcome, None, budget=True)
        except Rejection as fault:
            message = f"{fault.message}; it was being rejected: {why.code}: {why.message}"
            host_steps.reject(outcome, workspace, Rejection(fault.code, message))
            return force.folder.effects(outcome, None, budget=True)

    # Fold.

    def _fold_one(self, run: Pass, value: bytes) -> None:
        kind, fields = wire.decode_event(value)
        if kind is Kind.MARK:
            self._fold_mark(run, fields)
        else:
            self._fold_outcome(run, wire.decode_outcome(value), value)

    def _folded(self) -> None:
        """Take what has been folded as confirmed."""
        self._confirmed = replace(self._state)
        self._dedup.forget(self._state.sequence + 1, self._state.dedup_floor)

    def _fold_outcome(self, run: Pass, outcome: Outcome, value: bytes) -> None:
        force = self._in_force
        index = force.application.index if force else 0
        expected = force.known if force and force.only_views else {index}
        if force is None or outcome["application"] not in expected:
            raise LogError(
                "E1307",
                f"outcome {outcome['sequence']} was decided by application "
                f"{outcome['application']}, {index} is in force",
                "Rebuild the partition from the log",
                partition=self._partition,
            )
        assert outcome["sequence"] == self._state.sequence + 1, "fold got a gap in the sequence"
        try:
            effects = force.folder.effects(outcome, None, budget=False)
        except Rejection as why:
            if run.before is not None:
                return  # it may have failed for what was guessed before it
            raise ApplicationError(
                "E1106",
                f"a projector failed on outcome {outcome['sequence']}: {why.message}",
                "Run the engine version of the partition's owner",
                partition=self._partition,
                projector=why.projector,
            ) from why
        self._miss(run, effects.missed)
        key = outcome["workspace"].encode()
        self._publish(run, outcome, effects, value, key, confirmed=True)
        if run.before is None:
            self._counters["folded"] += 1
            run.decided.done += 1

    def _fold_mark(self, run: Pass, mark: dict[str, Any]) -> None:
        state = self._state
        state.registered_at = max(state.registered_at, mark["registered_at"])
        state.newest_command_time = max(state.newest_command_time, mark["newest_command_time"])
        state.emitted_sequence = max(state.emitted_sequence, mark["emitted_sequence"])
        self._dedup.raise_floor(mark["dedup_floor"])
        state.dedup_floor = self._dedup.floor
        if run.before is None:
            run.decided.done += 1
            run.decided.marks.append(self._digests_so_far(run))

    def _digests_so_far(self, run: Pass) -> dict[int, int]:
        return dict(run.decided.digests)

    # Both.

    def _miss(self, run: Pass, keys: list[bytes]) -> None:
        """Note missing rows. The first one ends what counts of this batch."""
        if not keys:
            return
        for key in keys:
            (run.prefixes if isinstance(key, Prefix) else run.missing)[bytes(key)] = None
        self._counters["misses"] += 1
        if run.before is None:
            run.before = replace(self._state)
            self._rows.guess()

    def _publish(
        self,
        run: Pass,
        outcome: Outcome,
        effects: Effects,
        encoded: bytes,
        key: bytes,
        *,
        confirmed: bool,
    ) -> None:
        """Go on to the state behind an outcome: rows, ids, chain."""
        state, command_id = self._state, outcome["command_id"]
        state.sequence = outcome["sequence"]
        state.previous = wire.hash64(encoded)
        state.registered_at = max(state.registered_at, outcome["registered_at"])
        state.newest_command_time = outcome["command_time"]
        if not self._building:
            self._dedup.add(state.sequence, command_id, outcome["command_time"])
            state.dedup_floor = self._dedup.floor
        if run.before is not None or not confirmed:
            self._rows.change(replace(state), effects.rows)
        else:
            self._rows.change_confirmed(effects.rows)
        if run.before is not None:
            return
        decided = run.decided
        if not confirmed:  # whoever folds has them
            decided.outcomes.append(encoded)
            decided.workspaces.append(key)
        decided.ids.append(command_id)
        decided.command_times.append(outcome["command_time"])
        run.rows.update(effects.rows)
        for table, difference in effects.digests.items():
            decided.digests[table] = decided.digests.get(table, 0) + difference
        self._counters["outcomes"] += 1
        decided.rejected += outcome["code"] != ""
        self._counters["rejected"] += outcome["code"] != ""

    def _answer(self, run: Pass, answer: Reply | Duplicate | None) -> None:
        if run.before is not None:
            return
        if answer is not None:
            run.decided.replies.append(answer)
        run.decided.done += 1
        self._counters["commands"] += 1
        self._counters["duplicates"] += isinstance(answer, Duplicate)
        self._counters["refused"] += isinstance(answer, Reply) and answer.sequence == 0

    def _end(self, run: Pass) -> Decided:
        """Undo what was only guessed; return what is finished."""
        if run.before is not None:
            self._rows.settle()
            self._state = run.before
            self._dedup.drop_after(self._state.sequence, self._state.dedup_floor)
        decided = run.decided
        decided.rows = run.rows
        decided.missing, decided.missing_prefixes = list(run.missing), list(run.prefixes)
        decided.state = replace(self._state)
        decided.digests = {
            table: wire.signed64(difference) for table, difference in decided.digests.items()
        }
        return decided
