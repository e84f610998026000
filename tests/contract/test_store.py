"""What PartitionStore and StoreView promise, on every implementation."""

import threading

import pytest

from engine.errors import EngineError, UnavailableError


def rows(view, start=b"\x00", end=b"\xff", **options):
    return list(view.scan(start, end, **options))


def filled(store_world, count=300):
    store = store_world.store
    expected = [(b"key %03d" % number, b"value %d" % number) for number in range(count)]
    store.write(reversed(expected))
    return store, expected


def test_a_new_store_is_empty(store_world):
    store = store_world.store
    assert store.get(b"key") is None
    assert store.get_many([b"key", b"other"]) == [None, None]
    view = store.view()
    assert rows(view) == []
    view.close()


def test_what_was_written_is_there(store_world):
    store = store_world.store
    store.write([(b"a", b"1"), (b"b", b""), (b"\x00\xff", b"\x00")])
    assert store.get(b"a") == b"1"
    assert store.get(b"b") == b""
    assert store.get(b"\x00\xff") == b"\x00"
    assert store.get_many([b"b", b"c", b"a", b"a"]) == [b"", None, b"1", b"1"]
    assert store.get_many([]) == []


def test_none_deletes_and_the_last_of_equal_keys_stays(store_world):
    store = store_world.store
    store.write([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
    store.write([(b"a", None), (b"b", b"2"), (b"b", b"3"), (b"none", None), (b"c", None)])
    store.write([(b"c", None), (b"c", b"4")])
    assert store.get_many([b"a", b"b", b"c"]) == [None, b"3", b"4"]


def test_an_empty_write_is_harmless(store_world):
    store_world.store.write([])
    assert store_world.store.get(b"a") is None


def test_a_range_is_deleted_and_views_still_show_it(store_world):
    store, expected = filled(store_world)
    view = store.view()
    store.delete_range(b"key 010", b"key 290")
    assert store.get_many([b"key 009", b"key 010", b"key 289", b"key 290"]) == [
        b"value 9",
        None,
        None,
        b"value 290",
    ]
    later = store.view()
    assert rows(later) == expected[:10] + expected[290:]
    assert rows(later, reverse=True) == (expected[:10] + expected[290:])[::-1]
    assert rows(view) == expected
    assert view.get(b"key 010") == b"value 10"
    store.write([(b"key 010", b"again")])
    store.delete_range(b"key 290", b"key 290")
    store.delete_range(b"key 299", b"key 010")
    assert store.get_many([b"key 010", b"key 290"]) == [b"again", b"value 290"]
    later.close()
    view.close()


def test_scan_goes_in_key_order_from_start_to_before_end(store_world):
    store, expected = filled(store_world)
    view = store.view()
    assert rows(view) == expected
    assert rows(view, reverse=True) == expected[::-1]
    assert rows(view, b"key 010", b"key 020") == expected[10:20]
    assert rows(view, b"key 010", b"key 020", reverse=True) == expected[10:20][::-1]
    assert rows(view, b"key 0105", b"key 0199") == expected[11:20]
    assert rows(view, b"key 020", b"key 020") == []
    assert rows(view, b"key 020", b"key 010") == []
    assert rows(view, b"key 020", b"key 010", reverse=True) == []
    assert rows(view, b"l", b"m", reverse=True) == []
    view.close()


def test_a_scan_may_be_left_early(store_world):
    store, expected = filled(store_world)
    view = store.view()
    for _ in range(3):
        assert next(view.scan(b"key", b"l")) == expected[0]
        assert next(view.scan(b"key", b"l", reverse=True)) == expected[-1]
    view.close()


def test_a_view_never_shows_what_was_written_later(store_world):
    store, expected = filled(store_world)
    view = store.view()
    store.write([(b"key 000", b"changed"), (b"key 001", None), (b"key 0005", b"new")])
    store.write([(b"key 299", None), (b"zz", b"new"), (b"key 000", None)])
    store.flush()
    assert rows(view) == expected
    assert rows(view, reverse=True) == expected[::-1]
    assert view.get(b"key 000") == b"value 0"
    assert view.get(b"key 001") == b"value 1"
    assert view.get(b"zz") is None
    later = store.view()
    assert later.get(b"key 000") is None
    assert [key for key, _ in rows(later, b"key 000", b"key 003")] == [b"key 0005", b"key 002"]
    view.close()
    assert later.get(b"zz") == b"new"
    later.close()


def test_writes_in_the_middle_of_a_scan_do_not_show(store_world):
    store, expected = filled(store_world)
    for reverse in (False, True):
        view = store.view()
        seen = []
        for number, row in enumerate(view.scan(b"key", b"l", reverse=reverse)):
            seen.append(row)
            store.write([(b"key %03d" % (7 * number % 300), None), (b"key %03dx" % number, b"new")])
        assert seen == (expected[::-1] if reverse else expected)
        view.close()
        store.write([(b"key %03dx" % number, None) for number in range(300)])
        store.write(expected)


def test_a_view_can_be_read_in_another_thread_while_rows_are_written(store_world):
    store, expected = filled(store_world)
    view = store.view()
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(rows(view) for _ in range(5)))
    reader.start()
    for round_ in range(50):
        store.write([(key, b"round %d" % round_) for key, _ in expected[::3]])
    reader.join()
    assert seen == [expected] * 5
    view.close()


def test_views_see_whole_writes_only(store_world):
    store = store_world.store
    stop = threading.Event()
    store.write([(b"left", b"0"), (b"right", b"0")])
    faults = []

    def compare():
        while not stop.is_set():
            view = store.view()
            got = [view.get(b"left"), view.get(b"right")]
            scanned = [value for _, value in rows(view)]
            if len({*got, *scanned}) != 1:
                faults.append((got, scanned))
            view.close()

    reader = threading.Thread(target=compare)
    reader.start()
    for number in range(500):
        store.write([(b"left", b"%d" % number), (b"right", b"%d" % number)])
    stop.set()
    reader.join()
    assert faults == []


def test_a_restart_after_close_keeps_all(store_world):
    store, expected = filled(store_world)
    store.flush()
    store.write([(b"after", b"the flush")])
    store = store_world.restart()
    view = store.view()
    assert rows(view) == [(b"after", b"the flush"), *expected]
    view.close()


def test_closing_twice_and_with_open_views_is_harmless(store_world):
    store, _ = filled(store_world)
    view = store.view()
    store.close()
    view.close()
    store.close()


def test_a_closed_store_refuses(store_world):
    store, _ = filled(store_world)
    store.close()
    with pytest.raises(AssertionError):
        store.get(b"key 000")
    with pytest.raises(AssertionError):
        store.write([(b"a", b"1")])


def test_a_picture_of_a_closed_store_is_to_be_asked_for_again(store_world):
    """Readers don't know when a partition is let go."""
    store, _ = filled(store_world)
    store.close()
    with pytest.raises(UnavailableError) as caught:
        store.view()
    assert caught.value.code == "E1402"


def test_statistics_are_numbers(store_world):
    store, _ = filled(store_world)
    assert all(isinstance(value, int | float) for value in store.statistics().values())


def test_a_checkpoint_is_the_store_as_it_was(store_world, tmp_path):
    store, expected = filled(store_world)
    store.checkpoint(tmp_path / "copy")
    store.write([(b"key 000", b"changed"), (b"key 001", None), (b"later", b"new")])
    store.delete_range(b"key 100", b"key 200")
    store.flush()
    copy = store_world.opened(tmp_path / "copy")
    view = copy.view()
    assert rows(view) == expected
    view.close()
    copy.write([(b"key 005", b"in the copy")])
    copy.close()
    assert store.get(b"key 005") == b"value 5"
    assert store.get(b"key 100") is None


def test_a_checkpoint_under_writes_is_one_write(store_world, tmp_path):
    store, names = store_world.store, [b"name %d" % number for number in range(50)]
    done, stop, asked = [0], threading.Event(), []
    store.write([(name, b"0") for name in names])

    def write():
        while not stop.is_set():
            number = done[0] + 1
            store.write([(name, b"%d" % number) for name in names])
            done[0] = number

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(10):
        before = done[0]
        store.checkpoint(tmp_path / f"copy {number}")
        asked.append((before, done[0] + 1))
    stop.set()
    writer.join()
    for number, (before, after) in enumerate(asked):
        copy = store_world.opened(tmp_path / f"copy {number}")
        values = {int(value) for value in copy.get_many(names)}
        copy.close()
        assert len(values) == 1
        assert before <= values.pop() <= after


def test_a_store_that_is_closed_meanwhile_leaves_a_whole_checkpoint_or_none(store_world, tmp_path):
    store, expected = filled(store_world)
    closer = threading.Thread(target=store.close)
    closer.start()
    try:
        store.checkpoint(tmp_path / "copy")
    except (EngineError, AssertionError):
        assert not (tmp_path / "copy").exists()
    else:
        closer.join()
        copy = store_world.opened(tmp_path / "copy")
        view = copy.view()
        assert rows(view) == expected
        view.close()
        copy.close()
    closer.join()
