"""The restaurant: what the manifest's rules don't say by themselves.

Each method is one command, or the projector of one view. That a table exists and has no other open
order, that a dish is on the menu, that an order has a line, that a quantity is from 1 to 99: all
this stands in application.toml, and a command that breaks it is rejected without a word here.
"""

import hashlib

from engine.sandbox.builtin import Context, Row

DAY_MS = 86_400_000


class Restaurant:
    """Commands and projectors, by the names that the manifest gives."""

    def found(self, call: Context) -> None:
        """Make the house."""
        house = call.create("house")
        house["name"] = call.args["name"]
        house["pin_digest"] = _digest(call)

    def order(self, call: Context) -> None:
        """Take an order at a free table."""
        table = call.args["table"]
        if call.unique("order.table", table=table):
            call.reject("table_taken")
        house = call.record("house")
        house["orders"] += 1
        order = call.create("order")
        order["table"] = table
        order["day"] = call.context["command_time"] // DAY_MS
        order["number"] = house["orders"]
        order["guests"] = call.args["guests"]
        order["note"] = call.args["note"]
        order["opened_at"] = call.context["command_time"]
        self._take(call, order)

    def add(self, call: Context) -> None:
        """Add dishes to an open order."""
        self._take(call, _open_order(call))

    def _take(self, call: Context, order: Row) -> None:
        """Add a line for each dish, at the price of today's menu."""
        for dish in call.args.items("lines"):
            item = call.record("item", dish["item"])
            if item is None or not item.active:
                call.reject("no_item", f"there is no item {dish['item']}", "lines.item")
            line = order.child("line")
            line["item"] = item.id
            line["quantity"] = dish["quantity"]
            line["price"] = item["price"]
            line["note"] = dish["note"]
            order["total"] += dish["quantity"] * item["price"]
        call.result["order"] = order.id
        call.result["number"] = order["number"]
        call.result["total"] = order["total"]

    def pay(self, call: Context) -> None:
        """End an order with a bill."""
        order = _open_order(call)
        tip, method = call.args["tip"], call.args["method"]
        if tip and method == "cash":
            call.reject("no_cash")
        order["state"] = "paid"
        order.active = False
        bill = call.create("bill")
        bill["order"] = order.id
        bill["number"] = order["number"]
        bill["total"] = order["total"]
        bill["tip"] = tip
        bill["method"] = method
        bill["at"] = call.context["command_time"]
        call.result["bill"] = bill.id
        call.result["total"] = order["total"] + tip

    def cancel(self, call: Context) -> None:
        """End an order without a bill; its dishes are sold to nobody."""
        order = _open_order(call)
        for line in order.children("line"):
            line.active = False
        order["state"] = "cancelled"
        order.active = False

    def close(self, call: Context) -> None:
        """End the house; it answers nothing from then on."""
        if call.record("house")["pin_digest"] != _digest(call):
            call.reject("wrong_pin")

    def open_tables(self, call: Context) -> None:
        """Show the order that each table has."""
        order = call.event
        if call.context["op"] == "deactivate":
            call.remove("open_tables", table=order["table"])
            return
        row = call.put("open_tables", table=order["table"])
        row["order"] = order.id
        for field in ("number", "guests", "total", "opened_at"):
            row[field] = order[field]

    def sales(self, call: Context) -> None:
        """Count what was sold of each dish on each day."""
        line = call.event
        sign = 1 if call.context["op"] == "create" else -1
        row = call.put("sales", day=call.context["command_time"] // DAY_MS, item=line["item"])
        row["quantity"] += sign * line["quantity"]
        row["amount"] += sign * line["quantity"] * line["price"]

    def bills(self, call: Context) -> None:
        """List the bills of each day."""
        bill = call.event
        row = call.put("bills", day=bill["at"] // DAY_MS, bill=bill.id)
        for field in ("order", "number", "total", "tip", "method", "at"):
            row[field] = bill[field]

    def refusals(self, call: Context) -> None:
        """Count what was refused, and why."""
        context = call.context
        row = call.put("refusals", command=context["name"], code=context["code"])
        row["count"] += 1
        row["last_at"] = context["command_time"]


def _open_order(call: Context) -> Row:
    order = call.record("order", call.args["order"])
    if order is None or not order.active:
        call.reject("no_order", f"there is no open order {call.args['order']}", "order")
    return order


def _digest(call: Context) -> bytes:
    text = f"{call.context['workspace']} {call.args['pin']}"
    return hashlib.sha256(text.encode()).digest()
