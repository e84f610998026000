"""Rows in RocksDB: one database per partition, one cache for all, no write-ahead log.

The event log is the write-ahead log: after a crash the rows are those of some earlier write, and
the log is read from there. Owns every setting of RocksDB and every one of its error texts. Must
not know what the rows mean.
"""

import resource
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    Snapshot,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from engine.errors import StoreError, UnavailableError, unwritable
from engine.ports import Statistics

_BLOCK_BYTES = 8 * 1024
_BLOOM_BITS = 10
_BACKGROUND_JOBS = 2
_OPEN_FILES_MAX = 512
_OPEN_FILES_MIN = 32
_BUFFERS_MAX = 4
# What fits the processor's cache: with 16 MiB a row costs twice as much to insert.
_BUFFER_BYTES_MAX = 4 << 20
_BUFFER_BYTES_MIN = 1 << 20
_BUFFER_BLOOM_SHARE = 0.05
_INFO_LOG_BYTES = 1024 * 1024
_CHUNK_ROWS = 32

_MISSING = "key not found"  # what a snapshot raises, as an Exception without a type of its own
_CLOSING = "Shutdown in progress"
# No damage: what is there is sound, and can be used once somebody has mended what is around it.
_UNWRITABLE = (
    "No space left",
    "Permission denied",
    "Read-only file system",
    "Disk quota",
    "Too many open files",
)
_LOCKED = ("lock hold by current process", "While lock file")


