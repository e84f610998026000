"""Real flights: what the views say against sums that never saw the engine."""

import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "loadtest"))
flights = pytest.importorskip("flights")
FOLDER = ROOT / "topology" / "flights"
KEY = {"day": "2013-01-01", "number": 1, "origin": "JFK"}
PLANNED = {**KEY, "dest": "BOS", "carrier": "B6", "miles": 187}
DEPARTED = {**KEY, "departed_at": "2013-01-01T12:10:00.000Z"}
ARRIVED = {**KEY, "arrived_at": "2013-01-01T12:55:00.000Z", "air_minutes": 45}


def plan(kit, **changed):
    args = {**PLANNED, "scheduled_at": "2013-01-01T12:00:00.000Z", **changed}
    return kit.send("N1", "schedule", args)


def test_a_flight_from_plan_to_arrival(kit):
    assert plan(kit).accepted
    assert kit.send("N1", "depart", DEPARTED).accepted
    (status,) = kit.view("N1", "status")
    assert (status["state"], status["airport"]) == ("air", "BOS")
    assert kit.send("N1", "arrive", ARRIVED).accepted
    (status,) = kit.view("N1", "status")
    assert (status["state"], status["miles"], status["air_minutes"]) == ("ground", 187, 45)
    (day,) = kit.view("N1", "by_day")
    assert (day["scheduled"], day["departed"], day["arrived"]) == (1, 1, 1)
    assert day["delay_minutes"] == 10
    (route,) = kit.view("N1", "by_route")
    assert (route["origin"], route["dest"], route["arrived"]) == ("JFK", "BOS", 1)
    (flight,) = kit.records("N1", "flight").values()
    assert (flight["state"], flight["arrived_at"]) == ("arrived", "2013-01-01T12:55:00.000Z")
    kit.replay()


def test_what_is_out_of_order_is_rejected(kit):
    assert kit.send("N1", "depart", DEPARTED).code == "not_scheduled"
    assert kit.send("N1", "cancel", KEY).code == "not_scheduled"
    assert kit.send("N1", "arrive", ARRIVED).code == "not_departed"
    plan(kit)
    assert plan(kit).code == "already_scheduled"
    assert kit.send("N1", "arrive", ARRIVED).code == "not_departed"
    kit.send("N1", "depart", DEPARTED)
    assert kit.send("N1", "depart", DEPARTED).code == "already_departed"
    assert kit.send("N1", "cancel", KEY).code == "already_departed"
    early = {**ARRIVED, "arrived_at": "2013-01-01T12:00:00.000Z"}
    assert kit.send("N1", "arrive", early).code == "invalid_time"
    assert kit.send("N1", "arrive", ARRIVED).accepted
    assert kit.send("N1", "arrive", ARRIVED).code == "not_departed"


def test_an_aircraft_is_in_one_place(kit):
    plan(kit)
    plan(kit, number=2, scheduled_at="2013-01-01T14:00:00.000Z")
    kit.send("N1", "depart", DEPARTED)
    second = {**KEY, "number": 2, "departed_at": "2013-01-01T14:00:00.000Z"}
    assert kit.send("N1", "depart", second).code == "still_in_the_air"
    next_day = {**second, "departed_at": "2013-01-02T06:10:00.000Z"}
    assert kit.send("N1", "depart", next_day).accepted, "18 hours later it must have landed"
    first, second = kit.records("N1", "flight").values()
    assert (first["state"], second["state"]) == ("unreported", "departed")
    kit.replay()


def test_a_cancelled_flight_leaves_the_plan(kit):
    plan(kit)
    assert kit.send("N1", "cancel", KEY).accepted
    assert kit.send("N1", "depart", DEPARTED).code == "not_scheduled"
    (status,) = kit.view("N1", "status")
    assert (status["cancellations"], status["state"]) == (1, "ground")


def test_codes_and_the_plan_are_bounded(kit):
    assert plan(kit, dest="BOSTON").code == "invalid_code"
    assert plan(kit, carrier="X" * 1_000).code == "invalid_code"
    for number in range(32):
        assert plan(kit, number=number).accepted
    assert plan(kit, number=32).code == "plan_full"
    later = plan(kit, number=32, scheduled_at="2013-01-03T12:00:00.001Z")
    assert later.accepted, "flights that nobody mentioned for two days make place"


def test_the_first_days_of_the_year(kit):
    expected = flights.expected(1, days=2)
    rejected: Counter[str] = Counter()
    for command in flights.commands(1, days=2):
        outcome = kit.send(
            command.workspace, command.command, command.args, command_id=command.command_id
        )
        rejected.update([outcome.code] if outcome.code else [])
    assert rejected == expected.rejected
    assert rejected, "rules that never reject anything prove nothing"
    for workspace, aircraft in expected.aircraft.items():
        assert kit.view(workspace, "status") == [aircraft.status()]
        days = {row.pop("day"): row for row in kit.view(workspace, "by_day")}
        assert days == {day: vars(row) for day, row in aircraft.by_day.items()}
        routes = {(r.pop("origin"), r.pop("dest")): r for r in kit.view(workspace, "by_route")}
        assert routes == {route: vars(row) for route, row in aircraft.by_route.items()}
    kit.replay()


def test_ids_of_commands_are_their_own_and_stay():
    first = list(flights.commands(1, days=1))
    assert len({command.command_id for command in first}) == len(first) == flights.count(1, days=1)
    assert str(first[0].command_id) == "c82caba3-7999-5024-aec5-151bd6c77850"
