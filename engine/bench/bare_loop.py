"""The bare loop that `bench commands` is measured beside: what Python can do with nothing around.

Consume, json.loads, a dict, json.dumps, produce, all in batches: no durable state, no guarantees.
`python -m engine.bench.bare_loop BOOTSTRAP FROM TO COUNT`, or `... files FROM TO COUNT` on lines
of files. Prints how many a second, from the first message to the last one delivered.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

PARTITIONS = 4
_BATCH = 2_000
_WAIT_S = 0.05
_FLUSH_S = 60.0

Accounts = dict[str, dict[str, int]]


def decide(accounts: Accounts, text: bytes | str) -> str:
    """Credit an account: what a program without an engine does with a command."""
    command = json.loads(text)
    account = accounts.get(command["account"])
    if account is None:
        account = accounts[command["account"]] = {"balance": 0, "entries": 0, "turnover": 0}
    amount = command["amount"]
    account["balance"] += amount
    account["entries"] += 1
    account["turnover"] += amount
    return json.dumps({"id": command["id"], "account": command["account"], **account})


def on_kafka(bootstrap: str, source: str, target: str, count: int) -> float:
    """Run over a topic; return how many a second."""
    own: dict[str, Any] = {"bootstrap.servers": bootstrap}
    reading = {"group.id": "bare", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    writing = {"compression.type": "lz4", "queue.buffering.max.messages": 500_000}
    consumer, producer = Consumer({**own, **reading}), Producer({**own, **writing})
    parts = [TopicPartition(source, part, OFFSET_BEGINNING) for part in range(PARTITIONS)]
    consumer.assign(parts)
    accounts: Accounts = {}
    done, started_s = 0, 0.0
    while done < count:
        messages = consumer.consume(_BATCH, _WAIT_S)
        if not messages:
            continue
        started_s = started_s or time.perf_counter()
        produced = [
            {"value": decide(accounts, message.value() or b""), "key": message.key()}
            for message in messages
        ]
        while (taken := producer.produce_batch(target, produced)) < len(produced):
            producer.poll(_WAIT_S)
            produced = produced[taken:]
        producer.poll(0)
        done += len(messages)
    producer.flush(_FLUSH_S)
    rate = done / (time.perf_counter() - started_s)
    consumer.close()
    return rate


def on_files(source: Path, target: Path, count: int) -> float:
    """Run over the lines of a file; return how many a second."""
    accounts: Accounts = {}
    started_s = time.perf_counter()
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            out.write(decide(accounts, line) + "\n")
    return count / (time.perf_counter() - started_s)


def main() -> None:
    """Run, and print the rate."""
    where, source, target, count = sys.argv[1:]
    if where == "files":
        rate = on_files(Path(source), Path(target), int(count))
    else:
        rate = on_kafka(where, source, target, int(count))
    sys.stdout.write(f"{rate}\n")


if __name__ == "__main__":
    main()
