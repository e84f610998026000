"""Sends credits at a steady rate until it is terminated: the load beside `bench query`.

`python -m engine.bench.feed BOOTSTRAP RATE ACCOUNTS FOLDER`.
"""

import sys
import time
from itertools import islice
from pathlib import Path

from engine.bench.bank import Bank
from engine.bench.places import KafkaPlace

SLICE_S = 0.01
COMMANDS_MAX = 1_000_000_000


def main() -> None:
    """Send, a slice of time after the other."""
    bootstrap, rate, accounts, folder = sys.argv[1:]
    workload = Bank(Path(folder), int(accounts))
    producer = KafkaPlace(Path(), bootstrap, workload.application).producer(**{"linger.ms": 5})
    topic = f"{workload.application.name}.commands"
    commands = workload.credits(COMMANDS_MAX)
    began_s, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began_s) * int(rate))
        for partition, key, value in islice(commands, due - sent):
            try:
                producer.produce(topic, value, key, partition)
            except BufferError:
                producer.poll(SLICE_S)
        sent = due
        producer.poll(0)
        time.sleep(SLICE_S)


if __name__ == "__main__":
    main()
