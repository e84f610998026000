"""A small application in a folder, and the shipped replica to run it on any logs."""

from pathlib import Path

from engine import wire
from engine.application import Application
from engine.application.folder import load_application
from engine.application.schema import encode
from engine.model import Phase
from engine.partition.building import BuildPorts
from engine.partition.processor import Ports
from engine.partition.replica import Identity, Replica
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost
from engine.store.memory import MemoryStore
from engine.world import SeededRandom, uuid7

MANIFEST = """
application = { name = "purse", version = "1.0.0", partitions = 1 }
records.purse = { schema = "purse.avsc", kind = "singleton" }
commands.move = { args = "move.avsc", run = "purse:move" }
extensions.purse = { python = "purse:Purse" }
views.total = { row = "purse.avsc", key = ["number:long"] }
[projectors.total]
on = ["purse.create", "purse.update"]
writes = ["total"]
run = "purse:project"
revision = 1
"""
CODE = '''
"""A purse."""


class Purse:
    """One per workspace."""

    def move(self, ctx):
        """Add an amount."""
        purse = ctx.record("purse", 0) or ctx.create("purse")
        if purse["amount"] + ctx.args["amount"] < 0:
            ctx.reject("empty", "not that much")
            return
        purse["amount"] = purse["amount"] + ctx.args["amount"]

    def project(self, ctx):
        """Show it."""
        ctx.put("total", number=1)["amount"] = ctx.event["amount"]
'''
SCHEMA = """{"type": "record", "name": "%s", "fields": [
  {"name": "amount", "type": "long", "default": 0}]}"""


def write_purse(folder: Path, name: str = "purse") -> Application:
    """Write the application's files, and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "application.toml").write_text(MANIFEST.replace('name = "purse"', f'name = "{name}"'))
    (folder / "purse.py").write_text(CODE)
    (folder / "purse.avsc").write_text(SCHEMA % "Purse")
    (folder / "move.avsc").write_text(SCHEMA % "Move")
    return load_application(folder)


def move(application: Application, number: int, now_ms: int) -> bytes:
    """Return a command that adds -2 to 4; the same number and time give the same id."""
    args = application.commands["move"].args
    return wire.encode_command(
        {
            "command_id": uuid7(now_ms, number.to_bytes(10)),
            "name": "move",
            "args_schema": args.fingerprint,
            "args": encode(args, {"amount": number % 7 - 2}),
        }
    )


class Silent:
    """Observes nothing."""

    def batch(self, stage, partition, decided) -> None:
        pass


class Runner:
    """One replica of partition 0, ticked by hand."""

    def __init__(self, application, logs, content, clock) -> None:
        self.store = MemoryStore()
        self._logs = logs
        ports = Ports(
            commands=logs.command_log(0),
            events=logs.event_log(0),
            host=PythonHost(load_guests),
            replies=logs.replies,
            clock=clock,
            observer=Silent(),
            builds=BuildPorts(logs.history(0), lambda: PythonHost(load_guests), clock),
        )
        identity = Identity("n", 0, application)
        self.replica = Replica(identity, ports, self.store, content, SeededRandom(1))
        self.replica.open()

    def settle(self, commands: int) -> None:
        """Tick until all of the first `commands` commands are decided and nothing moves."""
        quiet = 0
        for _ in range(10_000):
            moved = self.replica.tick()
            self._logs.wait(5)
            done = self.replica.phase is Phase.OWNING and self.replica.resume >= commands
            quiet = 0 if moved or not done else quiet + 1
            if quiet > 20:
                return
        raise AssertionError(f"not settled: {self.replica.phase} {self.replica.reason}")
