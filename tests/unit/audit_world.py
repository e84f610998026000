"""A history of one partition, sound until a test breaks it."""

from engine.audit import Evidence, audit_partition
from engine.model import LogRecord
from engine.wire import Kind, encode_command, encode_event, hash64
from engine.world import uuid7

NOW = 1_700_000_000_000
PARTITIONS = 1


def command_id(number: int, time_ms: int = NOW) -> bytes:
    return uuid7(time_ms, number.to_bytes(10))


class History:
    """Builds the two logs of partition 0 as one honest owner would, or as told."""

    def __init__(self) -> None:
        self.commands: list[LogRecord] = []
        self.events: list[LogRecord] = []
        self.epoch = 0
        self.sequence = 0
        self.previous = 0
        self.workspaces: dict[str, int] = {}

    def ask(self, number: int, workspace: str = "a", **fields) -> LogRecord:
        command = {
            "command_id": command_id(number),
            "name": "credit",
            "args_schema": 7,
            "args": b"args",
            **fields,
        }
        return self.ask_raw(encode_command(command), workspace.encode())

    def ask_raw(self, value: bytes | None, key: bytes | None) -> LogRecord:
        record = LogRecord(len(self.commands), NOW + len(self.commands), key, value)
        self.commands.append(record)
        return record

    def append(self, kind: Kind, **fields) -> bytes:
        head = {
            "epoch": self.epoch,
            "sequence": self.sequence,
            "previous": self.previous,
            "skippable": False,
        }
        value = encode_event(kind, {**head, **fields})
        self.append_raw(value)
        return value

    def append_raw(self, value: bytes | None) -> None:
        self.events.append(LogRecord(len(self.events), NOW, b"", value))

    def own(self, epoch: int = 0, **fields) -> None:
        if not fields:
            self.epoch = epoch or self.epoch + 1
        owner = {
            "epoch": epoch or self.epoch,
            "claim_id": bytes(16),
            "node": "n",
            "incarnation": 1,
            "engine_version": "0",
            "format": 1,
            "command_topic_id": "t",
        }
        self.append(Kind.OWNER, **{**owner, **fields})

    def application(self, index: int = 1) -> None:
        self.append(
            Kind.APPLICATION,
            index=index,
            version="1.0.0",
            fingerprint=bytes(32),
            manifest="",
            tables=[],
            schemas=[],
            modules=[],
        )

    def decide(self, record: LogRecord, number: int, workspace: str = "a", **fields) -> bytes:
        accepted = not fields.get("code")
        last = self.workspaces.get(workspace, 0)
        at = last + 1 if last or accepted else 0
        outcome = {
            "sequence": self.sequence + 1,
            "workspace": workspace,
            "workspace_sequence": at,
            "command_id": command_id(number),
            "input": "commands",
            "input_offset": record.offset,
            "command_time": record.time_ms,
            "registered_at": record.time_ms,
            "name": "credit",
            "application": 1,
            "args_schema": 7,
            "args": b"args",
            "code": "",
            "message": "",
            "changes": [],
            "emits": [],
            "timers": [],
            **fields,
        }
        return self.append(Kind.OUTCOME, **outcome)

    def count(self, value: bytes, workspace: str = "a") -> None:
        """Move on as if the last outcome had counted."""
        self.sequence += 1
        self.previous = hash64(value)
        self.workspaces[workspace] = self.workspaces.get(workspace, 0) + 1

    def mark(self, offset: int, **fields) -> None:
        mark = {
            "inputs": [{"input": "commands", "offset": offset}],
            "emitted_sequence": 0,
            "registered_at": NOW + 1_000,
            "newest_command_time": NOW,
            "dedup_floor": 0,
            "digests": [],
        }
        self.append(Kind.MARK, **{**mark, **fields})

    def step(self, number: int, workspace: str = "a") -> None:
        """Ask and decide one command."""
        self.count(self.decide(self.ask(number, workspace), number, workspace), workspace)

    def audit(self, **options):
        evidence = Evidence(0, self.commands, self.events)
        return audit_partition(evidence, options.pop("partitions", PARTITIONS), **options)
