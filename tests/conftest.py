"""Fixtures for all tests. `kafka` is a real broker, started once per session when first asked."""

import importlib
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "integration"))


@pytest.fixture(scope="session")
def kafka(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Generator[str]:
    """Yield the bootstrap address of a real local Apache Kafka."""
    shared_kafka = importlib.import_module("kafka_fixture").shared_kafka

    base = tmp_path_factory.getbasetemp()
    # Under xdist each worker has a folder of its own below the session's.
    if hasattr(request.config, "workerinput"):
        base = base.parent
    with shared_kafka(base / "kafka-session") as address:
        yield address
