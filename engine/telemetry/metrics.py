"""Metric names and the Prometheus page, read from `statistics()` when somebody asks.

The one table of names: `partita_<area>_<thing>_<unit>`. Labels are bounded (partition, route,
status); a workspace is never one. Nothing is counted here but HTTP requests; all else is what
components count as plain integers.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

Statistics = Mapping[str, Mapping[str, int | float]]
Source = Callable[[], Statistics]


class Metric(NamedTuple):
    """A row of the table: the component and its statistics key, and the name it goes by."""

    component: str  # the first word of the component: "partition 3" is "partition"
    key: str
    name: str
    text: str
    counter: bool = False


def _gauge(component: str, key: str, name: str, text: str) -> Metric:
    return Metric(component, key, name, text)


def _count(component: str, key: str, name: str, text: str) -> Metric:
    return Metric(component, key, name, text, counter=True)


METRICS: tuple[Metric, ...] = (
    _count("partition", "commands", "partita_partition_commands", "Commands taken"),
    _count("partition", "outcomes", "partita_partition_outcomes", "Outcomes confirmed"),
    _count("partition", "rejected", "partita_partition_rejected", "Outcomes that are rejections"),
    _count("partition", "duplicates", "partita_partition_duplicates", "Duplicates answered"),
    _gauge("partition", "owned", "partita_partition_owned", "1 while this node owns it"),
    _gauge("partition", "stopped", "partita_partition_stopped", "1 while stopped on an error"),
    _gauge("partition", "sequence", "partita_partition_sequence", "Newest sequence applied"),
    _gauge("partition", "epoch", "partita_partition_epoch", "Epoch of the owner last read"),
    _gauge("partition", "lag", "partita_partition_lag_commands", "Commands known to wait"),
    _gauge(
        "partition",
        "oldest_command_age_ms",
        "partita_partition_oldest_command_age_ms",
        "Age of the oldest unhandled command; at retention_ms the broker deletes it",
    ),
    _gauge(
        "partition",
        "retention_ms",
        "partita_partition_retention_ms",
        "How long the command topic keeps commands",
    ),
    _gauge("partition", "applied_offset", "partita_restore_applied_offset", "Event offset applied"),
    _gauge("partition", "target_offset", "partita_restore_target_offset", "Event offset to reach"),
    _gauge(
        "partition",
        "records_per_s",
        "partita_restore_records_per_second",
        "Records folded a second",
    ),
    _gauge("gate", "waiting", "partita_gate_waiting_requests", "Requests waiting for an outcome"),
    _count("gate", "refused", "partita_gate_refused", "Requests refused because too many waited"),
    _gauge("http", "active", "partita_http_active_requests", "HTTP requests being answered"),
    _count("http", "refused", "partita_http_refused", "HTTP requests refused: too many at once"),
    _count("traces", "spans", "partita_traces_spans", "Spans begun"),
    _count("traces", "exported", "partita_traces_exported", "Spans the collector has taken"),
    _count("traces", "failed", "partita_traces_failed", "Spans lost: the collector was away"),
)

_BUCKETS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class Metrics:
    """The metrics of one process, on a registry of its own. Thread-safe."""

    def __init__(self, node: str, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._seen: Statistics = {}
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )
        self._provider = MeterProvider(
            [reader],
            Resource({"service.name": "partita", "service.instance.id": node}),
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter("partita")
        self._requests = meter.create_histogram(
            "partita_http_request_duration_seconds",
            description="HTTP requests by route, method and status",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        for metric in METRICS:
            make = (
                meter.create_observable_counter if metric.counter else meter.create_observable_gauge
            )
            make(metric.name, [self._callback(metric)], description=metric.text)

    def request(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count an HTTP request."""
        self._requests.record(duration_s, {"route": route, "method": method, "status": str(status)})

    def exposition(self) -> bytes:
        """Return the Prometheus page: one look at the statistics for all of it."""
        with self._lock:
            self._seen = self._source()
            return generate_latest(self._registry)

    def close(self) -> None:
        """Let go of the registry."""
        self._provider.shutdown()

    def _callback(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            for component, counters in self._seen.items():
                area, _, label = component.partition(" ")
                if area == metric.component and metric.key in counters:
                    labels = {area: label} if label else {}
                    yield Observation(counters[metric.key], labels)

        return observe
