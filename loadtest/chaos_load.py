"""The load of a chaos run: plain Kafka clients and HTTP clients, and what each was answered.

Owns every command that was ever sent, by its id, and the first answer to it. Imports nothing of
the engine: it knows the documented schemas, topics and HTTP paths.
"""

import io
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from fastavro import parse_schema, schemaless_writer

from loadtest.exactly_once import BANK, Model
from loadtest.plain_client import Codec, crc64, uuid7

# Silence is asked again, each time after twice as long: a fixed interval would keep an overload up.
RETRY_S = 5.0
RETRY_S_MAX = 40.0
TICK_S = 0.01
WAITING_MAX = 50_000
AGAIN_SHARE = 0.02  # of answered commands, sent once more a little later
HTTP_PAUSE_S = 0.1
HTTP_TIMEOUT_S = 10.0
FAULTS_MAX = 50


@dataclass(slots=True, frozen=True)
class Answer:
    """What a client was told; equal for every answer to the same command."""

    partition: int
    sequence: int
    workspace_sequence: int
    code: str


@dataclass(slots=True)
class Sent:
    """A command as its sender knows it."""

    account: str
    name: str
    amount: int
    sent_at: float
    answer: Answer | None = None


@dataclass
class Book:
    """All commands of a run; used from all clients' threads."""

    sent: dict[bytes, Sent] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: int = 0  # commands that have one

    def write(self, command_id: bytes, sent: Sent) -> None:
        with self.lock:
            self.sent[command_id] = sent

    def answered(self, command_id: bytes, answer: Answer) -> bool:
        """Note an answer; return whether it is the first. Another one must say the same."""
        with self.lock:
            known = self.sent.get(command_id)
            if known is None:
                self._fault(f"an answer to {command_id.hex()}, which nobody sent: {answer}")
                return False
            if answer.sequence == 0:
                self._fault(f"{command_id.hex()} was refused: {answer}")
                return False
            if known.answer is not None:
                self.counts["answered again"] += 1
                if known.answer != answer:
                    self._fault(f"{command_id.hex()} was answered {known.answer}, then {answer}")
                return False
            known.answer = answer
            self.answers += 1
            return True

    def fault(self, what: str) -> None:
        with self.lock:
            self._fault(what)

    def _fault(self, what: str) -> None:
        self.counts["faults"] += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(what)

    def unanswered(self) -> int:
        with self.lock:
            return len(self.sent) - self.answers


class Again(NamedTuple):
    """A command to look at again; `anyway`: sent twice even if it has been answered."""

    when: float
    wait_s: float
    command_id: bytes
    account: str
    value: bytes
    anyway: bool


