"""One tree of settings: flags over environment over file over defaults.

Owns what may be set, and the message when it is set wrongly (E1001 names the setting). Nothing
else reads the environment or the settings file, and constructors take the small groups below
rather than the whole tree.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from engine.errors import ConfigError
from engine.limits import STANDBYS_MAX

PREFIX = "PARTITA__"
FILE_VARIABLE = "PARTITA_CONFIG"
FILE_DEFAULT = "partita.toml"
MASK = "********"

_STRICT = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class HttpSettings(BaseModel):
    """Where HTTP listens, and who may ask."""

    model_config = _STRICT

    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless token is set")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one")
    token: SecretStr | None = Field(None, description="Bearer token that every request must carry")
    insecure: bool = Field(default=False, description="Listen beyond loopback without a token")
    advertise: str = Field("", description="Base URL at which other nodes reach this one")

    @field_validator("token")
    @classmethod
    def _usable(cls, token: SecretStr | None) -> SecretStr | None:
        text = "x" if token is None else token.get_secret_value()
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("a token is printable ASCII without spaces, at least one character")
        return token

    @field_validator("advertise")
    @classmethod
    def _base_url(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("a base URL begins with http:// or https://")
        return url.rstrip("/")


class LogSettings(BaseModel):
    """Which log the application lives on."""

    model_config = _STRICT

    kind: Literal["embedded", "kafka"] = Field(
        "embedded", description="embedded: segment files in the data folder; kafka: a broker"
    )
    bootstrap_servers: str = Field("127.0.0.1:9092", min_length=1, description="Kafka's addresses")
    topic_prefix: str = Field(
        "",
        max_length=100,
        pattern=r"^[a-zA-Z0-9._-]*$",
        description="Put before every topic's name, for a cluster shared with others",
    )
    properties_file: Path | None = Field(
        None, description="File of librdkafka properties (TLS, SASL), one name=value a line"
    )
    session_timeout_ms: int = Field(
        6_000, ge=1_000, le=300_000, description="After this silence the group drops a node"
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="classic: cooperative; consumer: KIP-848, its time-outs the broker's"
    )
    replication: int | None = Field(
        None, ge=1, le=9, description="Copies of each topic; unset: min(3, brokers)"
    )


class OtelSettings(BaseModel):
    """Where traces go. A slow or absent collector never slows the engine."""

    model_config = _STRICT

    endpoint: str = Field("", description="OTLP/HTTP base URL of a collector; empty = no traces")
    sample_ratio: float = Field(
        0.01, ge=0.0, le=1.0, description="Share of HTTP commands that begin a trace of their own"
    )

    @field_validator("endpoint")
    @classmethod
    def _base_url(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("an endpoint begins with http:// or https://")
        return url.rstrip("/")


class SnapshotSettings(BaseModel):
    """Where snapshots and archives go, how often, and how long they stay."""

    model_config = _STRICT

    url: str = Field(
        "",
        description="file:///folder or s3://bucket/prefix?endpoint=URL&region=NAME; empty = only "
        "checkpoints on the node's own disk. Credentials come from AWS_… variables",
    )
    interval_s: int = Field(300, ge=1, le=86_400, description="A copy of each partition so often")
    keep: int = Field(3, ge=1, le=1_000, description="Snapshots of a partition that stay")
    keep_younger_s: int = Field(
        3_600, ge=0, le=31_536_000, description="Snapshots younger than this stay, too"
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        if url and not url.startswith(("file:///", "s3://")):
            raise ValueError("an address begins with file:/// or s3://")
        if "@" in url:
            raise ValueError("credentials come from the environment, not from an address")
        return url


def _no_http() -> HttpSettings:
    return HttpSettings.model_validate({})


def _no_log() -> LogSettings:
    return LogSettings.model_validate({})


def _no_snapshots() -> SnapshotSettings:
    return SnapshotSettings.model_validate({})


def _no_otel() -> OtelSettings:
    return OtelSettings.model_validate({})


class Settings(BaseSettings):
    """Everything that may be set; `partita config show` prints it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    data: Path = Field(Path(".partita"), description="Folder of stores and the embedded log")
    node: Annotated[str, Field(max_length=200, pattern=r"^[a-zA-Z0-9._-]*$")] = Field(
        "", description="This node's name, unique among the nodes; empty = made from the host's"
    )
    standbys: int | None = Field(
        None,
        ge=0,
        le=STANDBYS_MAX,
        description="Nodes that hold each partition ready; unset: 1 on Kafka, else 0",
    )
    host: Literal["python", "wasm"] = Field(
        "wasm",
        description="State host that runs extensions; python, the plain one, runs those in Python",
    )
    cache_mb: int = Field(
        512,
        ge=16,
        le=1_048_576,
        description="Memory for rows that all partitions share: one half in the state hosts, views "
        "that are built anew included, the other in the stores",
    )
    force_deploy: bool = Field(
        default=False, description="Deploy without waiting until every node has loaded it"
    )
    http: HttpSettings = Field(default_factory=_no_http)
    log: LogSettings = Field(default_factory=_no_log)
    snapshots: SnapshotSettings = Field(default_factory=_no_snapshots)
    otel: OtelSettings = Field(default_factory=_no_otel)
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: json for serve, console for dev"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged"
    )


