"""The demo: a month of real flights through a real engine, checked against the raw data.

    python -m loadtest.demo              embedded log, one process
    python -m loadtest.demo --year       the whole year instead of a month
    python -m loadtest.demo --kafka      a real local broker, two nodes, one of which is killed
    python -m loadtest.demo --stay       as the first, and the engine stays up

Data is made anew under .partita/demo; it never touches anything else.
"""

import argparse
import asyncio
import itertools
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine import wire
from engine.application.folder import load_application
from engine.application.schema import encode
from engine.assembly import settle_process
from loadtest import demo_targets, flights

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "topology" / "flights"
DATA = ROOT / ".partita" / "demo"
MONTH = 1
HTTP_AT_ONCE = 32
STALLED_S = 60.0
CHUNK = 2_000
CHUNKS_AHEAD = 8
SAY_EVERY = 20_000  # commands, where no bar can be drawn

console = Console(stderr=True)


def encoded(month: int | None) -> Iterator[tuple[str, bytes]]:
    """Yield (workspace, command envelope) as any client would publish them."""
    application = load_application(FOLDER)
    schemas = {name: command.args for name, command in application.commands.items()}
    envelopes = {name: envelope(name, schema.fingerprint) for name, schema in schemas.items()}
    for workspace, command, args, command_id in flights.plain_commands(month):
        yield workspace, envelopes[command](command_id, encode(schemas[command], args))


def encoded_beside(month: int | None) -> Iterator[tuple[str, bytes]]:
    """Yield what `encoded` does, made by another process: this one is the engine's."""
    workers = ProcessPoolExecutor(1, get_context("spawn"), _begin, (month,))
    with workers as pool:
        waiting = deque(pool.submit(_more) for _ in range(CHUNKS_AHEAD))
        while chunk := waiting.popleft().result():
            waiting.append(pool.submit(_more))
            yield from chunk


# What the other process is at.
_encoding: Iterator[tuple[str, bytes]] = iter(())


def _begin(month: int | None) -> None:
    global _encoding  # noqa: PLW0603 - a pool's process has no other place for it
    _encoding = encoded(month)


def _more() -> list[tuple[str, bytes]]:
    return list(itertools.islice(_encoding, CHUNK))


def envelope(name: str, fingerprint: int) -> Callable[[bytes, bytes], bytes]:
    """Return what makes a command's bytes of its id and arguments; all else of it is the same."""
    fields = {"command_id": bytes(16), "name": name, "args_schema": fingerprint}
    empty, longer = (wire.encode_command({**fields, "args": args}) for args in (b"", b"x"))
    # They differ first in the arguments' length, which is a zigzag number of 7 bits a byte.
    at = next(at for at, byte in enumerate(empty) if byte != longer[at])
    head, body = empty[: wire.HEADER_BYTES], empty[wire.HEADER_BYTES + 16 : at]
    tail = empty[at + 1 :]

    def made(command_id: bytes, args: bytes) -> bytes:
        size = 2 * len(args)
        length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
        return head + command_id + body + length + args + tail

    return made


def load(target: "demo_targets.Target", month: int | None) -> None:
    """Publish every command and wait until each has its outcome, with a progress bar."""
    total = flights.count(month)
    settle_process()  # now that the year's flights are in memory
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        published = progress.add_task("published", total=total)
        decided = progress.add_task("decided", total=total)
        for count, (workspace, value) in enumerate(encoded_beside(month), 1):
            target.publish(workspace, value)
            if count % SAY_EVERY == 0 and progress.disable:
                console.print(f"published {count:,} of {total:,}")
            if count % 500 == 0:
                progress.update(published, completed=count)
                progress.update(decided, completed=target.decided())
        target.flush()
        progress.update(published, completed=total)
        done, moved_at = 0, time.monotonic()
        while done < total:
            now = target.decided()
            if now != done:
                done, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > STALLED_S:
                raise SystemExit(f"{done} of {total} decided, none since {STALLED_S:.0f} s")
            progress.update(decided, completed=done)
            target.act(done / total, console)
            target.wait()
    took_s = time.monotonic() - started
    console.print(
        f"{total:,} commands of {len(set(flights.expected(month).aircraft)):,} aircraft decided in "
        f"{took_s:.1f} s ({total / took_s:,.0f}/s)"
    )


