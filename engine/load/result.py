"""What a replay measured: counts, and a histogram of latencies from due to answered.

The histogram goes into the result's file whole, so that reports of several runs can be merged
and asked for other percentiles later.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from hdrh.histogram import HdrHistogram

from engine.errors import ConfigError

LATENCY_US_MAX = 3_600_000_000
_DIGITS = 3
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}
COLUMNS = (
    "run",
    "target",
    "rate",
    "sent",
    "per_s",
    *PERCENTILES,
    "max_ms",
    "rejected",
    "refused",
    "failed",
    "missing",
)


def new_histogram() -> HdrHistogram:
    """Return an empty histogram of microseconds, exact to three digits."""
    return HdrHistogram(1, LATENCY_US_MAX, _DIGITS)


@dataclass(slots=True)
class Result:
    """One replay. A command is accepted, rejected, refused, failed, blind, repeated or missing."""

    run: str
    recording: str
    target: str
    rate: str
    started_at_ms: int
    sent: int = 0
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    refused: int = 0  # answered, without an outcome
    failed: int = 0  # not sent: the log or the node refused to take it
    blind: int = 0  # sent without a readable id: its outcome is not waited for
    repeated: int = 0  # sent with an id that the run had sent before: a true duplicate
    missing: int = 0  # sent, and no outcome was readable in time
    retried: int = 0
    duration_ms: float = 0.0  # from the first one due to the last one answered
    latencies: HdrHistogram = field(default_factory=new_histogram)

    @property
    def answered(self) -> int:
        """Return how many outcomes became readable."""
        return self.accepted + sum(self.rejected.values())

    def answer(self, code: str, latency_ns: int) -> None:
        """Count an outcome that became readable `latency_ns` after its command was due."""
        if code:
            self.rejected[code] = self.rejected.get(code, 0) + 1
        else:
            self.accepted += 1
        self.latencies.record_value(max(1, min(latency_ns // 1_000, LATENCY_US_MAX)))

    def row(self) -> dict[str, Any]:
        """Return the run as a line of a table."""
        seconds = self.duration_ms / 1_000
        percentiles = {
            name: round(self.latencies.get_value_at_percentile(percentile) / 1_000, 3)
            for name, percentile in PERCENTILES.items()
        }
        return {
            "run": self.run,
            "target": self.target,
            "rate": self.rate,
            "sent": self.sent,
            "per_s": round(self.answered / seconds, 1) if seconds else 0.0,
            **percentiles,
            "max_ms": round(self.latencies.get_max_value() / 1_000, 3) if self.answered else 0.0,
            "rejected": sum(self.rejected.values()),
            "refused": self.refused,
            "failed": self.failed,
            "missing": self.missing,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything that the result's file holds."""
        return {
            **self.row(),
            "format": 1,
            "recording": self.recording,
            "started_at_ms": self.started_at_ms,
            "accepted": self.accepted,
            "rejected_by_code": dict(sorted(self.rejected.items())),
            "blind": self.blind,
            "repeated": self.repeated,
            "retried": self.retried,
            "duration_ms": round(self.duration_ms, 3),
            "latency_us_hdr": self.latencies.encode().decode(),
        }


def write_result(result: Result, folder: Path) -> Path:
    """Write a result's file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.run}.json"
    path.write_bytes(orjson.dumps(result.as_dict(), option=orjson.OPT_INDENT_2) + b"\n")
    return path


def read_result(path: Path) -> Result:
    """Read a result's file; raise ConfigError E1502 if it is none."""
    try:
        fields: Mapping[str, Any] = orjson.loads(path.read_bytes())
        return Result(
            run=fields["run"],
            recording=fields["recording"],
            target=fields["target"],
            rate=fields["rate"],
            started_at_ms=fields["started_at_ms"],
            sent=fields["sent"],
            accepted=fields["accepted"],
            rejected=dict(fields["rejected_by_code"]),
            refused=fields["refused"],
            failed=fields["failed"],
            blind=fields["blind"],
            repeated=fields["repeated"],
            missing=fields["missing"],
            retried=fields["retried"],
            duration_ms=fields["duration_ms"],
            latencies=HdrHistogram.decode(fields["latency_us_hdr"]),
        )
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise ConfigError(
            "E1502",
            f"not a result of `partita load replay`: {fault}",
            "Name files of loadtest/results",
            file=path,
        ) from fault


def report(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return a table of runs, oldest first."""
    return [result.row() for result in sorted(results, key=lambda one: one.started_at_ms)]
