"""Heartbeats and the routing table on <app>.nodes, a compacted topic with the newest of each node.

Owns the thread that reads it from its begin. Judges no beat: who is alive is the node's business.
"""

import logging
import threading
from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, KafkaException, Message, TopicPartition

from engine import wire
from engine.errors import UnavailableError
from engine.log.kafka.beats import SCHEMA_KEY, Schemas, encode_beat, own_schema
from engine.log.kafka.connection import reason
from engine.log.kafka.logs import KafkaLogs
from engine.model import NodeBeat

NODES_MAX = 1_000
POLL_S = 0.1
CONSUME_MAX = 1_000
SCHEMA_EVERY = 240  # beats: once a minute, should it be lost or compacted away

_log = logging.getLogger("partita.kafka")


class KafkaDirectory:
    """Announces this node and knows the others'. Neither blocks."""

    def __init__(self, logs: KafkaLogs) -> None:
        self._topic = logs.connection.topic("nodes")
        self._aside = logs.aside
        self._consumer = logs.connection.reader("nodes", committed=False)
        self._lock = threading.Lock()
        self._beats: dict[str, NodeBeat] = {}
        self._closing = threading.Event()
        self._schemas = Schemas()
        self._announced = 0
        self._dropped = 0
        self._errors = 0
        self._thread = threading.Thread(target=self._run, name="partita-nodes", daemon=True)
        self._thread.start()

    def announce(self, beat: NodeBeat) -> None:
        """Send this node's heartbeat; one that can't be sent is counted and the next one tried."""
        try:
            if self._announced % SCHEMA_EVERY == 0:
                self._aside.send(self._topic, 0, *own_schema())
            self._announced += 1
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
        key, value = message.key() or b"", message.value()
        name = key.decode(errors="replace")
        try:
            if key.startswith(SCHEMA_KEY):
                self._schemas.learn(value or b"")
                return
            beat = self._schemas.decode(value) if value is not None else None
        except wire.WireError:
            self._errors += 1
            return
        with self._lock:
            self._beats.pop(name, None)  # back in as the newest: the first one is the oldest
            if beat is not None:
                self._beats[name] = beat
            if len(self._beats) > NODES_MAX:
                del self._beats[next(iter(self._beats))]