def have_same_totals(ours: dict[Any, Any], theirs: Mapping[Any, flights.Totals]) -> bool:
    """Return whether the same keys have the same sums."""
    return ours.keys() == theirs.keys() and all(
        ours[key][column] == value
        for key, totals in theirs.items()
        for column, value in vars(totals).items()
    )


async def compare(url: str, month: int | None) -> list[str]:
    """Compare every aircraft's views with sums made from the raw data; return the differences."""
    wanted = flights.expected(month)
    gate = asyncio.Semaphore(HTTP_AT_ONCE)
    limits = httpx.Limits(max_connections=HTTP_AT_ONCE)
    different: list[str] = []
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:

        async def rows(workspace: str, view: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            after: str | None = None
            while True:
                query: dict[str, Any] = {"limit": 1_000, **({"after": after} if after else {})}
                async with gate:
                    answer = await client.get(
                        f"/v1/workspaces/{workspace}/views/{view}", params=query
                    )
                answer.raise_for_status()
                page = answer.json()
                found += page["rows"]
                after = page.get("next")
                if after is None:
                    return found

        async def check(workspace: str, aircraft: flights.Aircraft) -> None:
            days = {row["day"]: row for row in await rows(workspace, "by_day")}
            routes = {
                (row["origin"], row["dest"]): row for row in await rows(workspace, "by_route")
            }
            status = await rows(workspace, "status")
            for name, ours, theirs in (
                ("by_day", days, aircraft.by_day),
                ("by_route", routes, aircraft.by_route),
            ):
                if not have_same_totals(ours, theirs):
                    different.append(f"{workspace}: {name}")
            if not matches(status, [aircraft.status()]):
                different.append(f"{workspace}: status")

        await asyncio.gather(*(check(*item) for item in wanted.aircraft.items()))
    return different


def matches(rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """Return whether each row has all that is wanted of it."""
    return len(rows) == len(wanted) and all(
        row[column] == value
        for row, one in zip(rows, wanted, strict=True)
        for column, value in one.items()
    )


def show(url: str, month: int | None) -> None:
    """Query a few views over HTTP, as a person would, and say what was asked."""
    wanted = flights.expected(month)
    busiest = max(wanted.aircraft, key=lambda name: wanted.aircraft[name].counts["arrivals"])
    with httpx.Client(base_url=url, timeout=30) as client:
        for path in ("views/status", "views/by_route?limit=3"):
            target = f"/v1/workspaces/{busiest}/{path}"
            console.print(f"\n[bold]GET {target}[/bold]")
            for row in client.get(target).json()["rows"]:
                console.print(f"  {row}", highlight=False)
    console.print("\nrejected by the rules of topology/flights/flights.c, as the data demands:")
    for code, count in wanted.rejected.most_common():
        console.print(f"  {code:20} {count:6,}")


def main() -> int:
    """Run the demo; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", action="store_true", help="a real local broker and two nodes")
    parser.add_argument("--stay", action="store_true", help="leave the engine up")
    parser.add_argument("--month", type=int, default=MONTH, choices=range(1, 13))
    parser.add_argument("--year", action="store_true", help="all of 2013: a million commands")
    parser.add_argument("--host", choices=("wasm", "python"), help="state host; else the setting")
    options = parser.parse_args()
    month = None if options.year else options.month
    shutil.rmtree(DATA, ignore_errors=True)
    make = demo_targets.KafkaTarget if options.kafka else demo_targets.EmbeddedTarget
    with make(FOLDER, DATA, options.host) as target:
        console.print(f"topology/flights is served at {target.url}, data in {DATA}")
        load(target, month)
        show(target.url, month)
        aircraft = len(flights.expected(month).aircraft)
        different = asyncio.run(compare(target.url, month))
        verdict = f"these differ: {', '.join(different[:10])}" if different else "all equal"
        console.print(
            f"\nviews of {aircraft:,} aircraft against sums computed from the raw data: {verdict}"
        )
        target.audit(console)
        console.print(
            "\nwhere to look next: topology/bank/bank.c (an extension), README.md (a tour), "
            f"{target.url}/openapi.json"
        )
        if options.stay:
            console.print(f"the engine stays up at {target.url}; Ctrl-C stops it")
            target.stay()
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
