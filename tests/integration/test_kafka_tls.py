"""A broker that wants TLS and a password: a node's properties file is enough for all it does."""

import subprocess
from pathlib import Path

import httpx
import pytest

from engine.bench.serving import Served
from engine.bench.waiting import await_
from engine.errors import EngineError
from engine.log.kafka.local import Broker, Cluster, LocalKafka
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.processes import HOST, free_ports
from engine.settings import LogSettings

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("tls")]
BANK = Path(__file__).parent.parent.parent / "topology" / "bank"
PASSWORD = "not-a-secret"


class SecureKafka(LocalKafka):
    """A local broker with one more listener: TLS, and SASL PLAIN."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        super().__init__(folder)
        self._certificate = certificate
        self.address = f"{HOST}:{free_ports(1)[0]}"

    def _configure(self, cluster: Cluster, broker: Broker) -> None:
        super()._configure(cluster, broker)
        file = self._properties(broker)
        known = dict(line.split("=", 1) for line in file.read_text().splitlines())
        listeners = f"{known['listeners']},SECURE://{self.address}"
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        more = {
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": known["listener.security.protocol.map"]
            + ",SECURE:SASL_SSL",
            "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": f'{login} user_node="{PASSWORD}";',
            "listener.name.secure.ssl.keystore.type": "PEM",
            "listener.name.secure.ssl.keystore.location": str(self._certificate),
        }
        file.write_text("".join(f"{name}={value}\n" for name, value in {**known, **more}.items()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for this address, signed by itself."""
    folder = tmp_path_factory.mktemp("certificate")
    wanted = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    names = ["-addext", f"subjectAltName=IP:{HOST}"]
    command = ["openssl", "req", "-x509", *wanted, *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    both = (folder / "key.pem").read_text() + (folder / "certificate.pem").read_text()
    (folder / "both.pem").write_text(both)
    return folder


@pytest.fixture(scope="module")
def secure(certificate, tmp_path_factory):
    kafka = SecureKafka(tmp_path_factory.mktemp("kafka"), certificate / "both.pem")
    try:
        kafka.start(port=0)
        yield kafka.address
    finally:
        kafka.stop()


def properties(folder: Path, certificate: Path, **other: str) -> Path:
    file = folder / "node.properties"
    values = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(certificate / "certificate.pem"),
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "node",
        "sasl.password": PASSWORD,
        **{name.replace("_", "."): value for name, value in other.items()},
    }
    file.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
    return file


def test_a_node_serves_over_tls_with_a_password(secure, certificate, tmp_path):
    flags = ("--properties", str(properties(tmp_path, certificate)))
    with Served(BANK, tmp_path / "data", secure, ["only"], flags) as nodes:
        await_(lambda: len(nodes.owners()) == 4, "every partition owned", 60)
        path = "/v1/workspaces/a/commands/open"
        answer = httpx.post(nodes.url("only") + path, json={"owner": "somebody"}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["sequence"] == 1


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"sasl_password": "another"}, "E1401"), ({"ssl_ca_location": "/etc/hostname"}, "E1001")],
    ids=["password", "authority"],
)
def test_what_is_wrong_is_said_in_bounded_time(
    secure, certificate, tmp_path, monkeypatch, wrong, code
):
    monkeypatch.setattr("engine.log.kafka.topics.REQUEST_TIMEOUT_S", 2.0)
    file = properties(tmp_path, certificate, **wrong)
    settings = LogSettings(kind="kafka", bootstrap_servers=secure, properties_file=file)
    with pytest.raises(EngineError) as caught:
        KafkaLogs(settings, "bank", 4)
    assert caught.value.code == code
