"""Traces that follow a command: HTTP request, envelope, and the stages of the walk.

The thread of a trace is the `traceparent` in the command's envelope and in its outcome, so it
crosses the broker. Spans wait in a bounded queue; a slow or absent collector costs dropped
spans, never time: export runs on its own thread, and its failures are only counted.
"""

import logging
import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from engine.telemetry import sampled_traceparent

TRACED_PER_BATCH_MAX = 16
QUEUE_MAX = 2_048
_EXPORT_MAX = 256
_EXPORT_TIMEOUT_S = 2.0
_CLOSE_MS = 1_000
_WALKS_MAX = 64
_NS = 1_000_000
_TAKE, _DECIDE, _REPLY = "take", "decide", "reply"
_BEGIN = (_DECIDE, "apply")  # what may be told first of a batch

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PROPAGATOR = TraceContextTextMapPropagator()


def valid_traceparent(text: str | None) -> str | None:
    """Return a W3C traceparent as it came, or None: a wrong one is ignored, as W3C says."""
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


class Request:
    """One request's span, and the traceparent that its command carries on."""

    def __init__(self, span: Span | None, traceparent: str | None) -> None:
        self._span = span
        self.traceparent = traceparent

    def note(self, **attributes: str | int) -> None:
        """Add attributes, named partita.<name>."""
        if self._span is not None:
            for name, value in attributes.items():
                self._span.set_attribute(f"partita.{name}", value)

    def status(self, status: int) -> None:
        """Note the HTTP status; from 500 on the span is an error."""
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self._span.set_status(Status(StatusCode.ERROR))


class _Sequence(Protocol):
    @property
    def sequence(self) -> int: ...


class Walked(Protocol):
    """What traces need of `model.Decided`."""

    @property
    def outcomes(self) -> Sequence[bytes]:
        """Return the records as logged."""
        ...

    @property
    def state(self) -> _Sequence:
        """Return the state behind the last of them."""
        ...


class _Walk:
    """The spans of one batch on its way."""

    def __init__(self, spans: list[Span], begin_ns: int) -> None:
        self.spans = spans
        self._before_ns = begin_ns

    def stage(self, tracer: Tracer, name: str, now_ns: int) -> None:
        """Add a span per command, from the end of the stage before to now."""
        for walk in self.spans:
            inside = trace.set_span_in_context(walk, Context())
            tracer.start_span(str(name), inside, start_time=self._before_ns).end(now_ns)
        self._before_ns = now_ns

    def end(self) -> None:
        for walk in self.spans:
            walk.end(self._before_ns)


class NoTraces:
    """Tracing switched off: a client's traceparent still travels with its command."""

    @contextmanager
    def request(self, name: str, traceparent: str | None) -> Generator[Request, None, None]:
        """Pass the traceparent on."""
        del name
        yield Request(None, valid_traceparent(traceparent))

    def batch(self, stage: str, partition: int, decided: Walked) -> None:
        """Do nothing."""

    def statistics(self) -> Mapping[str, int]:
        """Return nothing: there is nothing to count."""
        return {}

    def close(self) -> None:
        """Do nothing."""


class _Counted(SpanExporter):
    """An exporter that counts what became of spans."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.exported += len(spans)
            else:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class Traces:
    """Tracing to an OTLP/HTTP collector. Also the node's `Observer`. Thread-safe."""

    def __init__(
        self,
        endpoint: str,
        sample_ratio: float,
        node: str,
        now_ms: Callable[[], int],
        exporter: SpanExporter | None = None,
    ) -> None:
        # The exporter logs every failed try; `_Counted` says the same without filling the log.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Counted(
            exporter or OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        )
        self._now_ms = now_ms
        self._begun = 0
        self._taken_ns: dict[int, int] = {}
        self._walks: dict[int, _Walk] = {}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=Resource({"service.name": "partita", "service.instance.id": node}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter, max_queue_size=QUEUE_MAX, max_export_batch_size=_EXPORT_MAX
            )
        )
        self._tracer = self._provider.get_tracer("partita")

    @contextmanager
    def request(self, name: str, traceparent: str | None) -> Generator[Request, None, None]:
        """Open the span of a request, below the client's one if it has sent its traceparent."""
        parent = valid_traceparent(traceparent)
        with self._tracer.start_as_current_span(
            name, _context(parent), SpanKind.SERVER, record_exception=False
        ) as span:
            self._begun += span.is_recording()
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier)
            yield Request(span, carrier.get("traceparent", parent))

    def batch(self, stage: str, partition: int, decided: Walked) -> None:
        """Give each sampled outcome a span per stage; only a few of a batch, they are alike.

        A stage lasts from the end of the one before, so that waiting shows too. TAKE may be told
        with an empty batch; then DECIDE begins there.
        """
        now_ns, key = self._now_ms() * _NS, id(decided)
        if stage == _TAKE:
            self._taken_ns[partition] = now_ns
            return
        if stage == _DECIDE or key not in self._walks:
            self._walks.pop(key, None)
            begin_ns = self._taken_ns.get(partition, now_ns)
            if stage not in _BEGIN or not self._begin(begin_ns, partition, decided):
                return
        walk = self._walks[key]
        walk.stage(self._tracer, stage, now_ns)
        self._begun += len(walk.spans)
        if stage == _REPLY:
            self._walks.pop(key).end()

    def _begin(self, begin_ns: int, partition: int, decided: Walked) -> bool:
        spans: list[Span] = []
        first = decided.state.sequence - len(decided.outcomes) + 1
        for index, outcome in enumerate(decided.outcomes):
            parent = valid_traceparent(sampled_traceparent(outcome))
            if parent is None:
                continue
            span = self._tracer.start_span(
                "walk",
                _context(parent),
                SpanKind.CONSUMER,
                {"partita.partition": partition, "partita.sequence": first + index},
                start_time=begin_ns,
            )
            spans.append(span)
            if len(spans) == TRACED_PER_BATCH_MAX:
                break
        if not spans:
            return False
        self._begun += len(spans)
        if len(self._walks) >= _WALKS_MAX:
            # A batch whose ownership was lost never reaches its end; it makes room here.
            self._walks.pop(next(iter(self._walks))).end()
        self._walks[id(decided)] = _Walk(spans, begin_ns)
        return True

    def statistics(self) -> Mapping[str, int]:
        """Return how many spans were begun, exported, and lost on the way."""
        exporter = self._exporter
        return {"spans": self._begun, "exported": exporter.exported, "failed": exporter.failed}

    def close(self) -> None:
        """Export what waits, for at most a second: the collector may be gone."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="traces-close")
        closing.start()
        closing.join(_CLOSE_MS / 1_000)


def _context(traceparent: str | None) -> Context | None:
    # A fresh Context, so that no span of this thread becomes a parent by accident.
    if traceparent is None:
        return Context()
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


def make_traces(
    endpoint: str, sample_ratio: float, node: str, now_ms: Callable[[], int]
) -> Traces | NoTraces:
    """Return tracing to `endpoint`, or none if it is empty."""
    return Traces(endpoint, sample_ratio, node, now_ms) if endpoint else NoTraces()
