"""Fixtures for all tests: a real broker, a real S3 server, each started when first asked for."""

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


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Yield the address of a bucket on a real S3 server."""
    s3_server = importlib.import_module("s3_fixture").s3_server

    with s3_server(tmp_path_factory.mktemp("s3") / "root") as server:
        yield server.url
