"""How clients of one application reach their cluster: addresses, names, librdkafka properties.

Owns the properties that correctness rests on (ARCHITECTURE R1 and R2) and refuses a file that
sets one of them. Makes the clients; what they are used for is their callers' business.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from engine.errors import ConfigError, UnavailableError
from engine.limits import RECORD_BYTES_MAX
from engine.settings import LogSettings
from engine.world import SystemClock

Client = TypeVar("Client")
Properties = dict[str, Any]

REQUEST_TIMEOUT_S = 10.0
LOG_QUEUE_RECORDS_MAX = 1_000_000
LOG_QUEUE_KIB_MAX = 1_048_576
ASIDE_QUEUE_RECORDS_MAX = 20_000
ASIDE_QUEUE_KIB_MAX = 65_536
ASIDE_TIMEOUT_MS = 30_000
FETCH_WAIT_MS = 50
FETCH_BACKOFF_MS = 10
FETCH_KIB_MAX = 65_536
POLL_INTERVAL_MS = 60_000
REPEAT_MS = 30_000
REPEATED = frozenset({"FAIL", "GETPID", "REQTMOUT", "OFFSET", "FETCHERR"})

# R1: records of a session land in order or not at all, none later than a lost one.
APPEND = {
    "enable.idempotence": True,
    "acks": "all",
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
    "max.in.flight.requests.per.connection": 5,
}
# R2: a position comes from the store, never from a group; a lost one is an error, never a jump.
READ = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
}
# What a properties file may not set: the rules above by all their names, and what they rest on.
OWNED = frozenset(
    {
        *APPEND,
        *READ,
        "request.required.acks",
        "delivery.timeout.ms",
        "max.in.flight",
        "message.send.max.retries",
        "retries",
        "transactional.id",
        "transaction.timeout.ms",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "partition.assignment.strategy",
        "session.timeout.ms",
        "isolation.level",
        "enable.partition.eof",
        "message.max.bytes",
        "bootstrap.servers",
        "metadata.broker.list",
    }
)


class _Quiet(logging.Filter):
    """Lets the same kind of line through once in a while: clients repeat each failed connect."""

    def __init__(self) -> None:
        super().__init__()
        self._at_ms: dict[str, int] = {}
        self._clock = SystemClock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this line is worth reading."""
        text = record.getMessage()
        if "gapless.guarantee is experimental" in text:
            return False  # R1 asks for it; nobody can act on this line
        kind = text.split(" ", 1)[0]
        now_ms = self._clock.monotonic_ms()
        if kind in REPEATED and now_ms - self._at_ms.get(kind, -REPEAT_MS) < REPEAT_MS:
            return False
        self._at_ms[kind if kind in REPEATED else ""] = now_ms
        return True


_log = logging.getLogger("partita.kafka")
_log.addFilter(_Quiet())


def read_properties(file: Path) -> dict[str, str]:
    """Read `name=value` lines; `#` and `!` begin comments, as in Java's properties files."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(
            "E1001", f"log.properties_file {file} can't be read: {fault}", "Check the path"
        ) from fault
    properties: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, separator, value = text.partition("=")
        name = name.strip()
        if not separator or not name:
            raise ConfigError(
                "E1001", f"{file} line {number} is not name=value", "Mend the line", file=str(file)
            )
        if name in OWNED:
            raise ConfigError(
                "E1001",
                f"{file} line {number} sets {name}, which the engine sets itself",
                "Remove the line: exactly-once rests on it, or there is a setting of our own",
                file=str(file),
            )
        properties[name] = value.strip()
    return properties


def unavailable(fault: KafkaException | TimeoutError, what: str) -> UnavailableError:
    """Return what a broker's silence or refusal means to a caller: not now."""
    return UnavailableError("E1401", f"{what}: {reason(fault)}", "Check the address and the broker")


def reason(fault: BaseException) -> str:
    """Return librdkafka's own words."""
    if fault.args and isinstance(fault.args[0], KafkaError):
        return fault.args[0].str()
    return str(fault) or type(fault).__name__


def code_of(fault: KafkaException) -> int:
    """Return an exception's KafkaError code."""
    return fault.args[0].code()


def name_of(fault: KafkaException) -> str:
    """Return the name of an exception's KafkaError code."""
    return fault.args[0].name()


