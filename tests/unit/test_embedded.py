"""The embedded logs as a whole: the folder, the group commit, sessions, and kill -9."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading

import pytest

from engine.errors import LogError, StoreError, UnavailableError
from engine.limits import PUBLISHING_MAX
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.frames import RECORD_HEADER_BYTES
from engine.log.objects import FolderObjects
from engine.world import SystemClock, SystemRandom

SETTINGS = EmbeddedSettings("bank", 2)


def opened(folder, settings=SETTINGS):
    return EmbeddedLogs(folder, settings, SystemClock(), SystemRandom())


def settle(logs, condition):
    while not (said := condition()):
        logs.wait(1_000)
    return said


def append(logs, log, *values):
    log.append([b"k"] * len(values), list(values))
    (report,) = settle(logs, log.reports)
    return report


def everything(log):
    log.seek(log.bounds().begin)
    records = []
    while batch := log.take(1_000):
        records.extend(batch.records())
    return records


def test_one_process_holds_the_folder(tmp_path):
    logs = opened(tmp_path)
    with pytest.raises(StoreError) as raised:
        opened(tmp_path)
    assert raised.value.code == "E1201"
    assert f"process {os.getpid()} has it open" in str(raised.value)
    logs.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("other", [EmbeddedSettings("bank", 3), EmbeddedSettings("flights", 2)])
def test_a_folder_stays_what_it_is(tmp_path, other):
    opened(tmp_path).close()
    with pytest.raises(LogError) as raised:
        opened(tmp_path, other)
    assert raised.value.code == "E1301"
    opened(tmp_path).close()


def test_topic_ids_name_this_very_log(tmp_path):
    seen = set()
    for name in ("a", "b"):
        logs = opened(tmp_path / name)
        seen.update(log.bounds().topic_id for log in (logs.event_log(0), logs.command_log(0)))
        logs.close()
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["meta.json", "closed.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1}', b"\xff"])
def test_a_damaged_small_file_is_told(tmp_path, name, content):
    opened(tmp_path).close()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogError) as raised:
        opened(tmp_path)
    assert raised.value.code == "E1303"
    assert name in str(raised.value)


def test_a_missing_meta_file_beside_logs_is_told(tmp_path):
    opened(tmp_path).close()
    (tmp_path / "meta.json").unlink()
    with pytest.raises(LogError) as raised:
        opened(tmp_path)
    assert raised.value.code == "E1303"


def test_a_folder_of_a_newer_engine_is_told(tmp_path):
    opened(tmp_path).close()
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(LogError) as raised:
        opened(tmp_path)
    assert raised.value.code == "E1304"


LAST_RECORD_BYTES = RECORD_HEADER_BYTES + 1 + 3
SPOILS = {
    "a byte is missing": lambda data: data[:-1],
    "a byte is another": lambda data: data[:-1] + b"X",
    "a whole record is missing": lambda data: data[:-LAST_RECORD_BYTES],
    "a byte is too many": lambda data: data + b"X",
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_after_a_clean_close_even_the_last_record_is_guarded(tmp_path, spoil):
    logs = opened(tmp_path)
    append(logs, logs.event_log(1), b"one")
    logs.close()
    (path,) = (tmp_path / "events-1").glob("*.log")
    path.write_bytes(SPOILS[spoil](path.read_bytes()))
    for _ in range(2):  # the refusal changes nothing
        with pytest.raises(LogError) as raised:
            opened(tmp_path)
        assert raised.value.code == "E1303"
        assert str(path) in str(raised.value)


def test_old_commands_expire_in_whole_segments(tmp_path):
    settings = EmbeddedSettings("bank", 1, segment_bytes=200, command_retention_ms=1_000)

    class Clock(SystemClock):
        def now_ms(self):
            return self.ms

    clock = Clock()
    clock.ms = 1_000_000
    logs = EmbeddedLogs(tmp_path, settings, clock, SystemRandom())
    for _ in range(5):
        logs.commands.publish(0, b"w", b"v" * 200)
        settle(logs, logs.commands.published)
    append(logs, logs.event_log(0), b"e" * 300, b"e" * 300)
    clock.ms += 2_000
    logs.close()
    logs = EmbeddedLogs(tmp_path, settings, clock, SystemRandom())
    assert logs.command_log(0).bounds().begin > 0
    assert logs.command_log(0).bounds().end == 5
    assert logs.event_log(0).bounds().begin == 0
    logs.close()


def test_appends_that_wait_share_a_sync(tmp_path):
    logs = opened(tmp_path)
    log = logs.event_log(0)
    tickets = [log.append([b"k"], [b"%d" % number]) for number in range(2_000)]
    reports = []
    settle(logs, lambda: reports.extend(log.reports()) or len(reports) == len(tickets))
    assert [report.ticket for report in reports] == tickets
    assert logs.statistics()["syncs"] < 1_000
    assert logs.statistics()["records"] == 2_000
    logs.close()


class Gate:
    """Stops the flusher at a log's sync until it is opened, then syncs, or fails."""

    def __init__(self, log, fault=None):
        self.entered, self.open = threading.Event(), threading.Event()
        self._sync, self._log, self._fault = log._log.sync, log._log, fault
        log._log.sync = self.sync

    def sync(self):
        self.entered.set()
        self.open.wait()
        self._log.sync = self._sync
        if self._fault:
            self._log._torn = True
            raise self._fault
        self._sync()


