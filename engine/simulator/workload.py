"""Clients of a simulated cluster, and what they remember to hold against it.

Some publish to the command log themselves and wait on the replies topic, some ask a node as HTTP
does: any node, which answers itself or says who would. All send the same bytes again on silence.
"""

import io
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass

import fastavro

from engine import wire
from engine.application import Application
from engine.errors import Code, UnavailableError
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Reply
from engine.node.api import Where
from engine.ports import Clock, Random
from engine.simulator.cluster import Cluster
from engine.simulator.machine import SimulatedNode
from engine.world import uuid7

RETRY_STEPS = 80
CALM_RETRY_STEPS = 20
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
    by_http: bool = False
    asked: "Future[Reply] | None" = None
    expired: bool = False  # told so, for good: it may have been decided long ago


class Clients:
    """Send moves of money, again on silence, sometimes twice, sometimes nonsense."""

    def __init__(
        self, cluster: Cluster, application: Application, clock: Clock, random: Random
    ) -> None:
        self._cluster = cluster
        self._broker: SimulatedBroker = cluster.broker
        self._args = application.commands["move"].args
        self._clock = clock
        self._random = random
        self.sent: dict[bytes, Sent] = {}
        self._open: dict[bytes, Sent] = {}  # those without an answer, and some with one
        self.refusals: Counter[str] = Counter()
        self.faults: list[str] = []
        self._step = 0

    @property
    def waiting(self) -> list[Sent]:
        """Return the commands without an answer."""
        return [one for one in self._open.values() if one.reply is None and not one.expired]

    def step(self, *, fresh: bool) -> None:
        """Take replies, send again what is silent for long, and perhaps something new."""
        self._step += 1
        for _, reply in self._broker.take_replies():
            self._take(reply)
        self._open = {sent.command_id: sent for sent in self.waiting}
        patience = RETRY_STEPS if fresh else CALM_RETRY_STEPS
        for sent in list(self._open.values()):
            self._look(sent)
            if self._step - sent.sent_step > patience:
                sent.sent_step = self._step
                self._ask(sent)
        if fresh and self._random.below(3) == 0:
            for _ in range(1 + self._random.below(SENT_AT_ONCE_MAX)):
                self._send()

    def _look(self, sent: Sent) -> None:
        """Take the answer of the node that was asked; an error means to ask again."""
        if sent.asked is None or not sent.asked.done():
            return
        future, sent.asked = sent.asked, None
        if future.exception() is None:
            self._take(future.result())
        else:
            self.refusals["unavailable"] += 1
            sent.sent_step = self._step - RETRY_STEPS

    def _ask(self, sent: Sent) -> None:
        """Send a command, perhaps again."""
        if not sent.by_http:
            self._broker.publish(sent.partition, sent.workspace.encode(), sent.value)
            return
        sent.asked = None  # the client that waited has hung up
        nodes = self._cluster.nodes
        node: SimulatedNode | None = nodes[self._random.below(len(nodes))]
        try:
            for _ in range(2):  # one node may name another
                if node is None or not node.is_up:
                    return
                route = node.node.route(sent.partition)
                if route.where is Where.HERE:
                    submit = node.node.submit
                    sent.asked = submit(sent.partition, sent.workspace, sent.command_id, sent.value)
                    return
                node = next((one for one in nodes if one.name == route.url), None)
        except UnavailableError:
            self.refusals["unavailable"] += 1

    def _send(self) -> None:
        workspace = f"w{self._random.below(6)}"
        amount = self._random.below(30) - 12
        command_id = uuid7(self._clock.now_ms(), self._random.bytes(10))
        args = io.BytesIO()
        fastavro.schemaless_writer(args, self._args.avro, {"amount": amount})
        by_http = self._random.below(2) == 0
        reply = None if by_http else {"partition": 0, "correlation": command_id}
        value = wire.encode_command(
            {
                "command_id": command_id,
                "name": "move",
                "args_schema": self._args.fingerprint,
                "args": args.getvalue(),
                "reply": reply,
            }
        )
        partition = wire.partition_of(workspace.encode(), self._broker.partitions)
        sent = Sent(command_id, workspace, amount, value, partition, self._step, by_http=by_http)
        self.sent[command_id] = self._open[command_id] = sent
        self._ask(sent)
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
            sent.expired |= reply.code == Code.ID_EXPIRED
            return
        first = sent.reply
        if first is None:
            sent.reply = reply
        elif (first.sequence, first.code) != (reply.sequence, reply.code):
            self.faults.append(
                f"command {reply.command_id.hex()} was answered {first.code!r} at "
                f"{first.sequence}, then {reply.code!r} at {reply.sequence}"
            )