class Connection:
    """Addresses, names and properties of one application on one cluster."""

    def __init__(self, settings: LogSettings, application: str, process: str = "client") -> None:
        self.settings = settings
        self.application = application
        self._process = process  # names this process in the brokers' logs and metrics
        self._file: Mapping[str, str] = (
            read_properties(settings.properties_file) if settings.properties_file else {}
        )

    def topic(self, kind: str) -> str:
        """Return the name of a topic of this application (FORMATS 1)."""
        return f"{self.settings.topic_prefix}{self.application}.{kind}"

    def group(self, suffix: str = "") -> str:
        """Return the name of the application's group, or of a reader beside it."""
        return f"{self.settings.topic_prefix}{self.application}{suffix}"

    def admin(self) -> AdminClient:
        """Return a client for topics and offsets; usable from any thread."""
        return self._made(AdminClient, {})

    def log_producer(self, on_error: Callable[[KafkaError], None]) -> Producer:
        """Return the producer of the event log. Its queue is bounded by who appends."""
        own = APPEND | {
            "compression.type": "lz4",
            "linger.ms": 1,
            "message.max.bytes": RECORD_BYTES_MAX,
            "queue.buffering.max.messages": LOG_QUEUE_RECORDS_MAX,
            "queue.buffering.max.kbytes": LOG_QUEUE_KIB_MAX,
            "retry.backoff.ms": 10,
            "error_cb": on_error,
        }
        return self._made(Producer, own)

    def aside_producer(self, on_error: Callable[[KafkaError], None]) -> Producer:
        """Return the producer of all that may get lost: replies, heartbeats, published commands."""
        own = {
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": ASIDE_TIMEOUT_MS,
            "compression.type": "lz4",
            "linger.ms": 1,
            "message.max.bytes": RECORD_BYTES_MAX,
            "queue.buffering.max.messages": ASIDE_QUEUE_RECORDS_MAX,
            "queue.buffering.max.kbytes": ASIDE_QUEUE_KIB_MAX,
            "retry.backoff.ms": 10,
            "error_cb": on_error,
        }
        return self._made(Producer, own)

    def reader(
        self, name: str, *, committed: bool, ends: bool = False, random: bool = False
    ) -> Consumer:
        """Return a consumer that is told its partitions and offsets, and commits nothing.

        With `ends` it says so (as an error message) whenever it has read all there is. A `random`
        one fetches little and often: a new place waits for the fetch under way at the old one.
        """
        own = READ | {
            "enable.partition.eof": ends,
            "group.id": self.group(f".{name}.{self._process}"),
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "fetch.wait.max.ms": 1 if random else FETCH_WAIT_MS,
            "fetch.queue.backoff.ms": FETCH_BACKOFF_MS,
            "queued.min.messages": 1 if random else 10_000,
            "fetch.message.max.bytes": 65_536 if random else RECORD_BYTES_MAX,
            "queued.max.messages.kbytes": FETCH_KIB_MAX,
            "check.crcs": True,
        }
        return self._made(Consumer, own)

    def member(self) -> Consumer:
        """Return a consumer that joins the application's group and fetches nothing."""
        settings = self.settings
        own: Properties = {
            **READ,
            "group.id": self.group(),
            "group.protocol": settings.group_protocol,
        }
        if settings.group_protocol == "classic":
            own["partition.assignment.strategy"] = "cooperative-sticky"
            own["session.timeout.ms"] = settings.session_timeout_ms
            own["heartbeat.interval.ms"] = max(settings.session_timeout_ms // 10, 100)
            # Its thread does nothing but poll, while librdkafka's own sends heartbeats: who doesn't
            # poll is a process whose Python stands still. It may not be less than the session.
            own["max.poll.interval.ms"] = max(POLL_INTERVAL_MS, settings.session_timeout_ms)
        return self._made(Consumer, own)

    def _made(self, kind: Callable[..., Client], own: Properties) -> Client:
        """Make a client. Its own lines go to the log, not to stderr."""
        properties: Properties = {
            "client.id": f"partita-{self.application}-{self._process}",
            "socket.keepalive.enable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            **self._file,
            "bootstrap.servers": self.settings.bootstrap_servers,
            **own,
        }
        try:
            return kind(properties, logger=_log)
        except KafkaException as fault:
            raise ConfigError(
                "E1001",
                f"librdkafka refuses its properties: {reason(fault)}",
                f"Check log.properties_file {self.settings.properties_file or '(none)'}",
            ) from fault
