"""Real local brokers for tests: one shared by a whole session, or one that a test may hurt.

The shared broker is started by whoever needs it first, among all xdist workers. A guard process
stops it when the last of them is gone, however it went.
"""

import fcntl
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from engine.log.kafka.local import LocalKafka
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.topics import plans

GUARD = """
import fcntl, sys
from pathlib import Path
folder = Path(sys.argv[1])
with (folder / "users.lock").open("w") as users:
    fcntl.flock(users, fcntl.LOCK_EX)  # until no test process holds it any more
    from engine.log.kafka.local import LocalKafka
    LocalKafka(folder / "kafka").stop()
"""


@contextmanager
def shared_kafka(folder: Path) -> Generator[str]:
    """Yield the bootstrap address of the session's broker; `folder` is the session's."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = LocalKafka(folder / "kafka")
    with (folder / "users.lock").open("w") as users:
        with (folder / "start.lock").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            status = broker.status()
            if status is None or not all(each.pid for each in status.brokers):
                subprocess.Popen(
                    [sys.executable, "-c", GUARD, str(folder)],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
                status = broker.start(port=0)
        yield status.bootstrap_servers
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # others still use it; the last one stops it
        broker.stop()


@contextmanager
def own_kafka(folder: Path, brokers: int = 1) -> Generator[tuple[LocalKafka, str]]:
    """Yield a broker of one's own, to be killed, paused and restarted, and its address."""
    broker = LocalKafka(folder)
    try:
        yield broker, broker.start(brokers, port=0).bootstrap_servers
    finally:
        broker.stop()


def delete_records(logs: KafkaLogs, kind: str, partition: int, before: int) -> None:
    """Have the broker delete a partition's records below an offset, as retention does."""
    place = TopicPartition(logs.connection.topic(kind), partition, before)
    admin = AdminClient(client(logs))  # kept: without it the answers would never come
    for future in admin.delete_records([place]).values():
        future.result(10)


def delete_topics(logs: KafkaLogs, *kinds: str) -> None:
    """Delete topics of an application, all of them if none is named."""
    names = [logs.connection.topic(kind) for kind in kinds or [plan.kind for plan in plans(1)]]
    admin = AdminClient(client(logs))
    for future in admin.delete_topics(names).values():
        future.result(10)


def client(logs: KafkaLogs) -> dict[str, str]:
    """Return what a plain client needs to reach the broker of these logs."""
    return {"bootstrap.servers": logs.connection.settings.bootstrap_servers}
