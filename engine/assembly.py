"""The composition root: the only file that names adapters."""

from engine.model import Decided, Stage
from engine.partition.processor import Ports
from engine.partition.replica import Identity, Replica
from engine.ports import (
    Clock,
    Logs,
    ObjectStore,
    Observer,
    PartitionStore,
    Random,
    ReplySink,
    StateHost,
)


class NoObserver:
    """Listens to nothing."""

    def batch(self, stage: Stage, partition: int, decided: Decided) -> None:
        """Do nothing."""


def python_host() -> StateHost:
    """Return a plain Python state host with whatever extensions its application has."""
    from engine.sandbox.guests import load_guests  # noqa: PLC0415 - wasmtime loads slowly
    from engine.sandbox.python import PythonHost  # noqa: PLC0415

    return PythonHost(load_guests)


def build_replica(  # noqa: PLR0913 - the composition root names every part once
    identity: Identity,
    logs: Logs,
    store: PartitionStore,
    content: ObjectStore,
    *,
    replies: ReplySink,
    host: StateHost,
    clock: Clock,
    random: Random,
    observer: Observer,
) -> Replica:
    """Return a replica of one partition; `open` it next."""
    ports = Ports(
        commands=logs.command_log(identity.partition),
        events=logs.event_log(identity.partition),
        host=host,
        replies=replies,
        clock=clock,
        observer=observer,
    )
    return Replica(identity, ports, store, content, random)
