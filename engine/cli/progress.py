"""How far a restore is, for people: a bar on a terminal, a line now and then elsewhere.

Draws the same `Progress` that /health/ready and the metrics tell; owns no numbers of its own.
"""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from engine.cli import output
from engine.model import Progress

LINES_PER_PARTITION = 10


class RestoreShown:
    """Shows restores while its block runs; nothing at all where there is nothing to restore."""

    def __init__(self, *, bar: bool | None = None) -> None:
        self._is_bar = sys.stderr.isatty() if bar is None else bar
        self._bar: Bar | None = None
        self._told: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, restores: Sequence[Progress]) -> None:
        """Show what has changed since the last call."""
        moving = [each for each in restores if each.target_offset > 0 and each.eta_s is not None]
        if not moving:
            return
        if self._is_bar:
            self._draw(moving)
            return
        for each in moving:
            self._tell(each)

    def _draw(self, restores: Sequence[Progress]) -> None:
        """Draw one bar over all partitions."""
        bar = self._bar = self._bar or _begin()
        bar.update(
            bar.task_ids[0],
            completed=sum(min(each.applied_offset, each.target_offset) for each in restores),
            total=sum(each.target_offset for each in restores),
            rate=sum(each.records_per_s for each in restores),
        )

    def _tell(self, restore: Progress) -> None:
        """Say a line for each tenth of a partition's way."""
        step = LINES_PER_PARTITION * restore.applied_offset // restore.target_offset
        if step >= LINES_PER_PARTITION or self._told.get(restore.partition) == step:
            return
        self._told[restore.partition] = step
        output.note(
            f"partition {restore.partition}: {restore.applied_offset} of {restore.target_offset}, "
            f"{restore.records_per_s:,.0f}/s, {restore.eta_s or 0:.0f} s left"
        )


def _begin() -> Bar:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("restoring", total=1, rate=0.0)
    bar.start()
    return bar
