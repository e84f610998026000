"""Settings: the order of their sources, and what a wrong one says."""

import os
import tomllib
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.settings import MASK, load_settings, settings_schema, show, to_toml


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("PARTITA"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_safe() -> None:
    settings = load_settings()
    assert settings.http.host == "127.0.0.1"
    assert settings.http.token is None
    assert not settings.http.insecure
    assert settings.log.kind == "embedded"
    assert settings.otel.endpoint == ""


def test_flags_over_environment_over_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "my.toml"
    file.write_text('node = "file"\n[http]\nport = 1\nhost = "::1"\n[log]\ntopic_prefix = "t."\n')
    monkeypatch.setenv("PARTITA__HTTP__PORT", "2")
    monkeypatch.setenv("PARTITA__NODE", "env")
    settings = load_settings(file, {"http": {"port": 3, "host": None}, "node": None})
    assert settings.http.port == 3
    assert settings.node == "env"
    assert settings.http.host == "::1"
    assert settings.log.topic_prefix == "t."
    assert settings.log.bootstrap_servers == "127.0.0.1:9092"
    assert load_settings(file).http.port == 2


def test_a_file_in_the_folder_is_found_and_one_named_must_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "partita.toml").write_text('node = "here"\n')
    assert load_settings().node == "here"
    monkeypatch.setenv("PARTITA_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_settings()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"http": {"port": 70_000}}, "http.port"),
        ({"http": {"port": "many"}}, "http.port"),
        ({"http": {"prot": 1}}, "http.prot: there is no such setting"),
        ({"nod": "a"}, "nod: there is no such setting"),
        ({"node": "a b"}, "node"),
        ({"log": {"kind": "pulsar"}}, "log.kind"),
        ({"log": {"replication": 0}}, "log.replication"),
        ({"log": {"session_timeout_ms": 5}}, "log.session_timeout_ms"),
        ({"otel": {"sample_ratio": 1.5}}, "otel.sample_ratio"),
        ({"otel": {"endpoint": "collector:4318"}}, "otel.endpoint"),
        ({"http": {"token": "a b"}}, "http.token"),
        ({"http": {"token": ""}}, "http.token"),
        ({"http": {"advertise": "node1:80"}}, "http.advertise"),
        ({"host": "jvm"}, "host"),
    ],
)
def test_a_wrong_setting_is_named(flags: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, flags)
    assert caught.value.code == "E1001"
    assert named in str(caught.value)


def test_all_wrong_settings_are_named_at_once_and_no_secret_is_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {"http": {"port": -1, "token": "geheim niet"}, "host": "jvm"})
    text = str(caught.value)
    assert "http.port" in text
    assert "http.token" in text
    assert "host" in text
    assert "geheim" not in text


@pytest.mark.parametrize("name", ["PARTITA__HTPP__PORT", "PARTITA__PORT"])
def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=name):
        load_settings()


def test_a_misspelt_part_of_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITA__HTTP__PROT", "1")
    with pytest.raises(ConfigError, match=r"http\.prot"):
        load_settings()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("node = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load_settings(file)


def test_show_masks_secrets_and_reads_back_as_toml() -> None:
    settings = load_settings(None, {"http": {"token": "open-sesame"}})
    tree = show(settings)
    assert tree["http"]["token"] == MASK
    text = to_toml(tree)
    assert "open-sesame" not in text + repr(settings)
    assert "# replication is unset" in text
    assert tomllib.loads(text)["http"]["port"] == 8080


def test_the_schema_describes_every_setting() -> None:
    schema = settings_schema()
    assert set(schema["properties"]) >= {"data", "node", "http", "log", "otel", "log_format"}
    for group in schema["$defs"].values():
        for name, part in group["properties"].items():
            assert "description" in part, name
