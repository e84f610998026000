"""Everything that a node needs of one application on Kafka, connected.

Waits for a broker that isn't there yet, and says so; a wrong setting or topic is raised at once.
"""

import logging
from collections.abc import Callable

from engine.application import Application
from engine.errors import UnavailableError
from engine.log.kafka.content import KafkaObjects
from engine.log.kafka.directory import KafkaDirectory
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.membership import KafkaMembership
from engine.ports import Random
from engine.settings import LogSettings
from engine.world import SystemClock

RETRY_WAIT_MS = 1_000

_log = logging.getLogger("partita.kafka")

Connected = tuple[KafkaLogs, KafkaObjects, KafkaMembership, KafkaDirectory]


def connect(
    application: Application,
    settings: LogSettings,
    node: str,
    clock: SystemClock,
    random: Random,
    *,
    waiting: Callable[[str], None] = lambda _: None,
) -> Connected:
    """Return logs, content, membership and directory. Blocks until a broker answers.

    `waiting` is told what it waits for.
    """
    name = f"{node}-{random.bytes(4).hex()}"
    said = ""
    while True:
        try:
            logs = KafkaLogs(settings, application.name, application.partitions, name)
            break
        except UnavailableError as error:
            if str(error) != said:
                said = str(error)
                _log.warning("waiting for Kafka: %s", said)
                waiting(f"waiting for Kafka: {said}")
            clock.sleep_ms(RETRY_WAIT_MS)
    return logs, KafkaObjects(logs), KafkaMembership(logs.connection), KafkaDirectory(logs)
