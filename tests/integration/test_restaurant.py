"""The restaurant: an evening in one house, the rules of its manifest, and its twin in Python."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.application import Application
from engine.application.building import Parts, build, schema_files
from engine.application.manifest import parse_manifest
from engine.sandbox.testkit import KitOutcome, TestKit

FOLDER = Path(__file__).parents[2] / "topology" / "restaurant"
DAY = "2023-11-14"  # where the test kit's time begins
DAY_MS = 86_400_000


class House:
    """A house with two tables and two dishes."""

    def __init__(self, application: Path | Application = FOLDER) -> None:
        self.kit = TestKit(application)
        self.name = "chez-1"
        self.send("found", name="Chez Nous", pin="1234")
        made = self.change(
            _create("table", 1, number=1, seats=4),
            _create("table", 2, number=2, seats=2, place="garden"),
            _create("item", 3, code="P1", name="Pasta", price=900),
            _create("item", 4, code="W1", name="Wine", price=500, course="drink"),
        )
        self.table, self.garden, self.pasta, self.wine = made.ids.values()

    def send(self, command: str, **args: Any) -> KitOutcome:
        return self.kit.send(self.name, command, args)

    def change(self, *changes: dict[str, Any]) -> KitOutcome:
        """Send a generic command."""
        return self.kit.change(self.name, *changes)

    def order(self, table: int, *dishes: tuple[int, int], guests: int = 2) -> KitOutcome:
        lines = [{"dish": dish, "quantity": quantity} for dish, quantity in dishes]
        return self.send("order", table=table, guests=guests, lines=lines)

    def view(self, view: str) -> list[dict[str, Any]]:
        return self.kit.view(self.name, view)


def _create(type_: str, id_: int, **fields: Any) -> dict[str, Any]:
    return {"op": "create", "type": type_, "id": id_, "fields": fields}


@pytest.fixture
def house(built: Path) -> Iterator[House]:
    house = House()
    yield house
    # Whatever a test did: the log alone gives the same rows.
    house.kit.replay()
    house.kit.close()


def refused(outcome: KitOutcome) -> tuple[str, str | None]:
    assert not outcome.accepted
    return outcome.code, outcome.field


def test_an_evening(house: House) -> None:
    first = house.order(house.table, (house.pasta, 2), (house.wine, 1))
    assert first.accepted, first.message
    assert first.result is not None
    assert (first.result["number"], first.result["total"]) == (1, 2_300)
    second = house.order(house.garden, (house.wine, 1))
    assert second.result is not None
    more = house.send(
        "add", order=first.result["order"], lines=[{"dish": house.wine, "quantity": 2}]
    )
    assert more.result == {"order": first.result["order"], "number": 1, "total": 3_300}
    assert [(row["table"], row["number"], row["total"]) for row in house.view("open_tables")] == [
        (house.table, 1, 3_300),
        (house.garden, 2, 500),
    ]

    paid = house.send("pay", order=first.result["order"], method="card", tip=200)
    assert paid.result is not None
    assert paid.result["total"] == 3_500
    (bill,) = [change for change in paid.changes if change["type"] == "bill"]
    assert house.kit.record(house.name, "bill", bill["id"]) is None  # it lives in the log only
    assert house.send("cancel", order=second.result["order"]).accepted
    assert house.view("open_tables") == []
    row = house.kit.row(house.name, "bills", date=DAY, bill=bill["id"])
    assert row is not None
    assert (row["day"], row["order"], row["total"], row["tip"]) == (
        DAY,
        first.result["order"],
        3_300,
        200,
    )
    assert {row["item"]: (row["quantity"], row["amount"]) for row in house.view("sales")} == {
        house.pasta: (2, 1_800),
        house.wine: (3, 1_500),
    }
    orders = house.kit.records(house.name, "order").values()
    assert [order["state"] for order in orders] == ["paid", "cancelled"]


def test_a_table_is_free_again_when_its_order_has_ended(house: House) -> None:
    first = house.order(house.table, (house.pasta, 1))
    assert first.result is not None
    assert refused(house.order(house.table, (house.pasta, 1))) == ("table_taken", "table")
    assert house.send("pay", order=first.result["order"], method="cash").accepted
    assert house.order(house.table, (house.pasta, 1)).accepted
    late = house.send("pay", order=first.result["order"], method="cash")
    assert refused(late) == ("no_order", "order")


def test_every_rule_names_its_field(house: House) -> None:
    taken = house.change(_create("table", 1, number=1, seats=2))
    assert refused(taken) == ("not_unique", "table.number")
    assert refused(house.change(_create("table", 1, number=3))) == ("required", "table.seats")
    far = house.change(_create("table", 1, number=1_000, seats=2))
    assert refused(far) == ("check_failed", "table.number")
    code = house.change(_create("item", 1, code="p1", name="Pie", price=1))
    assert refused(code) == ("check_failed", "item.code")
    tag = house.change(_create("item", 1, code="P2", name="<b>Pie</b>", price=1))
    assert refused(tag) == ("check_failed", "item.name")
    moved = house.change(
        {"op": "update", "type": "table", "id": house.table, "fields": {"number": 9}}
    )
    assert refused(moved) == ("unique_changed", "table.number")
    assert refused(house.order(house.table)) == ("too_few", "order.line")
    many = house.order(house.table, *[(house.wine, 1)] * 51)
    assert refused(many) == ("too_many", "order.line")
    nowhere = house.order(house.pasta, (house.wine, 1))
    assert refused(nowhere) == ("invalid_reference", "order.table")
    assert refused(house.order(house.table, (house.table, 1))) == ("no_item", "lines.dish")
    assert refused(house.order(house.table, (house.wine, 100))) == ("check_failed", "line.quantity")
    crowd = house.order(house.table, (house.wine, 1), guests=5)
    assert refused(crowd) == ("no_seat", "guests")
    none = house.order(house.table, (house.wine, 1), guests=0)
    assert refused(none) == ("check_failed", "order.guests")
    assert {(row["command"], row["code"]): row["count"] for row in house.view("refusals")} == {
        ("order", "too_few"): 1,
        ("order", "too_many"): 1,
        ("order", "invalid_reference"): 1,
        ("order", "no_item"): 1,
        ("order", "no_seat"): 1,
        ("order", "check_failed"): 2,
    }
    assert house.view("open_tables") == []


def test_what_is_off_the_menu_is_not_sold(house: House) -> None:
    first = house.order(house.table, (house.wine, 1))
    assert first.result is not None
    assert house.change({"op": "deactivate", "type": "item", "id": house.wine}).accepted
    assert refused(house.order(house.garden, (house.wine, 1))) == ("no_item", "lines.dish")
    # What was ordered before is paid as it was.
    assert house.send("pay", order=first.result["order"], method="cash").accepted
    # Its code is free, and it can't come back while another has it.
    assert house.change(_create("item", 1, code="W1", name="Water", price=0)).accepted
    back = house.change({"op": "activate", "type": "item", "id": house.wine})
    assert refused(back) == ("not_unique", "item.code")


def test_a_house_is_founded_once_and_closed_by_its_pin(house: House) -> None:
    again = house.send("found", name="Chez Vous", pin="1")
    assert refused(again) == ("workspace_exists", None)
    elsewhere = house.kit.send("chez-2", "cancel", {"order": 1})
    assert refused(elsewhere) == ("unknown_workspace", None)
    assert refused(house.send("close", pin="4321")) == ("wrong_pin", "pin")
    assert house.send("close", pin="1234").accepted
    assert refused(house.order(house.table, (house.pasta, 1))) == ("workspace_gone", None)


def test_a_pin_is_nowhere_in_the_log(house: House) -> None:
    house.send("close", pin="98765")
    assert all(b"1234" not in outcome["args"] for outcome in house.kit.outcomes)
    assert all(b"98765" not in outcome["args"] for outcome in house.kit.outcomes)


def test_the_folder_is_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in FOLDER.iterdir() if path.is_file())
    assert lines < 500


def test_a_line_is_taken_back_but_for_the_last(house: House) -> None:
    first = house.order(house.table, (house.pasta, 2), (house.wine, 1))
    assert first.result is not None
    order = first.result["order"]
    pasta, wine = house.kit.children(house.name, "line", order)
    assert house.send("take_back", order=order, line=pasta).accepted
    assert refused(house.send("take_back", order=order, line=pasta)) == ("no_line", "line")
    assert refused(house.send("take_back", order=order, line=wine)) == ("too_few", "order.line")
    assert house.kit.children(house.name, "line", order)[wine]["quantity"] == 1
    (row,) = house.view("open_tables")
    assert row["total"] == 500
    (best,) = house.view("item_of_the_day")
    assert (best["item"], best["quantity"]) == (house.wine, 1)


def test_the_day_is_closed_when_no_order_is_open(house: House) -> None:
    first = house.order(house.table, (house.pasta, 2))
    assert refused(house.send("close_day")) == ("orders_open", None)
    assert first.result is not None
    house.kit.pass_time(DAY_MS)  # past midnight: still the same day of business
    assert house.send("pay", order=first.result["order"], method="card", tip=100).accepted
    closed = house.send("close_day")
    assert closed.result == {"day": DAY, "bills": 1, "sales": 1_800, "tips": 100}
    row = house.kit.row(house.name, "days", date=DAY)
    assert row is not None
    assert (row["bills"], row["sales"], row["tips"]) == (1, 1_800, 100)
    again = house.order(house.table, (house.wine, 3))
    assert again.result is not None
    assert again.result["number"] == 1, "numbers begin anew"
    best = {row["day"]: row["item"] for row in house.view("item_of_the_day")}
    assert best == {DAY: house.pasta, "2023-11-15": house.wine}
    assert house.send("cancel", order=again.result["order"]).accepted
    assert [row["day"] for row in house.view("item_of_the_day")] == [DAY]
    empty = house.send("close_day")
    assert empty.result == {"day": "2023-11-15", "bills": 0, "sales": 0, "tips": 0}
    state = house.kit.record(house.name, "house")
    assert state is not None
    assert state["day"] == "2023-11-16"


def test_a_pin_has_4_to_12_signs(built: Path) -> None:
    kit = TestKit(built)
    for pin in ("", "123", "1" * 13, "1" * 2_000):
        assert kit.send("w", "found", {"name": "Bistro", "pin": pin}).code == "bad_pin"
    assert kit.workspace("w") is None
    assert kit.send("w", "found", {"name": "Bistro", "pin": "1" * 12}).accepted
    made = kit.workspace("w")
    assert made is not None
    assert (made.kind, made.gone) == ("restaurant", False)
    assert kit.send("w", "close", {"pin": "1" * 2_000}).code == "wrong_pin"
    assert kit.send("w", "close", {"pin": "1" * 12}).accepted
    made = kit.workspace("w")
    assert made is not None
    assert made.gone
    kit.close()


# The twin: the same manifest with the extension in Python.

SMALL = st.integers(0, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("order"), SMALL, SMALL, st.lists(st.tuples(SMALL, SMALL), max_size=4)),
        st.tuples(st.just("add"), SMALL, st.lists(st.tuples(SMALL, SMALL), max_size=3)),
        st.tuples(st.just("take_back"), SMALL, st.integers(0, 12)),
        st.tuples(st.just("pay"), SMALL, st.sampled_from(["cash", "card"]), SMALL),
        st.tuples(st.sampled_from(["cancel", "menu"]), SMALL),
        st.tuples(st.sampled_from(["close_day", "midnight"])),
    ),
    max_size=25,
)


def twin() -> Application:
    manifest = (FOLDER / "application.toml").read_text()
    inner = 'wasm = "build/restaurant.wasm", memory_kib = 64'
    assert inner in manifest
    manifest = manifest.replace(inner, 'python = "restaurant_twin:Restaurant"')
    texts = {
        name: (FOLDER / name).read_text()
        for _, name in schema_files(parse_manifest(manifest, "twin"))
    }
    source = Path(__file__).with_name("restaurant_twin.py").read_bytes()
    return build(Parts(manifest, texts, {"restaurant": source}, "twin"))


def play(house: House, step: tuple[Any, ...]) -> KitOutcome | None:
    """Do a step; small numbers choose among what there is, and now and then what there isn't."""
    tables = [house.table, house.garden, house.pasta]
    dishes = [house.pasta, house.wine, house.table]
    ids = list(house.kit.records(house.name, "order"))
    lines = list(house.kit.records(house.name, "line"))

    def one(of: list[int], at: int) -> int:
        return of[at] if at < len(of) else 0

    def asked(pairs: list[tuple[int, int]]) -> list[dict[str, int]]:
        return [{"dish": one(dishes, dish), "quantity": quantity} for dish, quantity in pairs]

    args: dict[str, Any] = {}
    match step:
        case ("order", table, guests, pairs):
            args = {"table": one(tables, table), "guests": guests, "lines": asked(pairs)}
        case ("add", order, pairs):
            args = {"order": one(ids, order), "lines": asked(pairs)}
        case ("take_back", order, line):
            args = {"order": one(ids, order), "line": one(lines, line)}
        case ("pay", order, method, tip):
            args = {"order": one(ids, order), "method": method, "tip": tip}
        case ("cancel", order):
            args = {"order": one(ids, order)}
        case ("menu", dish):
            op = "deactivate" if dish % 2 else "activate"
            return house.change({"op": op, "type": "item", "id": one(dishes, dish)})
        case ("midnight",):
            house.kit.pass_time(DAY_MS)
            return None
        case _:
            pass
    return house.send(step[0], **args)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_c_and_python_give_the_same_outcomes_and_rows(built: Path, steps: Any) -> None:
    ours, theirs = House(built), House(twin())
    for step in steps:
        assert play(ours, step) == play(theirs, step)
    assert ours.kit.rows == theirs.kit.rows
    assert ours.kit.digests == theirs.kit.digests
    ours.kit.replay()
    ours.kit.close()
    theirs.kit.close()
