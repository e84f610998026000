"""A client of a Partita application in plain confluent-kafka and fastavro.

It imports nothing of the engine: what it knows is schemas/command.avsc, the schema of a command's
arguments, and the names of three topics. Copy it into your own program.

    python loadtest/plain_client.py send bank credit acct-1 '{"amount": 5}' \\
        --args-schema topology/bank/payment.avsc
    python loadtest/plain_client.py events bank --limit 10
"""

import argparse
import io
import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any, cast

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
SINGLE_OBJECT = b"\xc3\x01"


def crc64(schema: Any) -> bytes:
    """Return a schema's CRC-64-AVRO fingerprint, little endian as in the single-object encoding."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def uuid7() -> bytes:
    """Return a new command id. Ids of version 7 are remembered for ever."""
    body = bytearray(int(time.time() * 1_000).to_bytes(6, "big") + os.urandom(10))
    body[6] = 0x70 | (body[6] & 0x0F)
    body[8] = 0x80 | (body[8] & 0x3F)
    return bytes(body)


class Codec:
    """One schema: encodes and decodes its values with Avro's single-object prefix."""

    def __init__(self, name: str) -> None:
        raw = json.loads((SCHEMAS / f"{name}.avsc").read_text())
        self._schema = fastavro.parse_schema(raw, named_schemas={})
        self._prefix = SINGLE_OBJECT + crc64(raw)

    def encode(self, fields: dict[str, Any]) -> bytes:
        """Return the bytes of a record."""
        out = io.BytesIO(self._prefix)
        out.seek(len(self._prefix))
        fastavro.schemaless_writer(out, self._schema, fields)
        return out.getvalue()

    def decode(self, value: bytes) -> dict[str, Any] | None:
        """Return a record, or None if these bytes are of another schema."""
        if not value.startswith(self._prefix):
            return None
        source = io.BytesIO(value[len(self._prefix) :])
        return cast("dict[str, Any]", fastavro.schemaless_reader(source, self._schema, None))


class Client:
    """Publishes commands of one application and reads its replies and events."""

    def __init__(self, servers: str, application: str, prefix: str = "") -> None:
        self._servers = servers
        self._topics = f"{prefix}{application}."
        self._command, self._reply = Codec("command"), Codec("reply")
        self._outcome = Codec("outcome")
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                # Java's default partitioner; librdkafka's own default lands elsewhere, and a
                # command in the wrong partition is rejected.
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
            }
        )
        self._failed: list[str] = []

    def command(
        self, name: str, args_schema: Any, args: dict[str, Any], **optional: Any
    ) -> dict[str, Any]:
        """Return a command; `optional` are further fields of schemas/command.avsc."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(args_schema, named_schemas={}), args)
        return {
            "command_id": uuid7(),
            "name": name,
            "args_schema": int.from_bytes(crc64(args_schema), "little", signed=True),
            "args": body.getvalue(),
            **optional,
        }

    def publish(self, workspace: str, command: dict[str, Any]) -> None:
        """Queue a command; `flush` says whether the broker has all of them."""
        value = self._command.encode(command)
        while True:
            try:
                self._producer.produce(
                    f"{self._topics}commands", value, workspace.encode(), on_delivery=self._reported
                )
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until the broker has every command; publish one again with the same id if not."""
        left = self._producer.flush(timeout_s)
        if left or self._failed:
            raise KafkaException(f"{left} not sent, {self._failed[:1]}")

    def _reported(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append(error.str())

    def call(
        self, workspace: str, command: dict[str, Any], timeout_s: float = 10.0
    ) -> dict[str, Any] | None:
        """Publish a command and wait for its reply on <app>.replies; None = none came in time.

        Replies are best effort: on silence publish the same command again, and the first outcome
        is the answer.
        """
        topic, partition = f"{self._topics}replies", 0
        consumer = self._reader()
        try:
            place = TopicPartition(topic, partition)
            place.offset = consumer.get_watermark_offsets(place, timeout=timeout_s)[1]
            consumer.assign([place])
            correlation = os.urandom(8)
            reply_to = {"partition": partition, "correlation": correlation}
            self.publish(workspace, {**command, "reply": reply_to})
            self.flush()
            deadline = time.monotonic() + timeout_s
            while time.monotonic() < deadline:
                message = consumer.poll(0.1)
                if message is None or message.error() is not None:
                    continue
                reply = self._reply.decode(message.value() or b"")
                if reply is not None and reply["correlation"] == correlation:
                    return reply
            return None
        finally:
            consumer.close()

    def outcomes(self, limit: int, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """Return outcomes of all partitions from the begin, each command's first one.

        The event log may hold records that a node wrote after it had lost its partition; they
        don't count. The rule in full is in the documentation (and `partita events` applies it);
        this short form is right for outcomes: a record counts if it has the newest owner's epoch
        and the next sequence.
        """
        topic = f"{self._topics}events"
        owner = Codec("owner")
        consumer = self._reader()
        try:
            partitions = consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            epochs, sequences = dict.fromkeys(partitions, 0), dict.fromkeys(partitions, 0)
            found: list[dict[str, Any]] = []
            quiet_at = time.monotonic() + timeout_s
            while len(found) < limit and time.monotonic() < quiet_at:
                for message in consumer.consume(500, 0.2):
                    number, value = message.partition() or 0, message.value() or b""
                    quiet_at = time.monotonic() + timeout_s
                    claim, outcome = owner.decode(value), self._outcome.decode(value)
                    if claim is not None:
                        epochs[number] = max(epochs[number], claim["epoch"])
                    elif outcome is not None:
                        place = (outcome["epoch"], outcome["sequence"])
                        if place == (epochs[number], sequences[number] + 1):
                            sequences[number] += 1
                            found.append(outcome)
            return found[:limit]
        finally:
            consumer.close()

    def _reader(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": f"{self._topics}plain-client",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )


def readable(fields: dict[str, Any]) -> str:
    """Return a record as JSON, ids as UUIDs and other bytes as hex."""

    def plain(value: Any) -> str:
        if isinstance(value, bytes):
            return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
        return str(value)

    return json.dumps(fields, default=plain)


def main() -> int:
    """Send one command and print its reply, or print outcomes."""
    parser = argparse.ArgumentParser(description="A Partita client without Partita.")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092")
    parser.add_argument("--prefix", default="")
    words = parser.add_subparsers(dest="word", required=True)
    send = words.add_parser("send")
    send.add_argument("application")
    send.add_argument("name")
    send.add_argument("workspace")
    send.add_argument("args", type=json.loads)
    send.add_argument("--args-schema", type=Path, required=True)
    events = words.add_parser("events")
    events.add_argument("application")
    events.add_argument("--limit", type=int, default=10)
    given = parser.parse_args()
    client = Client(given.bootstrap_servers, given.application, given.prefix)
    if given.word == "events":
        for outcome in client.outcomes(given.limit):
            print(readable(outcome))
        return 0
    schema = json.loads(given.args_schema.read_text())
    reply = client.call(given.workspace, client.command(given.name, schema, given.args))
    if reply is None:
        print("no reply in time; send the same command id again", file=sys.stderr)
        return 1
    print(readable(reply))
    return 0 if reply["code"] == "" else 2


if __name__ == "__main__":
    sys.exit(main())
