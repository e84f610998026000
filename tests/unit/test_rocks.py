"""RocksDB's ways to go wrong, each told by its code; kill -9; closing while it is read."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.errors import StoreError, UnavailableError
from engine.store.rocks import RocksStore, StoreMemory

MEMORY = StoreMemory(8 << 20, 4 << 20)
ROWS = [(b"key %04d" % number, b"value" * 10) for number in range(2_000)]


def opened(folder):
    return RocksStore(folder, MEMORY)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with a closed store that has an SST file."""
    folder = tmp_path_factory.mktemp("sound") / "store"
    store = opened(folder)
    store.write(ROWS)
    store.close()
    assert list(folder.glob("*.sst"))
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "store")


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "an SST file is cut off": lambda folder: cut(only(folder, "*.sst")),
    "an SST file is missing": lambda folder: only(folder, "*.sst").unlink(),
    "an SST file has another footer": lambda folder: flip(only(folder, "*.sst"), -3),
    "CURRENT is missing": lambda folder: (folder / "CURRENT").unlink(),
    "CURRENT and the empty logs are missing": lambda folder: [
        path.unlink() for path in [folder / "CURRENT", *folder.glob("*.log")]
    ],
    "CURRENT is junk": lambda folder: (folder / "CURRENT").write_bytes(b"junk"),
    "CURRENT is empty": lambda folder: (folder / "CURRENT").write_bytes(b""),
    "the manifest is missing": lambda folder: only(folder, "MANIFEST-*").unlink(),
    "the manifest is cut off": lambda folder: only(folder, "MANIFEST-*").write_bytes(b""),
    "a bit of the manifest is flipped": lambda folder: flip(only(folder, "MANIFEST-*"), 20),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_does_not_open(folder, damage):
    DAMAGES[damage](folder)
    with pytest.raises(StoreError) as raised:
        opened(folder)
    assert raised.value.code == "E1202"
    assert str(folder) in str(raised.value)


def test_a_flipped_bit_in_a_row_is_told_by_every_way_to_read_it(folder):
    flip(only(folder, "*.sst"), 20)
    store = opened(folder)
    view = store.view()
    reads = [
        lambda: store.get(ROWS[0][0]),
        lambda: store.get_many([ROWS[0][0]]),
        lambda: view.get(ROWS[0][0]),
        lambda: list(view.scan(b"key", b"l")),
        lambda: list(view.scan(b"key", b"l", reverse=True)),
    ]
    for read in reads:
        with pytest.raises(StoreError) as raised:
            read()
        assert raised.value.code == "E1202"
    store.close()


def test_a_locked_store_is_told(folder):
    store = opened(folder)
    with pytest.raises(StoreError) as raised:
        opened(folder)
    assert raised.value.code == "E1201"
    store.close()
    opened(folder).close()


def test_a_store_locked_by_another_process_is_told(folder):
    child = start_writer(folder)
    child.stdout.readline()
    with pytest.raises(StoreError) as raised:
        opened(folder)
    assert raised.value.code == "E1201"
    kill(child)
    opened(folder).close()


def test_a_close_ends_scans_and_lets_go_of_the_folder(folder):
    store = opened(folder)
    view = store.view()
    scans = [view.scan(b"key", b"l"), view.scan(b"key", b"l", reverse=True)]
    assert [next(scan) for scan in scans] == [ROWS[0], ROWS[-1]]
    store.close()
    again = opened(folder)
    for scan in scans:
        with pytest.raises(UnavailableError) as raised:
            list(scan)
        assert raised.value.code == "E1402"
    with pytest.raises(UnavailableError):
        view.get(ROWS[0][0])
    view.close()
    assert again.get_many([key for key, _ in ROWS]) == [value for _, value in ROWS]
    again.close()


def test_stores_share_their_memory(tmp_path):
    memory = StoreMemory(8 << 20, 4 << 20)
    stores = [RocksStore(tmp_path / name, memory) for name in ("a", "b")]
    before = memory.statistics()["write_buffers_bytes"]
    for store in stores:
        store.write([(b"%d" % number, bytes(1_000)) for number in range(500)])
    assert memory.statistics()["write_buffers_bytes"] > before + 900_000
    for store in stores:
        store.close()


CHILD = """
import sys
import threading
import time
from pathlib import Path
from engine.store.rocks import RocksStore, StoreMemory

store = RocksStore(Path(sys.argv[1]), StoreMemory(8 << 20, 4 << 20), write_buffer_bytes=64 << 10)
number = int(store.get(b"number") or b"0")
while True:
    number += 1
    row = b"row %02d" % (number % 50)
    store.write([(b"number", b"%d" % number), (row, b"%d" % number + bytes(1_000))])
    if number % 40 == 0:
        store.flush()
    print(number, flush=True)
"""


