"""What a snapshot is: a manifest that names a store's files, which lie beside it as objects.

    manifest/<partition>/<sequence>-<epoch>.json     written last: what it names is there
    sst/<partition>/<writer>/<sha256>                a file; those of older snapshots are shared

A writer is one store on one node's disk, which one process at a time has open. Only it deletes its
own files, so nobody can delete what somebody else is about to name. Owns these names, the
manifest, what is kept, and every check; must not know how a store keeps its rows.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from engine import __version__, limits
from engine.errors import StoreError
from engine.model import Position
from engine.ports import ObjectStore

SEQUENCE_DIGITS = 20


class Files(Protocol):
    """A folder of files, flat: a checkpoint to read, or a store in the making."""

    def names(self) -> list[str]:
        """Return the names of all files."""
        ...

    def digest(self, name: str) -> tuple[int, str]:
        """Return a file's size and its sha256 in hex."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file durably."""
        ...


@dataclass(slots=True, frozen=True)
class File:
    """A file of a store, and the object that holds its bytes."""

    name: str
    size: int
    sha256: str
    object: str


@dataclass(slots=True, frozen=True)
class Manifest:
    """Where a snapshot stands in its log, and what it consists of."""

    application: str
    partition: int
    incarnation: int
    epoch: int
    sequence: int
    offset: int
    topic_id: str
    tail_hash: int
    engine_version: str
    created_at_ms: int
    files: tuple[File, ...]
    format: int = limits.FORMAT  # of the rows and of this manifest
    moved_from: str = ""  # the topic whose records were copied into this one

    @property
    def name(self) -> str:
        """Return the manifest's name among the objects."""
        return f"{_folder(self.partition)}{self.sequence:0{SEQUENCE_DIGITS}}-{self.epoch:x}.json"

    @property
    def size_bytes(self) -> int:
        """Return how large the store is."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        """Return the manifest as JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)


@dataclass(slots=True, frozen=True)
class Taken:
    """What is said of a checkpoint that becomes a snapshot."""

    application: str
    partition: int
    position: Position
    writer: str
    created_at_ms: int


@dataclass(slots=True, frozen=True)
class Retention:
    """Which snapshots stay: the newest, and all that are younger."""

    newest: int = 3
    younger_ms: int = 3_600_000


@dataclass(slots=True)
class Collected:
    """What keeping a partition's snapshots to the retention has done."""

    kept: int = 0
    manifests: int = 0
    objects: int = 0


Told = Callable[[int, int], None]  # bytes done, bytes in all


def decode_manifest(name: str, data: bytes | None) -> Manifest:
    """Decode a manifest; raise StoreError E1208 if it is none, or of a newer format."""
    if data is None:
        raise damaged(name, "the manifest is missing")
    try:
        fields: dict[str, Any] = orjson.loads(data)
        if int(fields["format"]) > limits.FORMAT:
            raise damaged(name, f"format {fields['format']}, this engine reads {limits.FORMAT}")
        files = tuple(_file(entry) for entry in fields.pop("files"))
        manifest = Manifest(**fields, files=files)
        _check_types(manifest)
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        raise damaged(name, f"the manifest can't be read: {fault}") from fault
    return manifest


def _file(entry: dict[str, Any]) -> File:
    file = File(str(entry["name"]), int(entry["size"]), str(entry["sha256"]), str(entry["object"]))
    if not file.name or "/" in file.name or file.name.startswith("."):
        raise ValueError(f"a file's name can't be {file.name!r}")
    return file


def _check_types(manifest: Manifest) -> None:
    numbers = (manifest.partition, manifest.epoch, manifest.sequence, manifest.offset)
    numbers += (manifest.tail_hash, manifest.incarnation, manifest.created_at_ms)
    texts = (manifest.application, manifest.topic_id, manifest.engine_version, manifest.moved_from)
    if not all(type(number) is int for number in numbers):
        raise TypeError("a number is not one")
    if not all(type(text) is str for text in texts):
        raise TypeError("a text is not one")


def damaged(name: str, what: str) -> StoreError:
    """Return what is wrong with a snapshot."""
    return StoreError("E1208", what, "An older one is taken instead", snapshot=name)


def manifest_of(taken: Taken, files: Iterable[File]) -> Manifest:
    """Return the manifest of a checkpoint."""
    position = taken.position
    return Manifest(
        taken.application,
        taken.partition,
        position.incarnation,
        position.epoch,
        position.host.sequence,
        position.offset,
        position.topic_id,
        position.tail_hash,
        __version__,
        taken.created_at_ms,
        tuple(files),
    )


def check_file(snapshot: str, file: File, data: bytes | None) -> bytes:
    """Return a file's bytes if they are what the manifest says."""
    if data is None:
        raise damaged(snapshot, f"{file.object}, its {file.name}, is missing")
    if len(data) != file.size:
        raise damaged(snapshot, f"{file.name} has {len(data)} bytes, not {file.size}")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise damaged(snapshot, f"{file.name} has another checksum than when it was written")
    return data