class KafkaLoad:
    """Commands at a fixed rate, whatever becomes of them; silence is asked again."""

    def __init__(self, book: Book, bootstrap: str, rate: float, accounts: int, seed: int) -> None:
        self._book, self._rate, self._accounts = book, rate, accounts
        self._chance = random.Random(seed)  # noqa: S311 - repeatable is the point
        self._bootstrap = bootstrap
        self._command, self._reply = Codec("command"), Codec("reply")
        self._args = {
            name: _schema(BANK / file)
            for name, file in (("open", "open.avsc"), ("pay", "payment.avsc"))
        }
        self._producer = self._made()
        self._over = ""
        # When to look again at a command, a heap: what has no answer is sent again.
        self._again: list[Again] = []
        self._sending, self._stopping = threading.Event(), threading.Event()
        self._sending.set()
        self._consumer = self._listen()
        self._partitions = len(self._consumer.assignment())
        self._threads = [
            threading.Thread(target=self._send, name="load-send"),
            threading.Thread(target=self._hear, name="load-hear"),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def rest(self) -> None:
        """Send nothing new, but go on asking for what has no answer."""
        self._sending.clear()

    def stop(self) -> None:
        self._sending.clear()
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._consumer.close()

    def _made(self) -> Producer:
        def failed(error: Any) -> None:
            if error.fatal():
                self._over = error.str()

        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 1,
                "socket.timeout.ms": 10_000,
                "error_cb": failed,
                "log_level": 0,
            }
        )

    def _listen(self) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "chaos-replies",
                "enable.auto.commit": False,
                "socket.timeout.ms": 10_000,
                "log_level": 0,
            }
        )
        topic = consumer.list_topics("bank.replies", timeout=30).topics["bank.replies"]
        places = [TopicPartition("bank.replies", at, OFFSET_END) for at in topic.partitions]
        consumer.assign(places)
        return consumer

    def _send(self) -> None:
        begun, count = time.monotonic(), 0
        while not self._stopping.is_set():
            if self._sending.is_set():
                due = int((time.monotonic() - begun) * self._rate)
                while count < due:
                    self._one(count)
                    count += 1
            self._send_again()
            self._producer.poll(TICK_S)
            if self._over:
                self._book.counts["producers"] += 1
                self._over = ""
                self._producer = self._made()

    def _one(self, number: int) -> None:
        if len(self._again) >= WAITING_MAX:
            self._book.counts["held back"] += 1
            return
        chance = self._chance
        account = f"plain-{chance.randrange(self._accounts)}"
        name = chance.choices(("open", "credit", "debit"), (5, 60, 35))[0]
        amount = chance.randrange(1, 1_000)
        paid = {"amount": amount, "reference": f"{number}"}
        schema, mark = self._args["open" if name == "open" else "pay"]
        command_id = uuid7()
        value = self._command.encode(
            {
                "command_id": command_id,
                "name": name,
                "args_schema": mark,
                "args": _encoded(schema, {"owner": account} if name == "open" else paid),
                "reply": {"partition": number % self._partitions, "correlation": command_id[:8]},
            }
        )
        self._book.write(command_id, Sent(account, name, amount, time.time()))
        self._produce(account, value)
        anyway = chance.random() < AGAIN_SHARE
        when = time.monotonic() + RETRY_S
        heappush(self._again, Again(when, RETRY_S, command_id, account, value, anyway))

    def _send_again(self) -> None:
        now = time.monotonic()
        while self._again and self._again[0].when <= now:
            one = heappop(self._again)
            silent = self._book.sent[one.command_id].answer is None
            if silent or one.anyway:
                self._book.counts["sent again"] += 1
                self._produce(one.account, one.value)
            if silent:
                wait_s = min(2 * one.wait_s, RETRY_S_MAX)
                heappush(self._again, one._replace(when=now + wait_s, wait_s=wait_s))

    def _produce(self, account: str, value: bytes) -> None:
        try:
            self._producer.produce("bank.commands", value, account.encode())
        except (BufferError, KafkaException):
            self._book.counts["not taken by the client"] += 1

    def _hear(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(1_000, 0.05):
                if message.error() is not None:
                    self._book.counts["reply errors"] += 1
                    continue
                reply = self._reply.decode(message.value() or b"")
                if reply is None:
                    self._book.fault(f"no reply: {message.value()!r}")
                    continue
                place = (reply["partition"], reply["sequence"], reply["workspace_sequence"])
                self._book.answered(reply["command_id"], Answer(*place, reply["code"]))


class HttpClient:
    """One caller over HTTP with accounts of its own: asks until it has an answer, then reads it.

    As nobody else uses its accounts, each answer and each balance is known beforehand.
    """

    def __init__(self, book: Book, urls: Sequence[str], number: int, seed: int) -> None:
        self._book, self._urls, self._number = book, urls, number
        self._chance = random.Random(seed * 1_000 + number)  # noqa: S311 - as above
        self._model = Model()
        self._resting = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"load-http-{number}")

    def start(self) -> None:
        self._thread.start()

    def rest(self) -> None:
        """Begin nothing new."""
        self._resting.set()

    def stop(self) -> None:
        self._resting.set()
        self._thread.join()

    def _run(self) -> None:
        chance = self._chance
        with httpx.Client(timeout=HTTP_TIMEOUT_S) as http:
            while not self._resting.wait(HTTP_PAUSE_S):
                account = f"http-{self._number}-{chance.randrange(3)}"
                name = chance.choices(("open", "credit", "debit"), (5, 60, 35))[0]
                amount = chance.randrange(1, 1_000)
                command_id = uuid7()
                self._book.write(command_id, Sent(account, name, amount, time.time()))
                answer = self._ask(http, command_id, account, name, amount)
                if answer is None:
                    return
                self._book.answered(command_id, answer)
                wanted = self._model.decide(account, name, amount)
                if answer.code != wanted:
                    self._book.fault(f"{command_id.hex()}: {answer.code!r}, not {wanted!r}")
                self._read(http, account, answer.sequence)

    def _ask(
        self, http: httpx.Client, command_id: bytes, account: str, name: str, amount: int
    ) -> Answer | None:
        """Ask with the same key until somebody answers; None = never, or what can't be."""
        body = {"owner": account} if name == "open" else {"amount": amount}
        path = f"/v1/workspaces/{account}/commands/{name}"
        key = {"Idempotency-Key": str(uuid.UUID(bytes=command_id))}
        while True:
            response = self._request(http, "POST", path, json=body, headers=key)
            if response is not None:
                told = response.json()
                # A rejected outcome has a sequence like any other; a problem has none.
                if told.get("sequence"):
                    place = (told["partition"], told["sequence"], told["workspace_sequence"])
                    code = "" if response.is_success else told["code"]
                    return Answer(*place, code)
                if response.status_code not in {429, 503}:
                    self._book.fault(f"POST {path}: {response.status_code} {response.text[:300]}")
                    return None
                self._book.counts[f"http {response.status_code}"] += 1
            time.sleep(0.2)

    def _read(self, http: httpx.Client, account: str, sequence: int) -> None:
        """Read one's own write, from any node; what can't be answered now is not asked again."""
        path = f"/v1/workspaces/{account}/records/account/0?min_sequence={sequence}"
        response = self._request(http, "GET", path)
        wanted = self._model.balances.get(account)
        if response is None or response.status_code in {429, 503}:
            self._book.counts["reads put off"] += 1
            return
        told = response.json()
        held = told.get("record", told).get("fields", told).get("balance")
        if held != wanted:
            what = f"{account} at sequence {sequence} holds {held}, the model says {wanted}"
            self._book.fault(f"{what}: {response.status_code} {response.text[:300]}")
        self._book.counts["reads"] += 1

    def _request(
        self, http: httpx.Client, method: str, path: str, **more: Any
    ) -> httpx.Response | None:
        try:
            return http.request(method, self._chance.choice(self._urls) + path, **more)
        except httpx.HTTPError as fault:
            self._book.counts[f"http {type(fault).__name__}"] += 1
            return None


def _schema(path: Path) -> tuple[Any, int]:
    raw = json.loads(path.read_text())
    return parse_schema(raw, named_schemas={}), int.from_bytes(crc64(raw), "little", signed=True)


def _encoded(schema: Any, fields: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    schemaless_writer(body, schema, fields)
    return body.getvalue()
