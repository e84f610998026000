"""The workload of most cases: `credit` of topology/bank, which makes 13 host calls.

Commands are made as any client makes them, but from parts that are encoded once: a bench must not
wait for whoever feeds it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from engine import wire
from engine.application import Application
from engine.application.folder import load_application
from engine.application.schema import encode, from_json
from engine.errors import ConfigError
from engine.world import SeededRandom, SystemClock, SystemRandom, uuid7

FOLDER = Path("topology/bank")
AMOUNTS = 64
_RANDOM_BYTES = 10
_ZIPF = 0.99


class Sendable(NamedTuple):
    """A command on its way into a partition's log."""

    partition: int
    key: bytes
    value: bytes


class Bank:
    """The accounts of a bench, and the commands for them."""

    def __init__(self, folder: Path, accounts: int) -> None:
        if not folder.is_dir():
            hint = "Run it in a clone of the repository, or name the folder with --application"
            raise ConfigError("E1001", f"there is no folder {folder}", hint)
        self.folder = folder
        self.application = built(folder)
        self.accounts = accounts
        self.partitions = self.application.partitions
        self._clock = SystemClock()
        self._random = SystemRandom()
        self._pool, self._pool_at, self._now_ms = b"", 0, 0

    def key(self, account: int) -> bytes:
        """Return the workspace of an account."""
        return b"a%07d" % account

    def partition(self, account: int) -> int:
        """Return an account's partition."""
        return wire.partition_of(self.key(account), self.partitions)

    def opens(self) -> Iterator[Sendable]:
        """Yield the commands that open every account."""
        envelope = self._envelope("open", {"owner": "someone"})
        for account in range(self.accounts):
            key = self.key(account)
            partition = wire.partition_of(key, self.partitions)
            yield Sendable(partition, key, envelope(self._id()))

    def credits(self, count: int, choose: Callable[[], int] | None = None) -> Iterator[Sendable]:
        """Yield credits of accounts that `choose` names; else each as likely as any other."""
        envelopes = [
            self._envelope("credit", {"amount": amount, "reference": f"payment {amount}"})
            for amount in range(1, AMOUNTS + 1)
        ]
        pick = choose or uniform(self.accounts)
        places: dict[int, tuple[int, bytes]] = {}
        for at in range(count):
            account = pick()
            place = places.get(account)
            if place is None:
                place = places[account] = (self.partition(account), self.key(account))
            yield Sendable(*place, envelopes[at % AMOUNTS](self._id()))

    def account_body(self) -> bytes:
        """Return the record of an account that was opened and not used yet."""
        schema = self.application.records["account"].schema
        fields = {"owner": "someone", "opened_at": "2026-01-01T00:00:00Z"}
        return encode(schema, from_json(schema, fields))

    def _envelope(self, name: str, args: dict[str, object]) -> Callable[[bytes], bytes]:
        """Return what makes a command of an id: the id is the envelope's first field."""
        schema = self.application.commands[name].args
        value = wire.encode_command(
            {
                "command_id": bytes(16),
                "name": name,
                "args_schema": schema.fingerprint,
                "args": encode(schema, from_json(schema, args)),
            }
        )
        head, tail = value[: wire.HEADER_BYTES], value[wire.HEADER_BYTES + 16 :]
        return lambda command_id: head + command_id + tail

    def _id(self) -> bytes:
        """Return a new command id; randomness is fetched for many at once."""
        if self._pool_at >= len(self._pool):
            self._pool, self._pool_at = self._random.bytes(_RANDOM_BYTES * 1_000), 0
            self._now_ms = self._clock.now_ms()
        start, self._pool_at = self._pool_at, self._pool_at + _RANDOM_BYTES
        return uuid7(self._now_ms, self._pool[start : self._pool_at])


def built(folder: Path) -> Application:
    """Return an application, its extensions built if they are not yet."""
    from engine.sandbox.sdk.build import build_all  # noqa: PLC0415 - an author's tool
    from engine.sandbox.sdk.generate import read_sources  # noqa: PLC0415

    targets = [each.target for each in read_sources(folder).extensions.values()]
    if not all((folder / target).is_file() for target in targets):
        build_all(folder)
    return load_application(folder)


def uniform(accounts: int) -> Callable[[], int]:
    """Return a choice in which every account is as likely as any other."""
    random = SeededRandom(1)
    return lambda: random.below(accounts)


def zipf(accounts: int) -> Callable[[], int]:
    """Return a choice by Zipf's law with exponent 0.99, as YCSB draws it; hot ones lie apart.

    Source: Gray et al., Quickly generating billion-record synthetic databases, 1994.
    """
    random = SeededRandom(1)
    zeta = _zeta(accounts)
    alpha = 1 / (1 - _ZIPF)
    eta = (1 - (2 / accounts) ** (1 - _ZIPF)) / (1 - _zeta(2) / zeta)
    scale = 1 << 53

    def choose() -> int:
        drawn = random.below(scale) / scale
        area = drawn * zeta
        if area < 1:
            rank = 0
        elif area < 1 + 0.5**_ZIPF:
            rank = 1
        else:
            rank = int(accounts * (eta * drawn - eta + 1) ** alpha)
        # A fixed step without a common divisor scatters the ranks over all accounts.
        return rank * 7_368_787 % accounts

    return choose


def _zeta(count: int) -> float:
    """Return the sum of 1 / k ** 0.99; its tail as an integral, which is exact enough."""
    exact = min(count, 10_000)
    total = sum(k**-_ZIPF for k in range(1, exact + 1))
    if count > exact:
        power = 1 - _ZIPF
        total += ((count + 0.5) ** power - (exact + 0.5) ** power) / power
    return total