class Snapshots:
    """One application's snapshots in a store of objects. Everything here may block."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        # Objects of other writers that no manifest names, and since when, as seen here.
        self._orphans: dict[str, int] = {}

    def names(self, partition: int) -> list[str]:
        """Return the names of a partition's manifests, the newest first."""
        found = self._objects.names(_folder(partition))
        return sorted((name for name in found if name.endswith(".json")), reverse=True)

    def load(self, name: str) -> Manifest:
        """Return a manifest; raise StoreError E1208 if it can't be used."""
        return decode_manifest(name, self._objects.get(name))

    def save(self, taken: Taken, files: Files) -> Manifest:
        """Store what is not there yet, then the manifest."""
        prefix = f"sst/{taken.partition}/{taken.writer}/"
        stored = set(self._objects.names(prefix))
        listed: list[File] = []
        for name in sorted(files.names()):
            size, sha256 = files.digest(name)
            file = File(name, size, sha256, prefix + sha256)
            listed.append(file)
            if file.object not in stored:
                self._objects.put(file.object, check_file(name, file, files.read(name)))
                stored.add(file.object)
        manifest = manifest_of(taken, listed)
        self._objects.put(manifest.name, manifest.encode())
        return manifest

    def restore(self, manifest: Manifest, files: Files, told: Told | None = None) -> None:
        """Write a snapshot's files; raise StoreError E1208 at the first that is not sound."""
        done = 0
        for file in manifest.files:
            files.write(file.name, check_file(manifest.name, file, self._objects.get(file.object)))
            done += file.size
            if told is not None:
                told(done, manifest.size_bytes)

    def verify(self, manifest: Manifest) -> Iterator[StoreError]:
        """Read all that a manifest names; yield what is wrong."""
        for file in manifest.files:
            try:
                check_file(manifest.name, file, self._objects.get(file.object))
            except StoreError as fault:
                yield fault

    def collect(self, newest: Manifest, writer: str, rule: Retention, now_ms: int) -> Collected:
        """Delete what the retention doesn't keep: manifests, then the files that none names.

        Called by a partition's writer behind each snapshot, never beside one.
        """
        partition, collected = newest.partition, Collected()
        loaded: list[Manifest] = []
        unread: list[str] = []
        for name in self.names(partition):
            try:
                loaded.append(self.load(name))
            except StoreError:
                unread.append(name)
        kept = [one for one in loaded if _keeps(one, newest, loaded, rule, now_ms)]
        oldest = min((one.name for one in kept), default=newest.name)
        gone = [one.name for one in loaded if one not in kept]
        gone += [name for name in unread if name < oldest]
        for name in gone:
            self._objects.delete(name)
        collected.kept, collected.manifests = len(kept), len(gone)
        # What a manifest names that can't be read now nobody knows.
        if all(name < oldest for name in unread):
            named = {file.object for one in kept for file in one.files}
            collected.objects = self._sweep(partition, writer, named, now_ms)
        return collected

    def _sweep(self, partition: int, writer: str, named: set[str], now_ms: int) -> int:
        """Delete objects that nobody names; others' only long after they were met so."""
        prefix = f"sst/{partition}/"
        unnamed = [name for name in self._objects.names(prefix) if name not in named]
        own = f"{prefix}{writer}/"
        seen = {name: self._orphans.get(name, now_ms) for name in unnamed}
        self._orphans = {
            **{name: at for name, at in self._orphans.items() if not name.startswith(prefix)},
            **{name: at for name, at in seen.items() if not name.startswith(own)},
        }
        gone = [
            name
            for name, at in seen.items()
            if name.startswith(own) or now_ms - at >= limits.SNAPSHOT_ORPHANS_MS
        ]
        for name in gone:
            self._objects.delete(name)
            self._orphans.pop(name, None)
        return len(gone)


def _keeps(
    one: Manifest, newest: Manifest, all_: list[Manifest], rule: Retention, now_ms: int
) -> bool:
    """Return whether a manifest stays: of this history by the rule, of another one for a while."""
    age_ms = now_ms - one.created_at_ms
    if _history(one) != _history(newest):
        return age_ms < max(limits.SNAPSHOT_ORPHANS_MS, rule.younger_ms)
    newer = sum(_history(other) == _history(one) and other.name > one.name for other in all_)
    return newer < rule.newest or age_ms < rule.younger_ms


def _history(one: Manifest) -> tuple[str, int]:
    return one.topic_id, one.incarnation


def _folder(partition: int) -> str:
    return f"manifest/{partition}/"


def sequence_of(name: str) -> int:
    """Return the sequence that a manifest's name says, or -1."""
    digits = name.rpartition("/")[2].partition("-")[0]
    return int(digits) if digits.isdecimal() else -1


def partitions_of(objects: ObjectStore) -> list[int]:
    """Return the partitions of which there are manifests."""
    parts = {name.split("/")[1] for name in objects.names("manifest/")}
    return sorted(int(part) for part in parts if part.isdecimal())
