"""The application whose owner is killed: boxes to fill, so that there is state, and to touch."""

from typing import Any


class Vault:
    """One box per workspace."""

    def fill(self, ctx: Any) -> None:
        """Put so much into a box."""
        box = ctx.record("box", 0) or ctx.create("box")
        box["content"] = ctx.args["content"]

    def touch(self, ctx: Any) -> None:
        """Count a touch."""
        box = ctx.record("box", 0) or ctx.create("box")
        box["touched"] = box["touched"] + ctx.args["by"]
