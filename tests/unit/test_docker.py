"""What docker/ says agrees with the engine, as far as a machine without Docker can tell."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from engine.cli.main import WORDS, app
from engine.log.kafka.jars import VERSION
from engine.settings import load_settings, settings_schema

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
DOCKERFILE = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text())
INTERPOLATED = re.compile(r"\$\{PARTITA_TOKEN:\?[^}]+\}")


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load((DOCKER / name).read_text())


def steps(word: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in DOCKERFILE.splitlines() if line.startswith(word)]


def nodes() -> dict[str, dict[str, Any]]:
    services = loaded("compose.yaml")["services"]
    return {name: each for name, each in services.items() if name.startswith("node-")}


def known_variables() -> set[str]:
    schema = settings_schema()
    known: set[str] = set()
    for name, entry in schema["properties"].items():
        group = re.search(r"#/\$defs/(\w+)", str(entry))
        inner = schema["$defs"][group[1]]["properties"] if group else {}
        known |= {f"PARTITA__{name}__{one}".upper() for one in inner} or {
            f"PARTITA__{name}".upper()
        }
    return known


def given_to_node(name: str) -> dict[str, str]:
    """Return a node's variables as a container has them: the image's, then compose's."""
    image = dict(pair.split("=", 1) for line in steps("ENV ") for pair in shlex.split(line))
    composed = {
        variable: INTERPOLATED.sub("secret", str(value))
        for variable, value in nodes()[name]["environment"].items()
    }
    return {
        variable: value
        for variable, value in (image | composed).items()
        if variable.startswith("PARTITA")
    }


@pytest.mark.parametrize("name", ["node-1", "node-2"])
def test_the_settings_of_a_container_are_settings(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = given_to_node(name)
    assert set(given) <= known_variables()
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert settings.node == name
    assert settings.log.kind == "kafka"
    assert settings.http.token is not None
    assert settings.http.advertise == f"http://{name}:{settings.http.port}"


def test_the_nodes_reach_the_brokers_and_the_collector():
    services = loaded("compose.yaml")["services"]
    for name in nodes():
        given = given_to_node(name)
        for server in given["PARTITA__LOG__BOOTSTRAP_SERVERS"].split(","):
            broker = services[server.partition(":")[0]]["environment"]
            assert broker["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{server}"
        host, port = given["PARTITA__OTEL__ENDPOINT"].removeprefix("http://").split(":")
        assert host in services
        receivers = loaded("collector.yaml")["receivers"]["otlp"]["protocols"]
        assert receivers["http"]["endpoint"].endswith(f":{port}")


def test_the_brokers_keep_what_they_acknowledge():
    services = loaded("compose.yaml")["services"]
    brokers = {name: each for name, each in services.items() if name.startswith("broker-")}
    assert len(brokers) == 3
    for name, broker in brokers.items():
        settings = broker["environment"]
        assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == 2
        assert settings["KAFKA_DEFAULT_REPLICATION_FACTOR"] == 3
        assert settings["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        # Nodes keep their stores in volumes: a log that is gone beside them would be refused.
        assert broker["volumes"] == [f"{name}:{settings['KAFKA_LOG_DIRS']}"]
        assert broker["image"] == f"apache/kafka:{VERSION}", "the version that the tests run"
    voters = brokers["broker-1"]["environment"]["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
    identities = {
        f"{each['environment']['KAFKA_NODE_ID']}@{name}" for name, each in brokers.items()
    }
    assert {voter.rpartition(":")[0] for voter in voters} == identities


def test_volumes_and_secrets_are_declared_and_mounted_files_exist():
    compose = loaded("compose.yaml")
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).is_file()


def test_prometheus_asks_the_nodes_with_their_token():
    (job,) = loaded("prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{name}:8080" for name in nodes()]}]
    mounted = loaded("compose.yaml")["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{mounted[0]}"


def test_the_collector_s_pipeline_is_made_of_its_parts():
    collector = loaded("collector.yaml")
    for pipeline in collector["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(collector[part])


def test_images_are_pinned():
    images = [line.split()[0] for line in steps("FROM ")]
    images += [service["image"] for service in loaded("compose.yaml")["services"].values()]
    for image in images:
        if image != "partita":  # the one that is built here
            assert re.search(r":v?\d+\.\d+\.\d+", image), image


def test_what_is_copied_exists_and_what_is_installed_is_locked():
    for line in steps("COPY "):
        if not line.startswith("--from="):
            *sources, _target = line.split()
            for source in sources:
                assert (ROOT / source).exists(), source
    for line in steps("RUN "):
        for command in line.split("&&"):
            if "uv pip install" in command:
                assert "--constraint requirements.lock" in command
    uv = (DOCKER / "uv.txt").read_text().strip()
    assert re.fullmatch(r"uv==[\d.]+", uv)


def test_it_does_not_run_as_root():
    final = DOCKERFILE.split("\nFROM ")[-1]
    (user,) = re.findall(r"^USER (\S+)", final, re.MULTILINE)
    assert re.search(rf"useradd .*\b{user}$", final, re.MULTILINE)
    assert final.index("USER ") < final.index("ENTRYPOINT")


def test_its_commands_are_ours():
    (entry,) = [yaml.safe_load(line) for line in steps("ENTRYPOINT ")]
    assert entry == ["partita"]
    (command,) = [yaml.safe_load(line) for line in steps("CMD ")]
    assert command[0] in WORDS
    folder = command[1].removeprefix("/opt/")
    assert (ROOT / folder / "application.toml").is_file()
    group: Any = get_command(app)
    for words in re.findall(r"/bin/partita (\w+) (\w+) (\S+)", " ".join(steps("RUN "))):
        _, found, _ = group.resolve_command(
            group.make_context("partita", ["--help"], resilient_parsing=True), list(words)
        )
        assert words[1] in found.commands
        assert (ROOT / words[2] / "application.toml").is_file()
