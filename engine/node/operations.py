"""What an operator does to a running node: load its folder anew, drain it, let it serve again.

Called from any thread, looked at by the shell. Owns what is loaded and whether the node drains;
what comes into force, and when, the partitions' owners decide from what is told here (R10).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from engine import limits
from engine.application import Application
from engine.application.compat import diff
from engine.errors import ApplicationError
from engine.model import OWNS, NodeBeat, Phase
from engine.partition.deploying import Deploying, Loaded

log = structlog.get_logger("partita.node")


class Deployed(Protocol):
    """A replica, as far as this goes."""

    phase: Phase
    deploying: Deploying

    @property
    def serving(self) -> Application | None:
        """Return the application in force."""
        ...


class Operations:
    """The node's loaded application, and whether it wants partitions."""

    def __init__(
        self,
        node: str,
        process: bytes,
        loaded: Loaded,
        load: Callable[[], Application],
        replicas: Mapping[int, Deployed],
    ) -> None:
        self._node = node
        self._process = process
        self._load = load
        self._replicas = replicas
        self._lock = threading.Lock()
        self._told: dict[int, str] = {}
        self._in_force: dict[int, str] = {}
        self.loaded = loaded
        self.draining = False

    def reload(self, *, force: bool = False) -> Application:
        """Load the folder anew and announce it; `force` doesn't wait until every node has it.

        May block. Raises ApplicationError, the old one stays loaded: E1105 where what is in force
        can't be followed by it, another code where the folder holds an error.
        """
        with self._lock:
            application = self._load()
            for partition, replica in list(self._replicas.items()):
                if replica.serving is not None:
                    _check(partition, replica.serving, application)
            self.loaded = Loaded(application, (self._node,), force)
        log.info("application loaded", version=application.version, force=force)
        return application

    def drain(self) -> None:
        """Let go of every partition and want none."""
        if not self.draining:
            log.info("draining")
        self.draining = True

    def resume(self) -> None:
        """Serve again."""
        if self.draining:
            log.info("drain ended")
        self.draining = False

    def look(self, live: Sequence[NodeBeat]) -> None:
        """Find out which of the nodes that are there have not loaded it, and tell the replicas."""
        with self._lock:
            loaded = self.loaded
            fingerprint = loaded.application.fingerprint
            lacking = {beat.node for beat in live if beat.fingerprint != fingerprint}
            # Heartbeats come in order: once the own one is back, those before it were read.
            if not any(beat.node == self._node and beat.process == self._process for beat in live):
                lacking.add(self._node)
            lowest = min((beat.format for beat in live), default=limits.FORMAT)
            lowest = min(lowest, limits.FORMAT)
            if (lacking, lowest) != (set(loaded.lacking), loaded.format):
                lacks = tuple(sorted(lacking))
                self.loaded = Loaded(loaded.application, lacks, loaded.force, lowest)
        for partition, replica in self._replicas.items():
            replica.deploying.loaded = self.loaded
            index = replica.serving.index if replica.serving else 0
            replica.deploying.behind = _behind(live, partition, index)
        self._tell()

    def _tell(self) -> None:
        """Log what comes into force and what waits, once each."""
        for partition, replica in self._replicas.items():
            serving = replica.serving
            version = serving.version if serving else ""
            if version and self._in_force.get(partition, "") != version:
                self._in_force[partition] = version
                log.info("application in force", partition=partition, version=version)
        waiting = dict(self.waiting())
        for partition, reason in waiting.items():
            if self._told.get(partition) != reason:
                log.info("application waits", partition=partition, reason=reason)
        self._told = waiting

    def waiting(self) -> Mapping[int, str]:
        """Return why what is loaded is not in force, by partition owned here."""
        return {
            partition: replica.deploying.reason
            for partition, replica in list(self._replicas.items())
            if replica.phase is Phase.OWNING and replica.deploying.reason
        }

    def owned(self) -> int:
        """Return how many partitions this node has not let go of."""
        return sum(replica.phase in OWNS for replica in list(self._replicas.values()))


def _behind(live: Sequence[NodeBeat], partition: int, index: int) -> tuple[str, ...]:
    """Return the standbys of a partition that can't follow a Switch at once."""
    return tuple(
        beat.node
        for beat in live
        for held in beat.partitions
        if held.partition == partition
        and held.role == "standby"
        and (held.application < index or held.unbuilt > limits.BUILD_PAUSE_RECORDS)
    )


def _check(partition: int, serving: Application, application: Application) -> None:
    """Refuse what can't follow the application in force."""
    obstacles = diff(serving, application).obstacles
    if obstacles:
        raise ApplicationError(
            "E1105",
            "; ".join(f"{entry.where}: {entry.why}" for entry in obstacles),
            "`partita app diff OLD NEW` lists every change",
            version=application.version,
            partition=partition,
        )
