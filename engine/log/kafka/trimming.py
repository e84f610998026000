"""Deletes records below an offset at the broker: the one way that events ever go."""

from confluent_kafka import KafkaException, TopicPartition

from engine.log.kafka.connection import REQUEST_TIMEOUT_S, Connection, unavailable


def delete_records(connection: Connection, kind: str, partition: int, before: int) -> None:
    """Have the broker delete a partition's records below `before`; blocks until it has."""
    place = TopicPartition(connection.topic(kind), partition, before)
    admin = connection.admin()
    try:
        for future in admin.delete_records([place]).values():
            future.result(REQUEST_TIMEOUT_S)
    except (KafkaException, TimeoutError) as fault:
        raise unavailable(fault, f"{place.topic} can't be trimmed") from fault
