"""Files read from outside while a process holds them: what it shows is what its owner shows."""

import pytest
from rocksdict import Options, Rdict, WriteOptions

from engine.application import rows
from engine.audit.stores import find_stores, witnesses
from engine.errors import EngineError
from engine.load.sources import follow, read
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.outside import FolderLogs, find_logs
from engine.model import HostState, Position
from engine.wire import encode_position
from engine.world import SeededRandom, SystemClock

SMALL = EmbeddedSettings("bank", 2, segment_bytes=2_000)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bank" / "log"


@pytest.fixture
def logs(folder):
    opened = EmbeddedLogs(folder, SMALL, SystemClock(), SeededRandom(1))
    yield opened
    opened.close()


def append(logs, first: int, count: int, partition: int = 0) -> None:
    """Append events and wait until they are safe."""
    events = logs.event_log(partition)
    values = [b"value %d " % number + bytes(number) for number in range(first, first + count)]
    ticket = events.append([b"k"] * count, values)
    for _ in range(1_000):
        if any(report.ticket == ticket for report in events.reports()):
            return
        logs.wait(100)
    raise AssertionError("the append was not reported")


def both(logs, folder):
    inside, outside = logs.event_log(0), FolderLogs(folder).event_log(0)
    return inside, outside


def records(logs, log) -> list:
    return [(one.offset, one.time_ms, one.key, one.value) for one in read(logs, log, log.bounds())]


def test_outside_sees_what_inside_sees_over_many_segments(logs, folder):
    append(logs, 0, 100)
    append(logs, 100, 50)
    inside, outside = both(logs, folder)
    assert len(list((folder / "events-0").glob("*.log"))) > 3
    assert outside.bounds() == inside.bounds()
    assert records(logs, inside) == records(FolderLogs(folder), outside)
    outside.seek(77)
    inside.seek(77)
    assert list(outside.take(5).values) == list(inside.take(5).values)


def test_outside_follows_a_log_that_grows(logs, folder):
    append(logs, 0, 3)
    outside = FolderLogs(folder)
    following = follow(outside, outside.event_log(0), 0)
    seen = []
    for first in (3, 40, 41):
        while (record := next(following)) is not None:
            seen.append(record.offset)
        append(logs, len(seen), first)
    while (record := next(following)) is not None:
        seen.append(record.offset)
    assert seen == list(range(3 + 3 + 40 + 41))


def test_a_torn_tail_is_not_there(logs, folder):
    append(logs, 0, 2)
    logs.close()
    path = max((folder / "events-0").glob("*.log"))
    path.write_bytes(path.read_bytes()[:-1])
    outside = FolderLogs(folder).event_log(0)
    assert outside.bounds().end == 1
    outside.seek(0)
    assert outside.take(10).offsets == [0]
    assert outside.take(10).offsets == []


def test_damage_in_an_older_segment_is_told(logs, folder):
    append(logs, 0, 100)
    path = min((folder / "events-0").glob("*.log"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    outside = FolderLogs(folder)
    with pytest.raises(EngineError, match="E1303"):
        records(outside, outside.event_log(0))


def test_damage_before_safe_records_of_the_newest_segment_is_told(tmp_path):
    big = EmbeddedSettings("bank", 2)
    opened = EmbeddedLogs(tmp_path / "log", big, SystemClock(), SeededRandom(1))
    for first in range(0, 30, 10):
        append(opened, first, 10)
    opened.close()
    (path,) = (tmp_path / "log" / "events-0").glob("*.log")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineError, match="E1303"):
        FolderLogs(tmp_path / "log").event_log(0).bounds()


def test_below_the_begin_is_told(logs, folder):
    append(logs, 0, 100)
    logs.trim("events", 0, 50)
    outside = FolderLogs(folder).event_log(0)
    assert outside.bounds().begin > 0
    outside.seek(0)
    with pytest.raises(EngineError, match="E1302"):
        outside.take(1)


def test_logs_are_found_below_the_data_folder(logs, folder, tmp_path):
    del logs
    for start in (folder, folder.parent, tmp_path):
        assert find_logs(start).folder == folder
    assert (find_logs(tmp_path).application, find_logs(tmp_path).partitions) == ("bank", 2)


def test_no_logs_or_several_are_told(logs, folder, tmp_path):
    with pytest.raises(EngineError, match="no embedded log"):
        find_logs(tmp_path / "nowhere")
    other = EmbeddedLogs(tmp_path / "other" / "log", SMALL, SystemClock(), SeededRandom(1))
    other.close()
    with pytest.raises(EngineError, match="several"):
        find_logs(tmp_path)
    del logs, folder


def test_a_store_is_read_while_it_is_open(tmp_path):
    path = tmp_path / "bank" / "stores" / "0"
    path.parent.mkdir(parents=True)
    held = Rdict(str(path), Options(raw_mode=True))
    unsafe = WriteOptions()
    unsafe.disable_wal = True
    held.set_write_options(unsafe)
    key = rows.workspace_key("w")
    position = Position(offset=7, host=HostState(sequence=5), digests={5: rows.row_hash(key, b"v")})
    held[key] = b"v"
    held[rows.POSITION_KEY] = encode_position(position, 1)
    held.flush()
    held[key] = b"not flushed"
    (witness,) = witnesses(tmp_path, 0)
    assert witness.position.offset == 7
    assert witness.recounted == position.digests
    assert find_stores(tmp_path, 1) == []
    held.close()


def test_a_folder_that_is_no_store_is_told(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "CURRENT").write_text("nonsense\n")
    with pytest.raises(EngineError, match="E1202"):
        list(witnesses(tmp_path, 0))
