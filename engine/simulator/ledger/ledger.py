"""The application that the simulator runs: an order-sensitive account that never goes below zero.

Every tenth entry is over the manifest's check, so that all three ways to be rejected occur.
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
        """Keep the balance after each entry number."""
        row = ctx.put("entry", number=ctx.event["entries"])
        row["balance"] = ctx.event["balance"]
