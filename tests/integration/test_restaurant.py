"""The restaurant: an evening in one house, on the rules of its manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.sandbox.testkit import KitOutcome, TestKit

FOLDER = Path(__file__).parents[2] / "topology" / "restaurant"
DAY = "2023-11-14"  # where the test kit's time begins


class House:
    """A house with two tables and two dishes."""

    def __init__(self, name: str = "chez-1") -> None:
        self.kit = TestKit(FOLDER)
        self.name = name
        self.send("found", name="Chez Nous", pin="1234")
        made = self.change(
            _create("table", 1, number=1, seats=4),
            _create("table", 2, number=2, seats=2, place="garden"),
            _create("item", 3, code="P1", name="Pasta", price=900),
            _create("item", 4, code="W1", name="Wine", price=500, course="drink"),
        )
        assert made.result is not None, made.message
        self.table, self.garden, self.pasta, self.wine = made.result["ids"].values()

    def send(self, command: str, **args: Any) -> KitOutcome:
        return self.kit.send(self.name, command, args)

    def change(self, *changes: dict[str, Any]) -> KitOutcome:
        """Send a generic command."""
        return self.send("change", changes=list(changes))

    def order(self, table: int, *dishes: tuple[int, int], guests: int = 2) -> KitOutcome:
        lines = [{"item": item, "quantity": quantity} for item, quantity in dishes]
        return self.send("order", table=table, guests=guests, lines=lines)

    def view(self, view: str) -> list[dict[str, Any]]:
        return self.kit.view(self.name, view)


def _create(type_: str, id_: int, **fields: Any) -> dict[str, Any]:
    return {"op": "create", "type": type_, "id": id_, "fields": fields}


@pytest.fixture
def house() -> Iterator[House]:
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
        "add", order=first.result["order"], lines=[{"item": house.wine, "quantity": 2}]
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
    (row,) = house.view("bills")
    assert (row["day"], row["bill"], row["total"], row["tip"]) == (DAY, bill["id"], 3_300, 200)
    assert {row["item"]: (row["quantity"], row["amount"]) for row in house.view("sales")} == {
        house.pasta: (2, 1_800),
        house.wine: (3, 1_500),
    }
    orders = house.kit.records(house.name, "order").values()
    assert [order["state"] for order in orders] == ["paid", "cancelled"]


def test_a_table_is_free_again_when_its_order_has_ended(house: House) -> None:
    first = house.order(house.table, (house.pasta, 1))
    assert first.result is not None
    assert refused(house.order(house.table, (house.pasta, 1))) == ("table_taken", None)
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
    assert refused(house.order(house.table, (house.table, 1))) == ("no_item", "lines.item")
    assert refused(house.order(house.table, (house.wine, 100))) == ("check_failed", "line.quantity")
    crowd = house.order(house.table, (house.wine, 1), guests=21)
    assert refused(crowd) == ("check_failed", "order.guests")
    assert {(row["command"], row["code"]): row["count"] for row in house.view("refusals")} == {
        ("order", "too_few"): 1,
        ("order", "too_many"): 1,
        ("order", "invalid_reference"): 1,
        ("order", "no_item"): 1,
        ("order", "check_failed"): 2,
    }
    assert house.view("open_tables") == []


def test_what_is_off_the_menu_is_not_sold(house: House) -> None:
    first = house.order(house.table, (house.wine, 1))
    assert first.result is not None
    assert house.change({"op": "deactivate", "type": "item", "id": house.wine}).accepted
    assert refused(house.order(house.garden, (house.wine, 1))) == ("no_item", "lines.item")
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
    assert refused(house.send("close", pin="4321")) == ("wrong_pin", None)
    assert house.send("close", pin="1234").accepted
    assert refused(house.order(house.table, (house.pasta, 1))) == ("workspace_gone", None)


def test_a_pin_is_nowhere_in_the_log(house: House) -> None:
    house.send("close", pin="98765")
    assert all(b"1234" not in outcome["args"] for outcome in house.kit.outcomes)
    assert all(b"98765" not in outcome["args"] for outcome in house.kit.outcomes)


def test_the_folder_is_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in FOLDER.iterdir() if path.is_file())
    assert lines < 500
