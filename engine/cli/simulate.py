"""`partita simulate`: a cluster in one thread from one seed; a failing seed fails again."""

import functools
import gc
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, get_args

import typer

from engine.cli import output
from engine.simulator.applications import HostName, ledger, ledger_next
from engine.simulator.run import Result, simulate
from engine.world import SystemClock

app = typer.Typer(rich_markup_mode=None)

CHUNK = 8


@app.command()
def run(
    seed: Annotated[int, typer.Option(help="The seed, or the first of several.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from --seed on.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; one per core is best.")] = (
        os.cpu_count() or 1
    ),
    host: Annotated[
        HostName | None,
        typer.Option(help="The state host; none: odd seeds on python, even ones on wasm."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Simulate crashes, pauses, zombies and delays, and audit what is left; exit 1 on a fault."""
    totals: Counter[str] = Counter()
    failed: list[Result] = []
    clock = SystemClock()
    begun_ms = clock.monotonic_ms()
    wanted = range(seed, seed + seeds)
    for result in _results(wanted, host, min(jobs, seeds)):
        totals.update(seeds=1, commands=result.commands, steps=result.steps)
        totals.update(crashes=result.crashes, pauses=result.pauses)
        totals.update({f"fault_{name}": count for name, count in result.injected.items()})
        if result.faults:
            failed.append(result)
            output.note(f"seed {result.seed}: {len(result.faults)} faults")
            for fault in result.faults[:10]:
                output.note(f"  {fault}")
            on = f" --host {host}" if host else ""
            output.note(f"  again: partita simulate --seed {result.seed}{on}")
    summary = {**dict(sorted(totals.items())), "failed": [result.seed for result in failed]}
    output.show(summary if json else [summary], json=json)
    took_s = max(clock.monotonic_ms() - begun_ms, 1) / 1_000
    output.note(
        f"{seeds} seeds from {seed} on, {len(failed)} failed, {totals['commands']} commands, "
        f"{totals['crashes']} crashes; {took_s:.1f} s, {seeds / took_s:.1f} seeds/s"
    )
    if failed:
        raise typer.Exit(1)


def _start_job() -> None:
    """Leave what all seeds share out of every collection."""
    for name in get_args(HostName):
        ledger(name)
        ledger_next(name)
    gc.collect()
    gc.freeze()


def _results(wanted: range, host: HostName | None, jobs: int) -> "list[Result] | map[Result]":
    run_one = functools.partial(simulate, host=host)
    if jobs == 1:
        _start_job()
        return map(run_one, wanted)
    with ProcessPoolExecutor(jobs, initializer=_start_job) as pool:
        return list(pool.map(run_one, wanted, chunksize=CHUNK))
