"""The ledger's next version: it decides the same, and its view has another key and other rows.

Some seeds deploy it in the middle, so that views are built and switched under faults.
"""

from typing import Any


class Ledger:
    """One account per workspace."""

    def move(self, ctx: Any) -> None:
        """Add an amount, which may be negative."""
        account = ctx.record("account", 0) or ctx.create("account")
        balance = account["balance"] + ctx.args["amount"]
        if balance < 0:
            ctx.reject("overdrawn", f"balance {account['balance']}")
            return
        account["balance"] = balance
        account["entries"] = (account["entries"] + 1) % 11

    def project(self, ctx: Any) -> None:
        """Count how often an entry number had a balance, and remember when it did last."""
        row = ctx.put("entry", balance=ctx.event["balance"], number=ctx.event["entries"])
        row["times"] = row["times"] + 1
        row["newest"] = ctx.context["sequence"]