def start_writer(folder):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True
    )


def kill(child):
    """Kill a writer; return the number of the last write that it told of."""
    os.kill(child.pid, signal.SIGKILL)
    lines = child.stdout.read().splitlines(keepends=True)
    child.wait()
    child.stdout.close()
    return max((int(line) for line in lines if line.endswith("\n")), default=0)


def test_after_kill_9_the_store_is_as_after_some_write(tmp_path):
    seeded, kept = random.Random(5), 0
    for _ in range(4):
        child = start_writer(tmp_path)
        for _ in range(seeded.randrange(50, 400)):
            told = int(child.stdout.readline())
        told = max(told, kill(child))
        store = opened(tmp_path)
        number = int(store.get(b"number") or b"0")
        assert kept <= number <= told + 1, "what the last process found stays"
        view = store.view()
        rows = {int(key[4:]): int(value[:-1_000]) for key, value in view.scan(b"row", b"s")}
        view.close()
        newest = range(max(number - 49, 1), number + 1)
        assert rows == {wrote % 50: wrote for wrote in newest}
        store.close()
        kept = number
    assert kept > 0


def test_no_write_comes_between_the_two_halves_of_a_view(tmp_path):
    store, stop, faults = opened(tmp_path), threading.Event(), []
    store.write([(b"number", b"0")])

    def look():
        while not stop.is_set():
            view = store.view()
            got, scanned = view.get(b"number"), list(view.scan(b"n", b"o"))
            view.close()
            if scanned != [(b"number", got)]:
                faults.append((got, scanned))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        reader = threading.Thread(target=look)
        reader.start()
        for number in range(20_000):
            store.write([(b"number", b"%d" % number)])
        stop.set()
        reader.join()
    finally:
        sys.setswitchinterval(interval)
    assert faults == []
    store.close()


def open_files(folder):
    links = (path.resolve() for path in Path("/proc/self/fd").iterdir())
    return sum(folder in path.parents for path in links)


def test_stores_share_one_bound_of_memory(tmp_path):
    memory = StoreMemory(8 << 20, 4 << 20, stores=8)
    assert memory.buffer_bytes == 1 << 20
    stores = [RocksStore(tmp_path / str(number), memory) for number in range(8)]
    for _ in range(20):
        for store in stores:
            store.write([(os.urandom(12), os.urandom(1_000)) for _ in range(200)])
    # 32 MB were written. Whoever writes over the bound begins a flush; none is waited for.
    deadline = time.monotonic() + 60
    while memory.statistics()["write_buffers_bytes"] > 4 << 20:
        assert time.monotonic() < deadline
        for store in stores:
            store.write([(b"a", b"1")])
    for store in stores:
        store.close()
    assert open_files(tmp_path) == 0


def test_a_store_holds_few_files_open_however_many_it_has(tmp_path):
    memory = StoreMemory(8 << 20, 4 << 20, stores=1 << 30)
    assert memory.open_files == 32
    store = RocksStore(tmp_path / "store", memory)
    store._db.set_options({"disable_auto_compactions": "true"})
    for number in range(150):
        store.write([(b"%03d %d" % (number, at), b"x") for at in range(10)])
        store._db.flush(wait=True)
    assert len(list((tmp_path / "store").glob("*.sst"))) == 150
    view = store.view()
    assert sum(1 for _ in view.scan(b"0", b"z")) == 1_500
    view.close()
    assert open_files(tmp_path) <= 2 * 32  # what a scan has pinned goes with the next opening
    store.close()


def test_all_stores_together_leave_files_to_the_rest_of_the_process():
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert StoreMemory().open_files == min(512, allowed // 2)
    assert 32 <= StoreMemory(stores=1_024).open_files <= max(allowed // 2_048, 32)


def test_a_process_that_may_open_no_more_files_has_no_damaged_store(tmp_path):
    store = RocksStore(tmp_path / "0", StoreMemory(8 << 20, 4 << 20))
    store.write([(b"key", b"value")])
    store.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory = StoreMemory(8 << 20, 4 << 20)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 2, hard)
    )
    try:
        with pytest.raises(StoreError) as caught:
            RocksStore(tmp_path / "0", memory)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.code == "E1207", caught.value
    again = RocksStore(tmp_path / "0", memory)
    assert again.get(b"key") == b"value"
    again.close()
