"""Three brokers: copies of every topic, and clients that go on when a broker hangs."""

import signal

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient
from kafka_fixture import own_kafka

from engine.errors import UnavailableError
from engine.log.kafka.connection import Connection
from engine.log.kafka.topics import TOPIC_ID_AGE_MS, Topics, plans
from engine.settings import LogSettings
from engine.world import SystemClock

ANSWER_MS_MAX = 45_000
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def asked_again(ask, clock):
    """Ask as a node does: again and again while the answer is E1401."""
    deadline_ms = clock.monotonic_ms() + ANSWER_MS_MAX
    while True:
        try:
            return ask()
        except UnavailableError:
            assert clock.monotonic_ms() < deadline_ms, "no answer though two brokers live"


def test_topics_have_copies_and_are_described_though_a_controller_hangs(tmp_path):
    with own_kafka(tmp_path, 3) as (kafka, address):
        settings = LogSettings(kind="kafka", bootstrap_servers=address)
        topics = Topics(Connection(settings, "three"), 2)
        topics.ensure()
        admin = AdminClient({"bootstrap.servers": address})
        names = [f"three.{plan.kind}" for plan in plans(2)]
        for described in admin.describe_topics(TopicCollection(names)).values():
            assert {len(each.replicas) for each in described.result(30).partitions} == {3}
        known = topics.topic_id("events")
        # Whom this client takes for the controller: it hangs, which nothing tells the client.
        gone = topics._admin.list_topics(timeout=30).controller_id
        kafka.kill(gone, signal.SIGSTOP)
        clock = SystemClock()
        clock.sleep_ms(TOPIC_ID_AGE_MS)  # until then the id is remembered
        assert asked_again(lambda: topics.topic_id("events"), clock) == known
