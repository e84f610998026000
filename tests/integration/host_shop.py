"""A shop in builtin Python, as a folder of an application: what tests of hosts run."""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

from engine.application.folder import load_application

MANIFEST = """
application = { name = "shop", version = "%(version)s", partitions = 4 }
extensions.shop = { python = "shop:Shop" }
records.account = { schema = "account.avsc", kind = "singleton", checks.balance.max = 1000000 }
records.item = { schema = "item.avsc", kind = "operational", checks.quantity.min = 0 }
commands.open = { args = "open.avsc", run = "shop:open" }
commands.credit = { args = "amount.avsc", run = "shop:credit" }
commands.debit = { args = "amount.avsc", run = "shop:debit" }
commands.add = { args = "add.avsc", run = "shop:add", result = "added.avsc" }
commands.sell = { args = "sell.avsc", run = "shop:sell" }
commands.retire = { args = "sell.avsc", run = "shop:retire" }
commands.revive = { args = "sell.avsc", run = "shop:revive" }
commands.trouble = { args = "trouble.avsc", run = "shop:trouble" }
views.statement = { row = "statement.avsc", key = ["day:date", "entry:long"] }
views.stock = { row = "stock.avsc", key = ["name:string"] }
[projectors.statement]
on = ["account.create", "account.update"]
writes = ["statement"]
run = "shop:project_statement"
revision = 1
[projectors.stock]
on = ["item.create", "item.update", "item.deactivate", "item.activate", "sell.execute"]
writes = ["stock"]
run = "shop:project_stock"
revision = 1
"""

SOURCE = """
class Shop:
    def open(self, call):
        if call.record("account"):
            call.reject("open_already", "this account is open", "owner")
        account = call.create("account")
        account["owner"] = call.args["owner"]
        account["state"] = "open"

    def credit(self, call):
        account = call.record("account") or call.reject("no_account", "open it first")
        account["balance"] += call.args["amount"]
        account["entries"] += 1

    def debit(self, call):
        account = call.record("account") or call.reject("no_account", "open it first")
        if account["balance"] < call.args["amount"]:
            call.reject("insufficient_funds", "the balance is too low", "amount")
        account["balance"] -= call.args["amount"]
        account["entries"] += 1

    def add(self, call):
        item = call.create("item")
        item["name"] = call.args["name"]
        item["quantity"] = call.args["quantity"]
        item.append("marks", call.args["quantity"])
        call.result["id"] = item.id

    def sell(self, call):
        item = self.item(call)
        item["quantity"] -= 1
        item.append("sales")["at"] = call.context["command_time"]

    def retire(self, call):
        self.item(call).active = False

    def revive(self, call):
        self.item(call).active = True

    def item(self, call):
        return call.record("item", call.args["id"]) or call.reject("no_item", "no such item")

    def trouble(self, call):
        getattr(self, "trouble_" + call.args["kind"])(call)

    def trouble_raises(self, call):
        call.create("item")["name"] = "lost"
        raise ValueError("bad luck")

    def trouble_exits(self, call):
        raise SystemExit(3)

    def trouble_recursion(self, call):
        self.trouble_recursion(call)

    def trouble_type(self, call):
        call.create("item")["quantity"] = "many"

    def trouble_range(self, call):
        call.create("item")["quantity"] = 1 << 31

    def trouble_swallows(self, call):
        try:
            call.create("item")["quantity"] = None
        except Exception:
            pass

    def trouble_stubborn(self, call):
        try:
            call.record("item", 99_999)
        except Exception:
            raise ValueError("a row that is not cached is nobody's fault")
        call.reject("went_on", "when it was")

    def trouble_readonly(self, call):
        call.args["kind"] = "x"

    def trouble_field(self, call):
        call.create("item")["colour"] = 1

    def trouble_large(self, call):
        call.create("item")["name"] = "x" * 70_000

    def trouble_row(self, call):
        item = call.create("item")
        for _ in range(3):
            item.append("labels", "x" * 65_000)
        for _ in range(2):
            item.append("labels", "x" * 65_000)

    def trouble_outcome(self, call):
        for _ in range(5):
            item = call.create("item")
            for _ in range(3):
                item.append("labels", "x" * 65_000)

    def trouble_changes(self, call):
        for _ in range(101):
            call.create("item")

    def trouble_handles(self, call):
        item = call.create("item")
        for _ in range(5_000):
            item.append("sales")

    def trouble_inactive(self, call):
        item = call.record("item", 65_536)
        item.active = False
        item = call.record("item", 65_537)
        item["quantity"] = 1

    def trouble_view(self, call):
        call.put("stock", name="x")

    def trouble_projector(self, call):
        call.create("item")["name"] = "poison"

    def trouble_code(self, call):
        call.reject("Not A Code", "")

    def trouble_refusal(self, call):
        call.reject("id_expired", "")

    def trouble_text(self, call):
        raise ValueError("\\ud800" * 2_000)

    def project_statement(self, call):
        day = call.context["command_time"] // 86_400_000
        row = call.put("statement", day=day, entry=call.event["entries"])
        row["balance"] = call.event["balance"]
        row["command"] = call.context["name"]

    def project_stock(self, call):
        if call.context["op"] == "execute":
            row = call.put("stock", name="#sold")
            row["quantity"] += 1
            return
        if call.event["name"] == "poison":
            raise ValueError("a projector's bad luck")
        if call.context["op"] == "deactivate":
            call.remove("stock", name=call.event["name"])
            return
        row = call.put("stock", name=call.event["name"])
        row["quantity"] = call.event["quantity"]
        row["id"] = call.event.id
"""


def avsc(name, *fields):
    shown = ", ".join(f'{{"name": "{field}", "type": {type_}}}' for field, type_ in fields)
    return f'{{"type": "record", "name": "{name}", "fields": [{shown}]}}'


STATE = '{"type": "enum", "name": "State", "symbols": ["new", "open"]}'
SALES = (
    '{"type": "array", "items": {"type": "record", "name": "Sale", "fields": '
    '[{"name": "at", "type": "long"}]}}'
)
FILES = {
    "account.avsc": avsc(
        "Account",
        ("owner", '"string"'),
        ("balance", '"long"'),
        ("entries", '"long"'),
        ("state", STATE),
        ("note", '["null", "string"]'),
    ),
    "item.avsc": avsc(
        "Item",
        ("name", '"string"'),
        ("quantity", '"int"'),
        ("marks", '{"type": "array", "items": "int"}'),
        ("labels", '{"type": "array", "items": "string"}'),
        ("sales", SALES),
    ),
    "open.avsc": avsc("Open", ("owner", '"string"')),
    "amount.avsc": avsc("Amount", ("amount", '"long"')),
    "add.avsc": avsc("Add", ("name", '"string"'), ("quantity", '"int"')),
    "added.avsc": avsc("Added", ("id", '"long"')),
    "sell.avsc": avsc("Sell", ("id", '"long"')),
    "trouble.avsc": avsc("Trouble", ("kind", '"string"')),
    "statement.avsc": avsc("Statement", ("balance", '"long"'), ("command", '"string"')),
    "stock.avsc": avsc("Stock", ("quantity", '"long"'), ("id", '"long"')),
}


def build(index=1, version="1.0.0", files=FILES, source=SOURCE, manifest=MANIFEST):
    """Load the application from a folder; `index` is that of its Application record."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "application.toml").write_text(manifest % {"version": version})
        (path / "shop.py").write_text(source)
        for name, text in files.items():
            (path / name).write_text(text)
        return replace(load_application(path), index=index)


shop = functools.cache(build)
