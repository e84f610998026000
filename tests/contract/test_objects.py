"""What ObjectStore promises, on every implementation."""

import threading

import pytest

from engine.errors import EngineError
from engine.log.objects import listed


def test_what_was_put_is_there_until_deleted(objects):
    assert objects.get("module.wasm") is None
    objects.put("module.wasm", b"\x00asm")
    objects.put("empty", b"")
    assert objects.get("module.wasm") == b"\x00asm"
    assert objects.get("empty") == b""
    objects.delete("module.wasm")
    assert objects.get("module.wasm") is None
    assert objects.names() == ["empty"]


def test_putting_the_same_again_and_deleting_nothing_is_harmless(objects):
    for _ in range(3):
        objects.put("a", b"1")
    objects.delete("b")
    objects.delete("a")
    objects.delete("a")
    assert objects.names() == []


def test_names_are_listed_by_prefix_in_order(objects):
    for name in ("b/2", "a", "b/1", "b/c/3", "bb"):
        objects.put(name, name.encode())
    assert objects.names() == ["a", "b/1", "b/2", "b/c/3", "bb"]
    assert objects.names("b/") == ["b/1", "b/2", "b/c/3"]
    assert objects.names("b/c") == ["b/c/3"]
    assert objects.names("x") == []
    assert objects.get("b/c/3") == b"b/c/3"


def test_what_a_store_keeps_beside_the_objects_is_not_listed():
    # versitygw shows what it has half written, by names that no object of ours can have.
    assert listed(["b/.2.sgwtmp.17", "b/2", ".a", "b/.x/3", "c"], "b/") == ["b/2"]


def test_a_prefix_of_a_name_is_no_object(objects):
    objects.put("b/c/3", b"x")
    assert objects.get("b/c") is None
    assert objects.get("b/c/3/d") is None
    objects.delete("b/c")
    assert objects.names() == ["b/c/3"]


WRONG_NAMES = (
    *("", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", ".hidden", "a\0", "a b", "a\n"),
    *("é", "a\\b", "x" * 256, "/".join("abcdefghi")),
)


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_could_lead_elsewhere_is_refused(objects, name):
    for use in (lambda: objects.put(name, b"x"), lambda: objects.get(name)):
        with pytest.raises(EngineError) as raised:
            use()
        assert raised.value.code == "E1001"
    with pytest.raises(EngineError):
        objects.delete(name)
    assert objects.names() == []


def test_readers_meet_whole_objects_only(objects):
    blobs = [bytes([number]) * 50_000 for number in range(4)]
    objects.put("a", blobs[0])
    seen = []
    writers = [
        threading.Thread(target=lambda blob=blob: [objects.put("a", blob) for _ in range(5)])
        for blob in blobs
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(objects.get("a"))
        assert objects.names() == ["a"]
    for writer in writers:
        writer.join()
    assert all(blob in blobs for blob in seen)
    assert objects.get("a") in blobs
