"""Snapshots of real stores: what is uploaded, what stays, and what each kind of damage leads to."""

import dataclasses
import itertools
import os
import shutil

import pytest
from snapshot_world import BATCH, Disk

from engine import limits, wire
from engine.application import rows
from engine.errors import StoreError, UnavailableError
from engine.log.objects import FolderObjects, open_objects
from engine.partition.ledger import position_of
from engine.partition.snapshots import Retention


@pytest.fixture
def objects(tmp_path):
    return FolderObjects(tmp_path / "objects")


@pytest.fixture
def disk(tmp_path, objects):
    made = Disk(tmp_path, objects)
    made.open()
    yield made
    made.close()


def other(tmp_path, objects):
    return Disk(tmp_path, objects, "other")


def test_only_new_files_are_uploaded_and_another_disk_is_restored(disk, tmp_path, objects):
    put = []
    whole_put = objects.put
    objects.put = lambda name, data: (put.append((name, len(data))), whole_put(name, data))
    for sequence in (1_000, 1_200):
        disk.write(sequence)
        manifest, _ = disk.snapshot()
    first, second = [
        [name for name, _ in group if name.startswith("sst/")]
        for _, group in itertools.groupby(put, lambda one: one[0].startswith("sst/"))
    ][::2]
    ssts = [file for file in manifest.files if file.name.endswith(".sst")]
    assert len(ssts) == 2
    assert {file.object for file in ssts} - set(second) == {ssts[0].object}
    assert ssts[0].object in first
    assert put[-1][0] == manifest.name == "manifest/0/00000000000000001200-5.json"
    fresh = other(tmp_path, objects)
    assert fresh.open() == f"snapshot {manifest.name}"
    assert (fresh.sequence(), fresh.count()) == (1_200, 2 * BATCH)
    assert fresh.shown[-1] == 1_200
    fresh.close()


def test_a_store_in_a_real_bucket(tmp_path, s3):
    objects = open_objects(s3, f"snapshots-{os.getpid()}")
    disk = Disk(tmp_path, objects)
    disk.open()
    for sequence in (1_000, 2_000, 3_000):
        disk.write(sequence)
        disk.now_ms += 1_000
        manifest, collected = disk.snapshot(Retention(2, 0))
    assert (collected.kept, collected.manifests) == (2, 1)
    assert collected.objects >= 1
    disk.close()
    fresh = other(tmp_path, objects)
    assert fresh.open() == f"snapshot {manifest.name}"
    assert fresh.sequence() == 3_000
    fresh.close()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FILE_DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "flipped": flip,
    "missing": lambda path: path.unlink(),
}
MANIFEST_DAMAGES = {
    "garbage": b"{garbage",
    "no fields": b'{"format": 1, "files": []}',
    "wrong types": {"offset": "1"},
    "newer format": {"format": limits.FORMAT + 1},
    "another topic": {"topic_id": "deleted"},
    "another application": {"application": "b"},
    "ahead of the log": {"offset": 1 << 50},
    "another history": {"tail_hash": 0},
}


def damage(objects, manifest, kind):
    sst = next(file for file in manifest.files if file.name.endswith(".sst"))
    if kind in FILE_DAMAGES:
        FILE_DAMAGES[kind](objects._folder / sst.object)
        return
    changed = MANIFEST_DAMAGES.get(kind)
    if kind == "escaping":
        changed = {"files": (dataclasses.replace(sst, name="../../x"),)}
    if isinstance(changed, dict):
        changed = dataclasses.replace(manifest, **changed).encode()
    objects.put(manifest.name, changed)


KINDS = (*FILE_DAMAGES, *MANIFEST_DAMAGES, "escaping")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_snapshot_is_passed_over_for_the_next_older(kind, disk, tmp_path, objects):
    disk.write(1_000)
    older, _ = disk.snapshot()
    disk.store.delete_range(b"\x01", b"\x02")  # so that it shares no file with the older one
    disk.write(2_000)
    disk.store._db.compact_range(None, None)
    newer, _ = disk.snapshot()
    shared = {file.object for file in older.files} & {file.object for file in newer.files}
    assert not any(
        name == file.object for file in newer.files for name in shared if "sst" in file.name
    )
    damage(objects, newer, kind)
    fresh = other(tmp_path, objects)
    assert fresh.open() == f"snapshot {older.name}"
    assert fresh.sequence() == 1_000
    (said, _) = fresh.said
    assert newer.name in said
    assert "E1208" in said
    fresh.close()