def test_nothing_is_reported_or_read_before_the_sync(tmp_path):
    logs = opened(tmp_path)
    log, reader = logs.event_log(0), logs.event_log(0)
    reader.seek(0)
    gate = Gate(log)
    log.append([b"k"], [b"one"])
    gate.entered.wait()
    assert log.reports() == []
    assert len(reader.take(10)) == 0
    assert reader.bounds().end == 0
    gate.open.set()
    settle(logs, log.reports)
    assert list(reader.take(10).values) == [b"one"]
    logs.close()


def test_nothing_of_a_lost_session_lands_later(tmp_path):
    logs = opened(tmp_path)
    log, other = logs.event_log(0), logs.event_log(0)
    gate = Gate(log, OSError(5, "Input/output error"))
    tickets = [log.append([b"k"], [b"one"])]
    gate.entered.wait()
    tickets.append(log.append([b"k"], [b"two"]))  # waits behind the one that will fail
    other.append([b"k"], [b"another session"])
    gate.open.set()
    reports = []
    settle(logs, lambda: reports.extend(log.reports()) or len(reports) == 2)
    assert [report.ticket for report in reports] == tickets
    assert [report.last_offset for report in reports] == [None, None]
    assert "Input/output error" in reports[0].error
    assert append(logs, log, b"three").error == ""
    assert [record.value for record in everything(other)] == [b"another session", b"three"]
    logs.close()