def load_settings(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings: `flags` (nested as the tree is, None = not given) over all else.

    `file` must exist when named, by argument or by PARTITA_CONFIG; ./partita.toml need not.
    """
    path = _settings_file(file)
    _refuse_unknown_variables()

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            if path is None:
                return init_settings, env_settings
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    try:
        return Sourced(**_given(flags or {}))
    except ValidationError as fault:
        raise _explain(fault) from None
    except SettingsError as fault:
        raise ConfigError("E1001", str(fault), "A group takes JSON, or set its parts") from None


def show(settings: Settings) -> dict[str, Any]:
    """Return the tree as plain data with secrets masked, as `partita config show` prints it."""
    return cast("dict[str, Any]", _plain(settings.model_dump()))


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the settings file."""
    return Settings.model_json_schema()


def to_toml(tree: Mapping[str, Any]) -> str:
    """Return plain settings (from `show`) as TOML; what is unset is a comment."""
    plain = [_line(name, value) for name, value in tree.items() if not isinstance(value, dict)]
    tables: list[str] = []
    for name, group in tree.items():
        if isinstance(group, dict):
            lines = [_line(key, value) for key, value in cast("dict[str, Any]", group).items()]
            tables.append("\n".join(["", f"[{name}]", *lines]))
    return "\n".join([*plain, *tables]) + "\n"


def _line(name: str, value: Any) -> str:
    # TOML's strings, numbers and booleans are JSON's, as far as settings use them.
    return f"# {name} is unset" if value is None else f"{name} = {orjson.dumps(value).decode()}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: _plain(part) for name, part in items}
    if isinstance(value, SecretStr):
        return MASK
    return str(value) if isinstance(value, Path) else value


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Drop flags that were not given, so that they don't hide what the file says."""
    given: dict[str, Any] = {}
    for name, value in flags.items():
        if isinstance(value, Mapping):
            group = _given(cast("Mapping[str, Any]", value))
            if group:
                given[name] = group
        elif value is not None:
            given[name] = value
    return given


def _settings_file(file: Path | None) -> Path | None:
    named = file or (Path(name) if (name := os.environ.get(FILE_VARIABLE)) else None)
    path = named or Path(FILE_DEFAULT)
    if not path.is_file():
        if named is None:
            return None
        raise ConfigError("E1001", f"there is no settings file {path}", "Check --config")
    try:
        tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise ConfigError(
            "E1001", f"can't be read: {fault}", "It must be TOML", file=path
        ) from None
    return path


def _refuse_unknown_variables() -> None:
    """Refuse a misspelt variable: ignoring it would hide that it has no effect."""
    for name in sorted(os.environ):
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).split("__")[0].lower()
        if field not in Settings.model_fields:
            known = ", ".join(sorted(Settings.model_fields))
            raise ConfigError(
                "E1001",
                f"there is no setting {field!r}",
                f"Settings are: {known}",
                variable=name,
            )


def _explain(fault: ValidationError) -> ConfigError:
    """Name every wrong setting, by its path in the tree; never repeat a secret's value."""
    lines: list[str] = []
    for error in fault.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join(str(part) for part in error["loc"]) or "settings"
        reason = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            reason = "there is no such setting"
        lines.append(f"{path}: {reason}")
    variable = PREFIX + str("__".join(str(part) for part in fault.errors()[0]["loc"])).upper()
    return ConfigError(
        "E1001",
        "; ".join(lines),
        f"It is set by a flag, by {variable}, or in the settings file",
    )
