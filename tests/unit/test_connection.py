"""What clients of the broker are made with: the properties that the rules rest on."""

from typing import Any

import pytest

from engine.log.kafka.connection import Connection
from engine.settings import LogSettings


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    """Return a connection that shows the properties it would make a client of."""

    def shown(_connection: Connection, _kind: type, own: dict[str, Any]) -> dict[str, Any]:
        return own

    monkeypatch.setattr(Connection, "_made", shown)
    return Connection(LogSettings(kind="kafka", bootstrap_servers="localhost:1"), "bank")


def properties(made: Any) -> dict[str, Any]:
    return made


def test_a_producer_of_the_event_log_loses_doubles_and_reorders_nothing(
    connection: Connection,
) -> None:
    """R1: with a finite message.timeout.ms one record may be lost and a later one land."""
    own = properties(connection.log_producer(lambda _: None))
    assert own["acks"] == "all"
    assert own["enable.idempotence"] is True
    assert own["enable.gapless.guarantee"] is True
    assert own["message.timeout.ms"] == 0
    assert own["max.in.flight.requests.per.connection"] <= 5
    assert "transactional.id" not in own


def test_a_reader_waits_neither_for_a_full_fetch_nor_long_after_a_full_queue(
    connection: Connection,
) -> None:
    own = properties(connection.reader("events", committed=False))
    assert own["fetch.wait.max.ms"] <= 50
    assert own["fetch.queue.backoff.ms"] <= 50


def test_no_position_comes_from_a_group(connection: Connection) -> None:
    for own in (
        properties(connection.reader("commands", committed=True)),
        properties(connection.member()),
    ):
        assert own["enable.auto.commit"] is False
        assert own["enable.auto.offset.store"] is False
        assert own["auto.offset.reset"] == "error"


@pytest.mark.usefixtures("connection")
def test_a_process_that_stands_still_is_no_member_for_long() -> None:
    for session_ms, interval_ms in ((6_000, 60_000), (90_000, 90_000)):
        settings = LogSettings(kind="kafka", session_timeout_ms=session_ms)
        own = properties(Connection(settings, "bank").member())
        assert own["max.poll.interval.ms"] == interval_ms >= own["session.timeout.ms"]


def test_a_member_that_died_keeps_no_place_in_the_group(connection: Connection) -> None:
    own = properties(connection.member())
    assert "group.instance.id" not in own
    assert own["partition.assignment.strategy"] == "cooperative-sticky"