def fill_the_disk(tmp_path, value):
    """Return a log of which an append has failed, and the report of that."""
    logs = opened(tmp_path)
    log = logs.event_log(0)
    append(logs, log, b"safe")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        report = append(logs, log, *value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return logs, log, report


def test_a_full_disk_ends_the_session_and_the_next_append_opens_another(tmp_path):
    logs, log, report = fill_the_disk(tmp_path, [b"lost" * 100] * 5)
    assert report.last_offset is None
    assert "events-0 can't be written: File too large" in report.error
    assert append(logs, log, b"next").last_offset == 1
    assert log.statistics()["sessions"] == 2
    assert [record.value for record in everything(log)] == [b"safe", b"next"]
    logs.close()
    logs = opened(tmp_path)
    assert [record.value for record in everything(logs.event_log(0))] == [b"safe", b"next"]
    logs.close()


def test_publishing_is_bounded(tmp_path):
    logs = opened(tmp_path)
    for _ in range(PUBLISHING_MAX):
        logs.commands.publish(0, b"w", b"v")
    with pytest.raises(UnavailableError) as raised:
        logs.commands.publish(0, b"w", b"v")
    assert raised.value.code == "E1403"
    reports = []
    settle(
        logs, lambda: reports.extend(logs.commands.published()) or len(reports) == PUBLISHING_MAX
    )
    logs.commands.publish(0, b"w", b"v")
    logs.close()
    with pytest.raises(UnavailableError):
        logs.commands.publish(0, b"w", b"v")


def test_many_threads_publish_and_nothing_is_lost(tmp_path):
    logs = opened(tmp_path)

    def publish(name):
        for number in range(200):
            logs.commands.publish(number % 2, b"w%d" % name, b"%d" % number)

    threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reports = []
    settle(logs, lambda: reports.extend(logs.commands.published()) or len(reports) == 800)
    records = [record for p in (0, 1) for record in everything(logs.command_log(p))]
    assert len(records) == 800
    for name in range(4):
        own = [int(record.value) for record in records if record.key == b"w%d" % name]
        assert own == [*range(0, 200, 2), *range(1, 200, 2)]
    logs.close()


CHILD = """
import sys
from pathlib import Path
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.frames import RECORD_HEADER_BYTES
from engine.log.objects import FolderObjects
from engine.world import SystemClock, SystemRandom

settings = EmbeddedSettings("bank", 2, segment_bytes=20_000)
logs = EmbeddedLogs(Path(sys.argv[1]), settings, SystemClock(), SystemRandom())
log = logs.event_log(0)
number = log.bounds().end
sizes, landed = {}, number
while True:
    values = [b"%d %b" % (number + at, b"x" * (number * 7 % 900)) for at in range(number % 5 + 1)]
    sizes[log.append([b"k"] * len(values), values)] = len(values)
    number += len(values)
    while len(sizes) > 3:
        logs.wait(1_000)
        for report in log.reports():
            sizes.pop(report.ticket)
            print(report.last_offset, flush=True)
"""


def test_after_kill_9_every_reported_record_is_there(tmp_path):
    seeded = random.Random(3)
    settings = EmbeddedSettings("bank", 2, segment_bytes=20_000)
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        reported = int(next(child.stdout))
        with pytest.raises(StoreError, match=f"process {child.pid} has it open"):
            opened(tmp_path, settings)
        for _ in range(seeded.randrange(5, 60)):
            reported = int(next(child.stdout))
        os.kill(child.pid, signal.SIGKILL)
        lines = child.stdout.read().splitlines(keepends=True)
        reported = max([reported, *(int(line) for line in lines if line.endswith("\n"))])
        child.wait()
        child.stdout.close()
        logs = opened(tmp_path, settings)
        records = everything(logs.event_log(0))
        assert len(records) > reported
        for offset, record in enumerate(records):
            assert record.offset == offset
            assert record.value.startswith(b"%d " % offset)
        logs.close()


class Calendar:
    """A clock that is set by hand."""

    def __init__(self):
        self.ms = 1_700_000_000_000

    def now_ms(self):
        return self.ms

    def monotonic_ms(self):
        return self.ms


def test_old_commands_are_deleted_while_the_logs_are_open(tmp_path):
    clock, hour_ms = Calendar(), 3_600_000
    settings = EmbeddedSettings("bank", 1, segment_bytes=4_096, command_retention_ms=hour_ms)
    logs = EmbeddedLogs(tmp_path, settings, clock, SystemRandom())
    for _ in range(8):
        logs.commands.publish(0, b"w", bytes(1_000))
        settle(logs, logs.commands.published)
        clock.ms += 1_000
    assert logs.command_log(0).bounds().begin == 0
    clock.ms += hour_ms
    logs.wait(0)
    kept = logs.command_log(0).bounds()
    assert 0 < kept.begin < kept.end == 8, "the newest segment stays"
    assert len(everything(logs.command_log(0))) == kept.end - kept.begin
    logs.close()


def test_a_folder_that_can_t_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError) as raised:
        opened(tmp_path / "file" / "log")
    assert raised.value.code == "E1207"
    assert str(tmp_path / "file" / "log") in str(raised.value)


def test_an_object_that_finds_no_room_is_told_and_leaves_nothing(tmp_path):
    objects = FolderObjects(tmp_path / "content")
    objects.put("a", b"small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(StoreError) as raised:
            objects.put("b/c", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.code == "E1207"
    assert objects.names() == ["a"]
    objects.put("b/c", bytes(10_000))
    assert objects.names() == ["a", "b/c"]
