"""The Prometheus page, read from `statistics()` when somebody asks; `names` has the names.

Labels are bounded (partition, route, status); a workspace is never one. Nothing is counted here
but HTTP requests; all else is what components count as plain integers.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from engine.telemetry.names import METRICS, Metric

Statistics = Mapping[str, Mapping[str, int | float]]
Source = Callable[[], Statistics]


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
