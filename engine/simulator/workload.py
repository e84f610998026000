"""Clients of a simulated cluster, and what they remember to hold against it."""

import io
from collections import Counter
from dataclasses import dataclass

import fastavro

from engine import wire
from engine.application import Application
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Reply
from engine.ports import Clock, Random
from engine.world import uuid7

RETRY_STEPS = 80
SENT_AT_ONCE_MAX = 3


@dataclass(slots=True)
class Sent:
    """A command that a client wants an answer to; the same bytes again on silence."""

    command_id: bytes
    workspace: str
    amount: int
    value: bytes
    partition: int
    sent_step: int
    reply: Reply | None = None


class Clients:
    """Send moves of money, again on silence, sometimes twice, sometimes nonsense."""

    def __init__(
        self, broker: SimulatedBroker, application: Application, clock: Clock, random: Random
    ) -> None:
        self._broker = broker
        self._args = application.commands["move"].args
        self._clock = clock
        self._random = random
        self.sent: dict[bytes, Sent] = {}
        self.refusals: Counter[str] = Counter()
        self.faults: list[str] = []
        self._step = 0

    @property
    def waiting(self) -> list[Sent]:
        """Return the commands without an answer."""
        return [sent for sent in self.sent.values() if sent.reply is None]

    def step(self, *, fresh: bool) -> None:
        """Take replies, send again what is silent for long, and perhaps something new."""
        self._step += 1
        for _, reply in self._broker.take_replies():
            self._take(reply)
        for sent in self.waiting:
            if self._step - sent.sent_step > RETRY_STEPS:
                sent.sent_step = self._step
                self._broker.publish(sent.partition, sent.workspace.encode(), sent.value)
        if fresh and self._random.below(3) == 0:
            for _ in range(1 + self._random.below(SENT_AT_ONCE_MAX)):
                self._send()

    def _send(self) -> None:
        workspace = f"w{self._random.below(6)}"
        amount = self._random.below(30) - 12
        command_id = uuid7(self._clock.now_ms(), self._random.bytes(10))
        args = io.BytesIO()
        fastavro.schemaless_writer(args, self._args.avro, {"amount": amount})
        value = wire.encode_command(
            {
                "command_id": command_id,
                "name": "move",
                "args_schema": self._args.fingerprint,
                "args": args.getvalue(),
                "reply": {"partition": 0, "correlation": command_id},
            }
        )
        partition = wire.partition_of(workspace.encode(), self._broker.partitions)
        sent = Sent(command_id, workspace, amount, value, partition, self._step)
        self.sent[command_id] = sent
        self._broker.publish(partition, workspace.encode(), value)
        fate = self._random.below(20)
        if fate == 0:
            self._broker.publish(partition, workspace.encode(), value)
        elif fate == 1:
            self._broker.publish(partition, b"w0", self._random.bytes(20))
        elif fate == 2:
            self._broker.publish(1 - partition, workspace.encode(), b"\xc3\x01" + b"\0" * 9)

    def _take(self, reply: Reply) -> None:
        sent = self.sent.get(reply.command_id)
        if sent is None:
            return
        if reply.sequence == 0:
            self.refusals[reply.code] += 1
            return
        first = sent.reply
        if first is None:
            sent.reply = reply
        elif (first.sequence, first.code) != (reply.sequence, reply.code):
            self.faults.append(
                f"command {reply.command_id.hex()} was answered {first.code!r} at "
                f"{first.sequence}, then {reply.code!r} at {reply.sequence}"
            )