class StoreMemory:
    """What all stores of a process share: a block cache, write buffers within it, open files."""

    def __init__(
        self,
        cache_bytes: int = 256 << 20,
        write_buffers_bytes: int = 128 << 20,
        stores: int = 1,
    ) -> None:
        # Even an empty buffer takes an eighth of its size, so many stores have smaller ones.
        share = 2 * write_buffers_bytes // stores
        self.buffer_bytes = min(max(share, _BUFFER_BYTES_MIN), _BUFFER_BYTES_MAX)
        # Half of what the process may open stays for sockets and logs.
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.open_files = min(max(allowed // 2 // stores, _OPEN_FILES_MIN), _OPEN_FILES_MAX)
        self.cache = Cache(cache_bytes)
        # Over the bound a buffer is flushed early; writers are never stalled.
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffers_bytes, False, self.cache
        )

    def statistics(self) -> Statistics:
        """Return how much is in use."""
        return {
            "cache_bytes": self.cache.get_usage(),
            "cache_pinned_bytes": self.cache.get_pinned_usage(),
            "write_buffers_bytes": self.write_buffers.get_usage(),
        }


def _options(memory: StoreMemory, write_buffer_bytes: int) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(memory.cache)
    blocks.set_block_size(_BLOCK_BYTES)
    # Most reads ask for a whole key, and many for one that isn't there (a new record's).
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_format_version(5)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(memory.write_buffers)
    options.set_write_buffer_size(write_buffer_bytes or memory.buffer_bytes)
    options.set_max_write_buffer_number(_BUFFERS_MAX)
    options.set_allow_concurrent_memtable_write(False)  # there is one writer
    # Most rows that a batch misses are new ones: this says so without a walk through the buffer.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_BUFFER_BLOOM_SHARE)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_background_jobs(_BACKGROUND_JOBS)
    options.set_max_open_files(memory.open_files)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


class RocksStore:
    """A PartitionStore in a folder of its own. One thread writes; views are for any thread."""

    def __init__(self, folder: Path, memory: StoreMemory, write_buffer_bytes: int = 0) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_files()
        except OSError as fault:
            raise unwritable(folder, fault) from fault
        try:
            self._db: Rdict | None = Rdict(str(folder), _options(memory, write_buffer_bytes))
        except Exception as fault:  # rocksdict raises nothing narrower
            raise _fault(folder, fault) from fault
        self._write_options = WriteOptions()
        # The stub calls it a method; it is a property.
        self._write_options.disable_wal = True  # pyright: ignore[reportAttributeAccessIssue]
        self._lock = threading.Lock()
        self._copying = threading.Lock()  # held while a checkpoint needs the database open
        self._views: set[RocksView] = set()
        self._writes = 0
        self._rows = 0

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        db = self._open()
        try:
            return db.get(key)
        except Exception as fault:
            raise _fault(self.folder, fault) from fault

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return rows in the order of their keys; other threads run meanwhile."""
        db = self._open()
        if not keys:
            return []
        try:
            found = db.get(list(keys))
        except Exception as fault:
            raise _fault(self.folder, fault) from fault
        assert isinstance(found, list)
        return found

    def write(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write all rows or none; None deletes, the last of equal keys stays."""
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                put(key, value)
        self._rows += len(batch)
        self._write(batch)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete all rows with start <= key < end: one note for RocksDB, however many they are."""
        if start >= end:
            return
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(start, end)
        self._write(batch)

    def _write(self, batch: WriteBatch) -> None:
        db = self._open()
        self._writes += 1
        with self._lock:  # a view is made of two things, and no write may come between
            try:
                db.write(batch, self._write_options)
            except Exception as fault:
                raise _fault(self.folder, fault) from fault

    def view(self) -> "RocksView":
        """Return a consistent picture."""
        with self._lock:
            if self._db is None:  # whoever asks knows nothing of when a partition is let go
                raise UnavailableError("E1402", "the store was closed", folder=self.folder)
            view = RocksView(self.folder, self._db, self._views)
            self._views.add(view)
            return view

    def flush(self) -> None:
        """Let the write buffer be written to disk in the background."""
        try:
            self._open().flush(wait=False)
        except Exception as fault:
            raise _fault(self.folder, fault) from fault

    def checkpoint(self, folder: Path) -> None:
        """Make a copy of hard links. Files never change, so only what is new takes space."""
        with self._copying:
            db = self._db
            if db is None:
                raise UnavailableError("E1402", "the partition's store was closed", folder=folder)
            try:
                # A checkpoint flushes too, but while it does no other Python thread runs.
                db.flush(wait=True)
                Checkpoint(db).create_checkpoint(str(folder))
            except Exception as fault:
                raise _fault(self.folder, fault) from fault

    def statistics(self) -> Statistics:
        """Return counters, and RocksDB's own where they help to see trouble coming."""
        with self._lock:
            if self._db is None:
                return {}
            names = ("cur-size-all-mem-tables", "total-sst-files-size", "estimate-num-keys")
            own = {
                name.replace("-", "_"): self._db.property_int_value(f"rocksdb.{name}") or 0
                for name in (*names, "num-running-compactions", "background-errors")
            }
            return {"writes": self._writes, "rows": self._rows, "views": len(self._views), **own}

    def close(self) -> None:
        """Flush one write buffer, drop compactions and views, close. Closing again is harmless."""
        with self._copying, self._lock:
            db, self._db = self._db, None
            # RocksDB stays locked as long as anybody holds a snapshot of it.
            for view in tuple(self._views):
                view.release()
            self._views.clear()
        if db is None:
            return
        try:
            db.flush(wait=True)
            db.cancel_all_background(True)
            db.close()
        except Exception as fault:
            if _CLOSING not in str(fault):
                raise _fault(self.folder, fault) from fault

    def _open(self) -> Rdict:
        assert self._db is not None, "the store is closed"
        return self._db

    def _check_files(self) -> None:
        """Refuse what RocksDB would take for a new database."""
        if (self.folder / "CURRENT").exists():
            return
        left = [*self.folder.glob("MANIFEST-*"), *self.folder.glob("*.sst")]
        if left:
            raise _damaged(self.folder, f"CURRENT is missing beside {left[0].name}")


class RocksView:
    """What a store was. When it closes, reading on says that the partition is not here.

    rocksdict's snapshots give gets their past, but not scans: those see what came later. So a
    view also holds an iterator, made at the same moment, and every scan goes over that one.
    """

    def __init__(self, folder: Path, db: Rdict, views: "set[RocksView]") -> None:
        self._folder = folder
        self._snapshot: Snapshot | None = db.snapshot()
        self._iterator: RdictIter | None = db.iter()
        self._views = views
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        with self._lock:
            if self._snapshot is None:
                self._gone()
            try:
                return self._snapshot[key]
            except Exception as fault:
                if str(fault) == _MISSING:
                    return None
                raise _fault(self._folder, fault) from fault

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end in (reverse) key order."""
        low, high = start, end
        while low < high:
            rows = self._rows(low, high, reverse=reverse)
            yield from rows
            if len(rows) < _CHUNK_ROWS:
                return
            last = rows[-1][0]
            low, high = (low, last) if reverse else (last + b"\x00", high)

    def _rows(self, low: bytes, high: bytes, *, reverse: bool) -> list[tuple[bytes, bytes]]:
        """Return the first (or last) rows in [low, high)."""
        rows: list[tuple[bytes, bytes]] = []
        with self._lock:
            iterator = self._iterator
            if iterator is None:
                self._gone()
            if reverse:
                _seek_before(iterator, high)
            else:
                iterator.seek(low)
            step = iterator.prev if reverse else iterator.next
            while iterator.valid() and len(rows) < _CHUNK_ROWS:
                key: bytes = iterator.key()
                if not low <= key < high:
                    return rows
                rows.append((key, iterator.value()))
                step()
            try:
                iterator.status()  # tells damage from the end: both are only not valid
            except Exception as fault:
                raise _fault(self._folder, fault) from fault
        return rows

    def close(self) -> None:
        """Let go of the picture."""
        self.release()
        self._views.discard(self)

    def release(self) -> None:
        """Drop what keeps RocksDB open."""
        with self._lock:
            self._snapshot = None
            self._iterator = None

    def _gone(self) -> NoReturn:
        raise UnavailableError("E1402", "the partition's store was closed", folder=self._folder)


def _seek_before(scan: RdictIter, end: bytes) -> None:
    scan.seek_for_prev(end)
    if scan.valid() and scan.key() == end:
        scan.prev()


def _damaged(folder: Path, what: str) -> StoreError:
    hint = "Move the folder away and start again: it is rebuilt from the event log"
    return StoreError("E1202", what, hint, folder=folder)


def _fault(folder: Path, fault: Exception) -> StoreError:
    """Translate RocksDB's errors: all are an Exception with a text."""
    if any(text in str(fault) for text in _LOCKED):
        return StoreError(
            "E1201",
            "another process has this store open",
            "Stop that process, or choose another folder with --data",
            folder=folder,
        )
    said = " ".join(str(fault).split())
    if any(text in said for text in _UNWRITABLE):
        return unwritable(folder, OSError(said))
    return _damaged(folder, said)
