"""The Kafka adapter: topics, logs, membership, directory, content."""
