"""The example client: it needs nothing of ours, and we understand each other."""

import ast
import importlib.util
import sys
import threading
import uuid
from pathlib import Path

import pytest

from engine import wire
from engine.log.kafka.logs import KafkaLogs
from engine.model import Reply, ReplyTo
from engine.settings import LogSettings

FILE = Path(__file__).parents[2] / "loadtest" / "plain_client.py"
ARGS = {"type": "record", "name": "Credit", "fields": [{"name": "amount", "type": "long"}]}
PARTITIONS = 3


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("plain_client", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def logs(kafka):
    settings = LogSettings(kind="kafka", bootstrap_servers=kafka)
    made = KafkaLogs(settings, f"plain-{uuid.uuid4().hex[:12]}", PARTITIONS)
    yield made
    made.close()


@pytest.fixture
def client(plain, logs):
    connection = logs.connection
    return plain.Client(connection.settings.bootstrap_servers, connection.application)


def take(logs, partition, count):
    log = logs.command_log(partition)
    log.seek(0)
    records = []
    while len(records) < count:
        logs.wait(1_000)
        records += log.take(count).records()
    return records


def test_it_imports_nothing_of_ours():
    roots = set()
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            roots.add(node.module.split(".")[0])
    assert roots <= set(sys.stdlib_module_names) | {"confluent_kafka", "fastavro"}


@pytest.mark.kafka
def test_its_commands_are_ours_and_lie_in_the_right_partition(client, logs):
    sent = {}
    for number in range(30):
        workspace = f"acct-{number}"
        sent[workspace] = client.command("credit", ARGS, {"amount": number}, expected_sequence=7)
        client.publish(workspace, sent[workspace])
    client.flush()
    for workspace, command in sent.items():
        partition = wire.partition_of(workspace.encode(), PARTITIONS)
        count = sum(wire.partition_of(w.encode(), PARTITIONS) == partition for w in sent)
        found = {record.key: record.value for record in take(logs, partition, count)}
        decoded = wire.decode_command(found[workspace.encode()])
        assert decoded["command_id"] == command["command_id"]
        assert decoded["args_schema"] == wire.crc64(ARGS)
        assert (decoded["name"], decoded["expected_sequence"]) == ("credit", 7)
        assert decoded["token"] is None


@pytest.mark.kafka
def test_it_finds_the_reply_to_its_own_call(client, logs):
    def answer():
        partition = wire.partition_of(b"acct", PARTITIONS)
        (record,) = take(logs, partition, 1)
        command = wire.decode_command(record.value)
        to = ReplyTo(command["reply"]["partition"], command["reply"]["correlation"])
        for correlation in (b"another", to.correlation):
            reply_to = ReplyTo(to.partition, correlation)
            reply = Reply(command["command_id"], "acct", 4, 2, "", reply_to=reply_to)
            logs.replies.send(partition, reply)
        while logs.aside.waiting:
            logs.wait(100)

    thread = threading.Thread(target=answer)
    thread.start()
    command = client.command("credit", ARGS, {"amount": 1})
    reply = client.call("acct", command, timeout_s=60)
    thread.join()
    assert reply["command_id"] == command["command_id"]
    assert (reply["sequence"], reply["workspace_sequence"], reply["code"]) == (4, 2, "")


def outcome(epoch, sequence, name):
    fields = {
        "epoch": epoch,
        "sequence": sequence,
        "previous": 0,
        "skippable": False,
        "workspace": "w",
        "workspace_sequence": sequence,
        "command_id": bytes(16),
        "input": "commands",
        "input_offset": 0,
        "command_time": 1,
        "registered_at": 1,
        "name": name,
        "application": 1,
        "args_schema": 0,
        "args": b"",
        "code": "",
        "message": "",
        "changes": [],
        "emits": [],
        "timers": [],
    }
    return wire.encode_event(wire.Kind.OUTCOME, fields)


def owner(epoch, sequence):
    fields = {
        "epoch": epoch,
        "sequence": sequence,
        "previous": 0,
        "skippable": False,
        "claim_id": bytes(16),
        "node": "n",
        "incarnation": 0,
        "engine_version": "0",
        "format": 1,
        "command_topic_id": "",
    }
    return wire.encode_event(wire.Kind.OWNER, fields)


@pytest.mark.kafka
def test_it_leaves_out_what_a_former_owner_wrote_too_late(client, logs):
    values = [
        owner(10, 0),
        outcome(10, 1, "first"),
        owner(20, 1),
        outcome(10, 2, "zombie"),
        outcome(20, 2, "second"),
        outcome(20, 2, "again"),
    ]
    log = logs.event_log(0)
    log.append([b"w"] * len(values), values)
    while not log.reports():
        logs.wait(1_000)
    assert [found["name"] for found in client.outcomes(2)] == ["first", "second"]
