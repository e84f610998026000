"""Exactly once on a real broker while a node is killed: bank commands from a plain Kafka client.

    python -m loadtest.exactly_once --commands 50000

Two nodes, 4 partitions; an owner of some is killed with -9 and started again twice on the way.
Then: one outcome per command by distinct id, gapless sequences, balances and rejections equal to
a model that never saw the engine, owners' digests equal to a replay's.
"""

import argparse
import io
import json
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import httpx
from confluent_kafka import Producer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from loadtest.nodes import LocalNodes, partita

ROOT = Path(__file__).parent.parent
BANK = ROOT / "topology" / "bank"
KILLS = (0.2, 0.5)
FIRST_PART = 0.8  # is published before the kills, the rest behind the last one

assert max(KILLS) < FIRST_PART
WAIT_S = 600.0
POLL_S = 0.2


class Model:
    """What every account must hold, and why commands must be rejected: plain arithmetic."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.rejected: Counter[str] = Counter()

    def decide(self, account: str, command: str, amount: int) -> str:
        """Return the code of the outcome, "" if it must be accepted."""
        code = self._code(account, command, amount)
        if code:
            self.rejected[code] += 1
        elif command == "open":
            self.balances[account] = 0
        else:
            self.balances[account] += amount if command == "credit" else -amount
        return code

    def _code(self, account: str, command: str, amount: int) -> str:
        if command == "open":
            return "already_open" if account in self.balances else ""
        if account not in self.balances:
            return "not_open"
        short = command == "debit" and self.balances[account] < amount
        return "insufficient_funds" if short else ""


class Client:
    """A Kafka client that knows the documented envelope and nothing else of ours."""

    def __init__(self, bootstrap: str) -> None:
        settings = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
        }
        self._producer = Producer(settings)
        self._envelope = self._schema(ROOT / "schemas" / "command.avsc")
        self._args = {
            name: self._schema(BANK / file)
            for name, file in (
                ("open", "open.avsc"),
                ("credit", "payment.avsc"),
                ("debit", "payment.avsc"),
            )
        }

    @staticmethod
    def _schema(path: Path) -> tuple[Any, bytes]:
        raw = json.loads(path.read_text())
        canonical = to_parsing_canonical_form(raw)
        mark = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
        return fastavro.parse_schema(raw, named_schemas={}), mark

    def send(self, account: str, command: str, args: dict[str, object]) -> None:
        schema, mark = self._args[command]
        body, value = io.BytesIO(), io.BytesIO()
        fastavro.schemaless_writer(body, schema, args)
        envelope, envelope_mark = self._envelope
        value.write(b"\xc3\x01" + envelope_mark)
        fields = {
            "command_id": uuid.uuid4().bytes,
            "name": command,
            "args_schema": int.from_bytes(mark, "little", signed=True),
            "args": body.getvalue(),
        }
        fastavro.schemaless_writer(value, envelope, fields)
        while True:
            try:
                self._producer.produce("bank.commands", value.getvalue(), account)
            except BufferError:
                self._producer.poll(0.1)
                continue
            self._producer.poll(0)
            return

    def flush(self) -> None:
        left = self._producer.flush(60)
        assert left == 0, f"{left} commands were not taken by the broker"


class Traffic(NamedTuple):
    """A command before it is encoded."""

    account: str
    command: str
    amount: int
    args: dict[str, object]


def traffic(count: int, seed: int) -> Iterator[Traffic]:
    """Yield the commands of a run; equal seeds give equal ones."""
    chance = random.Random(seed)  # noqa: S311 - repeatable is the point
    accounts = max(count // 100, 10)
    for number in range(count):
        account = f"account-{number if number < accounts else chance.randrange(accounts + 3)}"
        amount = chance.randrange(1, 1_000)
        opening = number < accounts or chance.random() < 0.01
        command = "open" if opening else chance.choice(("credit", "credit", "debit"))
        named: dict[str, object] = {"owner": f"owner of {account}"}
        paid: dict[str, object] = {"amount": amount, "reference": f"{number}"}
        yield Traffic(account, command, amount, named if command == "open" else paid)


def publish(client: Client, model: Model, commands: Iterable[Traffic]) -> None:
    """Publish commands in their order, and let the model decide them too."""
    for one in commands:
        model.decide(one.account, one.command, one.amount)
        client.send(one.account, one.command, one.args)
    client.flush()


def drive(
    nodes: LocalNodes, model: Model, count: int, kills: tuple[float, ...], seed: int
) -> list[str]:
    """Publish everything, kill an owner on the way, wait until all is decided."""
    client, commands = Client(nodes.bootstrap), traffic(count, seed)
    publish(client, model, islice(commands, int(count * FIRST_PART)))
    left = [part * count for part in kills]
    deadline = time.monotonic() + WAIT_S
    while (done := nodes.decided()) < count or len(nodes.owners()) < nodes.partitions:
        if left and done >= left[0]:
            left.pop(0)
            owner = next((entry["node"] for entry in nodes.owners().values()), "second")
            nodes.kill(owner)
            nodes.start(owner)
            if not left:
                # So the last kill always comes with commands still to decide.
                publish(client, model, commands)
        if time.monotonic() > deadline:
            return [f"only {done} of {count} decided after {WAIT_S:.0f} s"]
        time.sleep(POLL_S)
    return []


def run(
    count: int, folder: Path, kills: tuple[float, ...] = KILLS, seed: int = 1
) -> dict[str, object]:
    """Run it; return what was found, with `faults` empty if every promise held."""
    model, started = Model(), time.monotonic()
    with LocalNodes(BANK, folder, ("first", "second")) as nodes:
        faults = drive(nodes, model, count, kills, seed)
        took_s = time.monotonic() - started
        nodes.await_answers("first")  # it may have been killed, and others have decided it all
        faults += differences(nodes, model)
        nodes.stop_nodes()
        stores = [f"--store={folder / name}" for name in ("first", "second")]
        servers = ("--bootstrap-servers", nodes.bootstrap)
        audit = partita("verify", str(BANK), *servers, "--settled", "--json", *stores)
        if audit.returncode:
            faults.append(f"verify: {audit.stderr} {audit.stdout[:2000]}")
        report = json.loads(audit.stdout)
    total = report["total"]
    for name, wanted in (("outcomes", count), ("distinct_ids", count), ("duplicates", 0)):
        if total[name] != wanted:
            faults.append(f"{total[name]} {name}, not {wanted}")
    rejected: Counter[str] = Counter()
    for partition in report["partitions"]:
        rejected.update(partition["rejected"])
    if rejected != model.rejected:
        faults.append(f"rejected {dict(rejected)}, the model says {dict(model.rejected)}")
    return {
        "commands": count,
        "seconds": round(took_s, 1),
        "rejected": dict(rejected),
        "audit": total,
        "faults": faults,
    }


def asked(http: httpx.Client, path: str) -> httpx.Response:
    """Ask again where the answer says so: a node that was just started may not know the owner."""
    deadline = time.monotonic() + WAIT_S
    while True:
        answer = http.get(path)
        if answer.status_code != 503 or time.monotonic() > deadline:
            return answer
        time.sleep(float(answer.headers["Retry-After"]))


def differences(nodes: LocalNodes, model: Model) -> list[str]:
    """Compare every account's balance, asked from one node, with the model."""
    found: list[str] = []
    with httpx.Client(base_url=nodes.url("first"), timeout=30) as http:
        for account, balance in model.balances.items():
            answer = asked(http, f"/v1/workspaces/{account}/records/account/0")
            record = answer.json()
            held = record.get("fields", record).get("balance")
            if not answer.is_success or held != balance:
                found.append(f"{account} holds {held}, the model says {balance}")
    return found[:20]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(options.commands, Path(folder), seed=options.seed)
    json.dump(result, sys.stdout, indent=2)
    print()
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
