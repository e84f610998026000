"""Three brokers: copies of every topic, and clients that go on when a broker is gone for good."""

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient
from kafka_fixture import own_kafka

from engine.log.kafka.connection import Connection
from engine.log.kafka.topics import TOPIC_ID_AGE_MS, Topics, plans
from engine.settings import LogSettings
from engine.world import SystemClock

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def test_topics_have_copies_and_are_described_though_a_controller_is_gone(tmp_path):
    with own_kafka(tmp_path, 3) as (kafka, address):
        settings = LogSettings(kind="kafka", bootstrap_servers=address)
        topics = Topics(Connection(settings, "three"), 2)
        topics.ensure()
        admin = AdminClient({"bootstrap.servers": address})
        names = [f"three.{plan.kind}" for plan in plans(2)]
        for described in admin.describe_topics(TopicCollection(names)).values():
            assert {len(each.replicas) for each in described.result(30).partitions} == {3}
        known = topics.topic_id("events")
        # Whom this client takes for the controller; it isn't told that it went.
        gone = topics._admin.list_topics(timeout=30).controller_id
        kafka.kill(gone)
        clock = SystemClock()
        clock.sleep_ms(TOPIC_ID_AGE_MS)  # until then the id is remembered
        assert topics.topic_id("events") == known
        assert topics.bounds("events", 0).end == 0