def test_without_any_sound_snapshot_a_store_begins_empty(disk, tmp_path, objects):
    disk.write(1_000)
    manifest, _ = disk.snapshot()
    damage(objects, manifest, "missing")
    fresh = other(tmp_path, objects)
    assert fresh.open() == ""
    assert fresh.sequence() == 0
    fresh.close()


def test_a_sound_local_store_stays_unless_it_is_far_behind(disk, tmp_path, objects):
    disk.write(1_000)
    disk.snapshot()
    late = other(tmp_path, objects)
    late.open()
    late.close()
    disk.write(1_000 + limits.RESTORE_AHEAD_MIN - 1)
    disk.snapshot()
    assert late.open() == ""
    assert late.sequence() == 1_000
    late.close()
    disk.write(1_000 + limits.RESTORE_AHEAD_MIN)
    far, _ = disk.snapshot()
    assert late.open() == f"snapshot {far.name}"
    late.close()


def test_a_store_below_the_logs_begin_takes_what_is_above(disk, tmp_path, objects):
    disk.write(1_000)
    disk.snapshot()
    late = other(tmp_path, objects)
    late.open()
    late.close()
    disk.write(2_000)
    newer, _ = disk.snapshot()
    assert late.open(begin=1_001) == f"snapshot {newer.name}"
    late.close()
    # Nothing lies above: the store stays as it is, and the fold's check explains (E1302).
    assert late.open(begin=5_000) == ""
    assert late.sequence() == 2_000
    late.close()


def test_a_store_of_another_log_or_ahead_of_it_is_left_for_a_person(disk, objects):
    disk.write(1_000)
    manifest, _ = disk.snapshot()
    disk.close()
    assert disk.open(end=900) == ""
    assert disk.sequence() == 1_000
    disk.close()
    # Not even for a snapshot that does belong to that log, and is far ahead.
    far = 1_000 + limits.RESTORE_AHEAD_MIN
    manifest = dataclasses.replace(manifest, topic_id="another", sequence=far)
    objects.put(manifest.name, manifest.encode())
    assert disk.open(topic_id="another") == ""
    assert disk.sequence() == 1_000


def test_a_store_of_a_newer_engine_is_neither_opened_nor_replaced(disk, tmp_path, objects):
    disk.write(1_000)
    fresh = other(tmp_path, objects)
    fresh.open()
    fresh.write(1_000 + limits.RESTORE_AHEAD_MIN)
    fresh.snapshot()
    fresh.close()
    position = wire.encode_position(position_of(disk.store), limits.FORMAT + 1)
    disk.store.write([(rows.POSITION_KEY, position)])
    disk.close()
    with pytest.raises(StoreError) as caught:
        disk.open()
    assert caught.value.code == "E1206"
    with pytest.raises(StoreError):
        disk.open()  # it is there still


