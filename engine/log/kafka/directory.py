"""Heartbeats and the routing table on <app>.nodes, a compacted topic with the newest of each node.

Owns the thread that reads it from its begin. Judges no beat: who is alive is the node's business.
"""

import logging
import threading
from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, KafkaException, Message, TopicPartition

from engine import wire
from engine.errors import UnavailableError
from engine.log.kafka.connection import reason
from engine.log.kafka.logs import KafkaLogs
from engine.model import Held, NodeBeat

NODES_MAX = 1_000
POLL_S = 0.1
CONSUME_MAX = 1_000

_log = logging.getLogger("partita.kafka")


def encode_beat(beat: NodeBeat) -> bytes:
    """Return a heartbeat's bytes (schemas/node.avsc)."""
    return wire.encode_node(
        {
            "node": beat.node,
            "process": beat.process,
            "engine_version": beat.engine_version,
            "format": beat.format,
            "application": beat.application,
            "fingerprint": beat.fingerprint,
            "http": beat.http,
            "sent_at": beat.sent_at,
            "leaving": beat.leaving,
            "draining": beat.draining,
            "partitions": [
                {
                    "partition": held.partition,
                    "role": held.role,
                    "epoch": held.epoch,
                    "sequence": held.sequence,
                    "application": held.application,
                    "unbuilt": held.unbuilt,
                    "wants": held.wants,
                }
                for held in beat.partitions
            ],
        }
    )


def decode_beat(value: bytes) -> NodeBeat:
    """Return a heartbeat; raise WireError if it is none."""
    fields = wire.decode_node(value)
    partitions = tuple(Held(**held) for held in fields.pop("partitions"))
    return NodeBeat(**fields, partitions=partitions)


class KafkaDirectory:
    """Announces this node and knows the others'. Neither blocks."""

    def __init__(self, logs: KafkaLogs) -> None:
        self._topic = logs.connection.topic("nodes")
        self._aside = logs.aside
        self._consumer = logs.connection.reader("nodes", committed=False)
        self._lock = threading.Lock()
        self._beats: dict[str, NodeBeat] = {}
        self._closing = threading.Event()
        self._dropped = 0
        self._errors = 0
        self._thread = threading.Thread(target=self._run, name="partita-nodes", daemon=True)
        self._thread.start()

    def announce(self, beat: NodeBeat) -> None:
        """Send this node's heartbeat; one that can't be sent is counted and the next one tried."""
        try:
            self._aside.send(self._topic, 0, beat.node.encode(), encode_beat(beat))
        except UnavailableError:
            self._dropped += 1

    def peers(self) -> Sequence[NodeBeat]:
        """Return the newest beat of every node."""
        with self._lock:
            return list(self._beats.values())

    def statistics(self) -> dict[str, int]:
        """Return counters."""
        return {
            "nodes": len(self._beats),
            "beats_dropped": self._dropped,
            "errors": self._errors,
        }

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        while not self._closing.is_set():
            try:
                first = self._consumer.poll(POLL_S)
                if first is None:
                    continue
                messages = [first, *self._consumer.consume(CONSUME_MAX, 0)]
            except KafkaException as fault:
                self._errors += 1
                _log.warning("heartbeats: %s", reason(fault))
                continue
            for message in messages:
                self._met(message)
        self._consumer.close()

    def _met(self, message: Message) -> None:
        if message.error() is not None:
            self._errors += 1
            return
        name = (message.key() or b"").decode(errors="replace")
        value = message.value()
        try:
            beat = decode_beat(value) if value is not None else None
        except wire.WireError:
            self._errors += 1
            return
        with self._lock:
            self._beats.pop(name, None)  # back in as the newest: the first one is the oldest
            if beat is not None:
                self._beats[name] = beat
            if len(self._beats) > NODES_MAX:
                del self._beats[next(iter(self._beats))]
