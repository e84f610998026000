"""Segment files: what is safe stays, what was torn goes, what is damaged is told."""

import errno
import resource
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import LogError
from engine.log import frames
from engine.log.segments import Cursor, SegmentLog

TOPIC_ID = "00112233445566778899aabbccddeeff"


def opened(folder, **options):
    return SegmentLog(folder, TOPIC_ID, **options)


def append(log, *values, key=b"k", now_ms=1_000):
    last = log.append([key] * len(values), list(values), now_ms)
    log.sync()
    return last


def values(log, offset=None):
    """Return what is read, whichever way: each finds the same records and the same damage."""
    found, fault = read(log, offset, framed=False)
    others, same = read(log, offset, framed=True)
    assert (others, str(same)) == (found, str(fault))
    if fault is not None:
        raise fault
    return found


def read(log, offset, *, framed):
    cursor = Cursor(log.begin if offset is None else offset)
    found = []
    try:
        while batch := log.read(cursor, 7, framed=framed):
            found.extend(batch.values)
    except LogError as fault:
        return found, fault
    return found, None


def segment(folder):
    return max(folder.glob("*.log"))


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


@contextmanager
def largest_file(size):
    """Let the system refuse to grow any file beyond `size`, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_bytes_are_as_documented(tmp_path):
    log = opened(tmp_path)
    append(log, b"value", key=b"key", now_ms=7)
    log.close()
    data = segment(tmp_path).read_bytes()
    header = data[: frames.HEADER_BYTES]
    assert header[:8] == b"PARTITA\n"
    assert header[8:12] == (1).to_bytes(4)
    assert header[12:28] == bytes(16)
    assert header[28:44].hex() == TOPIC_ID
    record = data[frames.HEADER_BYTES :]
    assert record[:4] == (len(record) - 8).to_bytes(4)
    assert record[8:16] == (0).to_bytes(8)
    assert record[16:24] == (7).to_bytes(8)
    assert record[24:28] == frames.HEADER_BYTES.to_bytes(4)
    assert record[28:32] == (3).to_bytes(4)
    assert record[32:] == b"keyvalue"


def test_nobody_sees_what_was_not_synced(tmp_path):
    log = opened(tmp_path)
    log.append([b"k"], [b"one"], 1)
    assert log.end == 0
    assert values(log) == []
    log.sync()
    assert values(log) == [b"one"]


def test_records_may_be_larger_than_what_is_read_at_once(tmp_path):
    log = opened(tmp_path)
    big = [bytes([number]) * size for number, size in enumerate([10, 300_000, 5, 900_000, 1])]
    append(log, *big)
    assert values(log) == big
    assert values(log, 3) == big[3:]


def test_segments_roll_and_are_read_across(tmp_path):
    log = opened(tmp_path, segment_bytes=1_000)
    expected = [b"%03d" % number * 10 for number in range(200)]
    for at in range(0, 200, 50):
        append(log, *expected[at : at + 50])
    log.close()
    assert len(list(tmp_path.glob("*.log"))) > 10
    log = opened(tmp_path, segment_bytes=1_000)
    assert values(log) == expected
    for offset in (0, 1, 57, 131, 199):
        assert values(log, offset) == expected[offset:]


def test_records_are_the_same_as_they_lie_in_their_files(tmp_path):
    log = opened(tmp_path, segment_bytes=400)
    for number in range(60):
        key = b"" if number % 3 == 0 else b"k" * number
        append(log, b"%d" % number * (number % 4), b"v" * number, key=key, now_ms=number)
    append(log, b"x" * 600_000, b"y")
    plain, framed, counts = Cursor(0), Cursor(0), []
    while batch := log.read(plain, 7):
        lying = log.read(framed, 7, framed=True)
        counts.append(len(batch))
        assert list(lying.records()) == list(batch.records())
        assert [lying.record(at) for at in range(len(lying))] == list(lying.records())
        assert (lying.keys[1:3], lying.values[-1]) == (batch.keys[1:3], batch.values[-1])
        assert len(lying.times_ms) == len(lying) == len(lying.keys)
    assert sum(counts) == log.end == 122
    assert not log.read(framed, 7, framed=True)


def test_times_never_go_back_even_over_restarts(tmp_path):
    log = opened(tmp_path, segment_bytes=100)
    for now_ms in (5, 3, 9, 1):
        append(log, b"v" * 100, now_ms=now_ms)
    log.close()
    log = opened(tmp_path)
    append(log, b"v", now_ms=2)
    assert log.read(Cursor(0), 10).times_ms == [5, 5, 9, 9, 9]


def test_old_segments_are_trimmed_whole(tmp_path):
    log = opened(tmp_path, segment_bytes=200)
    for number in range(10):
        append(log, b"%d" % number * 150, now_ms=1_000 * number)
    log.trim(4)
    assert 0 < log.begin <= 4
    assert values(log)[-1] == b"9" * 150
    log.trim(10**9)
    assert log.begin <= 9 < log.end
    log.close()
    log = opened(tmp_path)
    assert values(log)[-1] == b"9" * 150
    assert append(log, b"next") == 10


def test_expired_are_segments_in_which_all_is_old(tmp_path):
    log = opened(tmp_path, segment_bytes=100)
    for number in range(5):
        append(log, b"v" * 100, now_ms=1_000 * number)
    log.expire(0)
    assert log.begin == 0
    log.expire(2_500)
    assert log.begin <= 3
    assert min(log.read(Cursor(log.begin), 9).times_ms) >= 2_000
    log.expire(10**12)
    assert log.read(Cursor(log.begin), 9).times_ms == [4_000]


def torn(tmp_path, cut):
    """Write three records, the last in a group of its own; keep all but `cut` bytes of it."""
    log = opened(tmp_path)
    append(log, b"one", b"two")
    size = log.size
    append(log, b"three" * 9)
    log.close()
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[: size + cut])
    return size


LAST_RECORD_BYTES = frames.RECORD_HEADER_BYTES + 1 + 45


@pytest.mark.parametrize("cut", range(LAST_RECORD_BYTES + 1))
def test_a_tail_torn_at_any_byte_is_cut_off_at_the_last_whole_record(tmp_path, cut):
    size = torn(tmp_path, cut)
    log = opened(tmp_path)
    whole = cut == LAST_RECORD_BYTES
    assert values(log) == [b"one", b"two"] + [b"three" * 9] * whole
    assert log.cut_bytes == (0 if whole else cut)
    append(log, b"four")
    log.close()
    log = opened(tmp_path)
    assert values(log)[-1] == b"four"
    assert log.cut_bytes == 0
    assert whole or log.size == size + frames.RECORD_HEADER_BYTES + 5


@given(
    groups=st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=4), min_size=1),
    keep=st.floats(0, 1),
    garbage=st.binary(max_size=40),
)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_last_group_became_all_earlier_groups_stay(
    tmp_path_factory, groups, keep, garbage
):
    folder = tmp_path_factory.mktemp("log")
    log = opened(folder)
    for group in groups[:-1]:
        append(log, *group)
    size = log.size
    append(log, *groups[-1])
    log.close()
    path = segment(folder)
    data = path.read_bytes()
    kept = size + round(keep * (len(data) - size))
    path.write_bytes(data[:kept] + garbage)
    log = opened(folder)
    written = [value for group in groups for value in group]
    safe = len(written) - len(groups[-1])
    found = values(log)
    assert found == written[: len(found)]
    assert len(found) >= safe
    log.close()


def test_a_last_group_with_a_page_missing_is_torn_not_damaged(tmp_path):
    log = opened(tmp_path)
    append(log, b"safe")
    size = log.size
    append(log, *(b"%d" % number * 50 for number in range(5)))
    log.close()
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[size + 100 : size + 120] = bytes(20)
    path.write_bytes(data)
    log = opened(tmp_path)
    assert values(log) == [b"safe", b"0" * 50]


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bit_flipped_before_the_last_group_is_told(tmp_path_factory, position, bit):
    folder = tmp_path_factory.mktemp("log")
    log = opened(folder)
    for number in range(5):
        append(log, b"%d" % number * 20, b"")
    safe = log.size
    append(log, b"the last group")
    log.close()
    flip(segment(folder), int(position * safe), bit)
    with pytest.raises(LogError) as raised:
        opened(folder)
    assert raised.value.code == "E1303"
    assert str(segment(folder)) in str(raised.value)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bit_flipped_in_an_older_segment_is_told_when_it_is_read(tmp_path_factory, position, bit):
    folder = tmp_path_factory.mktemp("log")
    log = opened(folder, segment_bytes=300)
    for number in range(12):
        append(log, b"%d" % number * 40, b"")
    log.close()
    path = sorted(folder.glob("*.log"))[1]
    size = path.stat().st_size
    # `synced` is read at recovery only, yet the checksum covers it: every bit counts.
    flip(path, int(position * size), bit)
    with pytest.raises(LogError) as raised:
        values(opened(folder, segment_bytes=300))
    assert raised.value.code == "E1303"
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("lost", [1, 30, 200])
def test_an_older_segment_that_is_cut_off_is_told(tmp_path, lost):
    log = opened(tmp_path, segment_bytes=300)
    for number in range(12):
        append(log, b"%d" % number * 40)
    log.close()
    path = sorted(tmp_path.glob("*.log"))[1]
    path.write_bytes(path.read_bytes()[:-lost])
    log = opened(tmp_path, segment_bytes=300)
    with pytest.raises(LogError) as raised:
        values(log)
    assert raised.value.code == "E1303"


def test_a_missing_segment_is_told(tmp_path):
    log = opened(tmp_path, segment_bytes=300)
    for number in range(12):
        append(log, b"%d" % number * 40)
    log.close()
    sorted(tmp_path.glob("*.log"))[1].unlink()
    with pytest.raises(LogError) as raised:
        values(opened(tmp_path, segment_bytes=300))
    assert raised.value.code == "E1303"


def test_a_segment_of_another_log_is_told(tmp_path):
    append(opened(tmp_path), b"one")
    with pytest.raises(LogError) as raised:
        SegmentLog(tmp_path, TOPIC_ID[::-1])
    assert raised.value.code == "E1303"


def test_a_newer_format_is_told(tmp_path):
    opened(tmp_path).close()
    header = frames.Header(frames.FORMAT + 1, 0, 0, TOPIC_ID)
    segment(tmp_path).write_bytes(frames.encode_header(header))
    with pytest.raises(LogError) as raised:
        opened(tmp_path)
    assert raised.value.code == "E1304"


def test_after_a_clean_close_a_missing_tail_is_damage(tmp_path):
    torn(tmp_path, 20)
    before = segment(tmp_path).read_bytes()
    with pytest.raises(LogError) as raised:
        opened(tmp_path, closed_at=(3, len(before) + 30))
    assert raised.value.code == "E1303"
    assert segment(tmp_path).read_bytes() == before, "what is damaged is not touched"


@pytest.mark.parametrize("room", [0, 10, 100, 150])
def test_what_a_full_disk_refused_never_lands(tmp_path, room):
    log = opened(tmp_path)
    append(log, b"safe")
    with largest_file(log.size + room), pytest.raises(OSError, match="large") as raised:
        append(log, b"lost" * 10, b"lost" * 10, b"lost" * 10)
    assert raised.value.errno == errno.EFBIG
    assert values(log) == [b"safe"]
    assert append(log, b"next") == 1
    assert values(log) == [b"safe", b"next"]
    log.close()
    assert values(opened(tmp_path)) == [b"safe", b"next"]


def test_a_full_disk_at_a_roll_keeps_what_was_safe(tmp_path):
    log = opened(tmp_path, segment_bytes=300)
    append(log, b"safe")
    with largest_file(400), pytest.raises(OSError, match="large"):
        append(log, *([b"x" * 90] * 3 + [b"x" * 390]))
    found = values(log)
    assert found == [b"safe"] + [b"x" * 90] * (len(found) - 1)
    append(log, b"next")
    assert values(log) == [*found, b"next"]
    log.close()
    assert values(opened(tmp_path)) == [*found, b"next"]