DAMAGES = {
    "no CURRENT": lambda path: (path / "CURRENT").unlink(),
    "torn MANIFEST": lambda path: os.truncate(next(path.glob("MANIFEST-*")), 20),
    "garbage MANIFEST": lambda path: next(path.glob("MANIFEST-*")).write_bytes(b"\0" * 500),
    "no sst": lambda path: [one.unlink() for one in path.glob("*.sst")],
    "short sst": lambda path: [os.truncate(one, 10) for one in path.glob("*.sst")],
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_store_is_moved_aside_and_restored_from_the_checkpoint(kind, disk):
    disk.write(1_000)
    disk.snapshot()
    disk.snapshots = None
    disk.close()
    # A short file is told when it is opened, which may be later than the database's opening.
    shutil.copytree(disk.folder.store, disk.folder.store.with_name("kept"))
    for path in disk.folder.store.glob("*.sst"):  # no link of the checkpoint's
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    DAMAGES[kind](disk.folder.store)
    assert disk.open() == "the local checkpoint"
    assert (disk.sequence(), disk.count()) == (1_000, BATCH)
    assert "E1202" in disk.said[0]
    assert len(list(disk.folder._base.glob("0.broken-*"))) == 1


def test_only_a_few_broken_stores_are_kept(disk):
    for _ in range(limits.BROKEN_STORES_MAX + 2):
        disk.write(1_000)
        disk.close()
        (disk.folder.store / "CURRENT").unlink()
        disk.open()
    names = sorted(path.name for path in disk.folder._base.glob("0.broken-*"))
    last = limits.BROKEN_STORES_MAX + 2
    assert names == [
        f"0.broken-{at}" for at in range(last - limits.BROKEN_STORES_MAX + 1, last + 1)
    ]


def test_a_copy_that_led_to_a_damaged_store_is_avoided(disk, tmp_path, objects):
    disk.write(1_000)
    older, _ = disk.snapshot()
    disk.write(2_000)
    newer, _ = disk.snapshot()
    fresh = other(tmp_path, objects)
    assert fresh.open(avoid=[f"snapshot {newer.name}"]) == f"snapshot {older.name}"
    fresh.close()


def test_a_store_of_objects_that_is_away_is_no_reason_to_stay_closed(disk, tmp_path):
    class Away(FolderObjects):
        def names(self, prefix=""):
            raise UnavailableError("E1407", "it is away")

    fresh = Disk(tmp_path, Away(tmp_path / "objects"), "other")
    assert fresh.open() == ""
    assert "E1407" in fresh.said[0]
    fresh.close()


def test_below_the_logs_begin_a_store_waits_for_copies_that_are_away(disk, tmp_path, objects):
    disk.write(1_000)
    newest, _ = disk.snapshot()

    class Away(FolderObjects):
        away = True

        def names(self, prefix=""):
            if self.away:
                raise UnavailableError("E1407", "it is away")
            return super().names(prefix)

    away = Away(tmp_path / "objects")
    fresh = Disk(tmp_path, away, "other")
    with pytest.raises(UnavailableError, match="no copy can be had"):
        fresh.open(begin=1)
    away.away = False
    assert fresh.open(begin=1) == f"snapshot {newest.name}"
    fresh.close()


def test_the_newest_and_the_young_stay_and_nothing_they_name_goes(disk, objects):
    made = []
    for number in range(1, 7):
        disk.write(number * 1_000)
        disk.now_ms += 1_000
        manifest, _ = disk.snapshot(Retention(2, 3_500))
        made.append(manifest)
        for name in disk.snapshots.names(0):
            assert list(disk.snapshots.verify(disk.snapshots.load(name))) == []
    assert disk.snapshots.names(0) == [one.name for one in made[:1:-1]]
    disk.now_ms += 10_000
    disk.write(7_000)
    _, collected = disk.snapshot(Retention(2, 3_500))
    assert (collected.kept, collected.manifests) == (2, 3)
    named = {
        file.object for name in disk.snapshots.names(0) for file in disk.snapshots.load(name).files
    }
    assert set(objects.names("sst/")) == named


def test_nobody_deletes_what_another_writer_is_about_to_name(disk, tmp_path, objects):
    disk.write(1_000)
    disk.snapshot()
    begun = Disk(tmp_path, objects, "begun")
    objects.put(f"sst/0/{begun.writer}/{'a' * 64}", b"not named yet")
    for _ in range(3):
        disk.now_ms += limits.SNAPSHOT_ORPHANS_MS // 4
        disk.snapshot(Retention(1, 0))
        assert objects.names(f"sst/0/{begun.writer}/")
    disk.now_ms += limits.SNAPSHOT_ORPHANS_MS
    disk.snapshot(Retention(1, 0))
    assert not objects.names(f"sst/0/{begun.writer}/")


def test_snapshots_of_another_history_do_not_push_out_this_ones(disk, objects):
    disk.write(9_000)
    other_, _ = disk.snapshot()
    ahead = dataclasses.replace(other_, topic_id="before", sequence=90_000)
    objects.delete(other_.name)
    objects.put(ahead.name, ahead.encode())
    for number in range(10, 14):
        disk.write(number * 1_000)
        disk.snapshot(Retention(2, 0))
    assert len(disk.snapshots.names(0)) == 3
    disk.now_ms += limits.SNAPSHOT_ORPHANS_MS
    disk.write(20_000)
    disk.snapshot(Retention(2, 0))
    assert ahead.name not in disk.snapshots.names(0)


def test_a_manifest_that_cannot_be_read_stops_the_deleting_of_what_it_may_name(disk, objects):
    disk.write(1_000)
    disk.snapshot(Retention(2, 0))
    disk.write(2_000)
    second, _ = disk.snapshot(Retention(2, 0))
    whole = objects.get(second.name)
    objects.put(second.name, b"torn")
    disk.write(3_000)
    disk.store._db.compact_range(None, None)
    disk.snapshot(Retention(2, 0))
    objects.put(second.name, whole)
    assert list(disk.snapshots.verify(second)) == []


def test_a_full_disk_is_told_and_nothing_is_moved(disk, tmp_path, objects, monkeypatch):
    disk.write(1_000)
    disk.snapshot()
    fresh = other(tmp_path, objects)

    def full(_files, name, _data):
        raise StoreError("E1207", "No space left on device", file=name)

    monkeypatch.setattr("engine.store.checkpoints.FolderFiles.write", full)
    with pytest.raises(StoreError) as raised:
        fresh.open()
    assert raised.value.code == "E1207"
    assert not list((tmp_path / "other").glob("0.broken-*"))
