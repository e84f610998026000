"""The restaurant in Python: the same commands and projectors as topology/restaurant/restaurant.c.

test_restaurant.py sends both the same commands and finds no difference.
"""

DAY_MS = 86_400_000


class Restaurant:
    """Commands and projectors, by the names that the manifest gives."""

    def found(self, call):
        """Make the house."""
        house = call.create("house")
        house["name"] = call.args["name"]
        house["day"] = call.context["command_time"] // DAY_MS
        if not 4 <= len(call.args["pin"].encode()) <= 12:
            call.reject("bad_pin", "", "pin")
        house["pin_hash"] = _hash(call)

    def order(self, call):
        """Take an order at a free table."""
        table = call.args["table"]
        if call.unique("order.table", table=table):
            call.reject("table_taken", "", "table")
        house = call.record("house")
        house["orders"] += 1
        house["open"] += 1
        order = call.create("order")
        order["table"] = table
        order["day"] = house["day"]
        order["number"] = house["orders"]
        order["guests"] = call.args["guests"]
        order["opened_at"] = call.context["command_time"]
        seats = call.record("table", table)
        if seats is not None and seats["seats"] < order["guests"]:
            call.reject("no_seat", "", "guests")
        self._take(call, order)

    def add(self, call):
        """Add dishes to an open order."""
        self._take(call, _open_order(call))

    def _take(self, call, order):
        """Add a line for each dish, at the price of today's menu."""
        for dish in call.args.items("lines"):
            line = order.child("line")
            line["item"] = dish["dish"]
            item = call.record("item", dish["dish"])
            if item is None or not item.active:
                call.reject("no_item", "", "lines.dish")
            line["quantity"] = dish["quantity"]
            line["price"] = item["price"]
            line["day"] = order["day"]
            line["note"] = dish["note"]
            order["total"] += dish["quantity"] * item["price"]
        call.result["order"] = order.id
        call.result["number"] = order["number"]
        call.result["total"] = order["total"]

    def take_back(self, call):
        """Take a line out of an open order."""
        order = _open_order(call)
        line = order.child_of("line", call.args["line"])
        if line is None or not line.active:
            call.reject("no_line", "", "line")
        order["total"] -= line["quantity"] * line["price"]
        line.active = False

    def pay(self, call):
        """End an order with a bill."""
        order = _open_order(call)
        tip, method = call.args["tip"], call.args["method"]
        if tip and method == "cash":
            call.reject("no_cash", "", "tip")
        house = _end(call, order, "paid")
        bill = call.create("bill")
        bill["order"] = order.id
        bill["number"] = order["number"]
        bill["total"] = order["total"]
        bill["tip"] = tip
        bill["method"] = method
        bill["day"] = order["day"]
        bill["at"] = call.context["command_time"]
        house["bills"] += 1
        house["sales"] += order["total"]
        house["tips"] += tip
        call.result["bill"] = bill.id
        call.result["total"] = order["total"] + tip

    def cancel(self, call):
        """End an order without a bill; its dishes are sold to nobody."""
        order = _open_order(call)
        for line in order.children("line"):
            line.active = False
        _end(call, order, "cancelled")

    def close_day(self, call):
        """Sum the day up and begin the next one."""
        house = call.record("house")
        if house["open"]:
            call.reject("orders_open")
        day, closing = house["day"], call.create("closing")
        for row in (closing, call.result):
            row["day"] = day
            for field in ("bills", "sales", "tips"):
                row[field] = house[field]
        house["day"] = max(call.context["command_time"] // DAY_MS, day + 1)
        for field in ("orders", "bills", "sales", "tips"):
            house[field] = 0

    def close(self, call):
        """End the house; it answers nothing from then on."""
        house = call.record("house")
        if house["pin_hash"] != _hash(call):
            call.reject("wrong_pin", "", "pin")
        if house["open"]:
            call.reject("orders_open")

    def open_tables(self, call):
        """Show the order that each table has."""
        order = call.event
        if call.context["op"] == "deactivate":
            call.remove("open_tables", table=order["table"])
            return
        row = call.put("open_tables", table=order["table"])
        row["order"] = order.id
        for field in ("number", "guests", "total", "opened_at"):
            row[field] = order[field]

    def sales(self, call):
        """Count what was sold of each dish on each day."""
        line = call.event
        sign = 1 if call.context["op"] == "create" else -1
        day = line["day"]
        row = call.put("sales", day=day, item=line["item"])
        row["quantity"] += sign * line["quantity"]
        row["amount"] += sign * line["quantity"] * line["price"]
        first, most = call.put("item_of_the_day", day=day), 0
        for sold in call.scan("sales", day=day):
            if sold["quantity"] > most:
                most = sold["quantity"]
                first["item"] = sold["item"]
        first["quantity"] = most
        if most == 0:
            call.remove("item_of_the_day", day=day)

    def bills(self, call):
        """List the bills of each day."""
        bill = call.event
        row = call.put("bills", date=bill["day"], bill=bill.id)
        for field in ("order", "day", "number", "total", "tip", "method", "at"):
            row[field] = bill[field]

    def days(self, call):
        """List the days that are closed."""
        row = call.put("days", date=call.event["day"])
        for field in ("day", "bills", "sales", "tips"):
            row[field] = call.event[field]

    def refusals(self, call):
        """Count what was refused, and why."""
        context = call.context
        row = call.put("refusals", command=context["name"], code=context["code"])
        row["count"] += 1
        row["last_at"] = context["command_time"]


def _open_order(call):
    order = call.record("order", call.args["order"])
    if order is None or not order.active:
        call.reject("no_order", "", "order")
    return order


def _end(call, order, state):
    house = call.record("house")
    house["open"] -= 1
    order["state"] = state
    order.active = False
    return house


def _hash(call):
    value = 0xCBF29CE484222325
    for byte in call.args["pin"].encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value - (1 << 64) if value >> 63 else value
