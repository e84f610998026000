"""Telemetry: traces that follow a command, metrics, logs; and that none of it can hurt."""

import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine import wire
from engine.model import Decided, HostState, Stage
from engine.telemetry import sampled_traceparent
from engine.telemetry.logs import configure_logs
from engine.telemetry.traces import (
    QUEUE_MAX,
    TRACED_PER_BATCH_MAX,
    NoTraces,
    Traces,
    make_traces,
    valid_traceparent,
)
from engine.wire import Kind

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


def outcome(traceparent: str | None = None, args: bytes = b"") -> bytes:
    fields: dict[str, Any] = {
        "epoch": 1,
        "sequence": 1,
        "previous": 0,
        "skippable": False,
        "workspace": "w",
        "workspace_sequence": 1,
        "command_id": bytes(16),
        "input": "commands",
        "input_offset": 0,
        "command_time": 0,
        "registered_at": 0,
        "name": "put",
        "application": 1,
        "args_schema": 0,
        "args": args,
        "code": "",
        "message": "",
        "field": None,
        "changes": [],
        "emits": [],
        "timers": [],
        "result": None,
        "principal": None,
        "source": None,
        "traceparent": traceparent,
    }
    return wire.encode_event(Kind.OUTCOME, fields)


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000_000

    def __call__(self) -> int:
        self.now += 10
        return self.now


def traced(ratio: float = 1.0) -> tuple[Traces, InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    return Traces("", ratio, "node-1", Clock(), memory), memory


def decided(*outcomes: bytes, sequence: int = 7) -> Decided:
    return Decided(outcomes=list(outcomes), state=HostState(sequence=sequence))


# What a logged outcome tells.


def test_a_sampled_traceparent_is_found_at_an_outcome_s_end() -> None:
    assert sampled_traceparent(outcome(SAMPLED)) == SAMPLED
    assert sampled_traceparent(outcome(UNSAMPLED)) is None
    assert sampled_traceparent(outcome()) is None
    assert sampled_traceparent(b"") is None
    assert sampled_traceparent(outcome(args=SAMPLED.encode())) is None
    assert sampled_traceparent(outcome("x" * 55)) is None


@given(st.binary(max_size=120))
def test_no_bytes_break_the_look_for_a_traceparent(data: bytes) -> None:
    found = sampled_traceparent(data + outcome(SAMPLED)[-57:-10] + data)
    assert found is None or len(found) <= 55


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00",
        SAMPLED[:-1],
        SAMPLED + "0",
        SAMPLED.upper(),
        "ff" + SAMPLED[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        SAMPLED + "\n",
    ],
)
def test_a_wrong_traceparent_is_ignored(text: str | None) -> None:
    assert valid_traceparent(text) is None
    with NoTraces().request("command", text) as request:
        assert request.traceparent is None


# Traces.


def test_a_request_continues_the_client_s_trace_and_hands_it_on() -> None:
    traces, memory = traced(0.0)
    with traces.request("command", SAMPLED) as request:
        assert request.traceparent is not None
        assert request.traceparent.startswith(f"00-{TRACE}-")
        assert request.traceparent.endswith("-01")
        assert request.traceparent != SAMPLED
        request.note(command="put", sequence=7)
        request.status(503)
    traces.close()
    (span,) = memory.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["partita.command"] == "put"
    assert span.attributes["http.response.status_code"] == 503
    assert not span.status.is_ok
    assert span.parent is not None


def test_a_request_without_a_trace_begins_one_by_the_ratio() -> None:
    for ratio in (0.0, 1.0):
        traces, memory = traced(ratio)
        with traces.request("command", None) as request:
            assert request.traceparent is not None
            assert int(request.traceparent[-2:], 16) & 1 == ratio
        with traces.request("command", UNSAMPLED) as request:
            assert request.traceparent is not None
            assert int(request.traceparent[-2:], 16) & 1 == 0
        traces.close()
        assert len(memory.get_finished_spans()) == int(ratio)


def test_a_command_s_stages_become_spans_below_its_request() -> None:
    traces, memory = traced()
    batch = decided(outcome(), outcome(SAMPLED), outcome(), sequence=9)
    for stage in Stage:
        traces.batch(stage, 3, Decided() if stage is Stage.TAKE else batch)
    traces.close()
    spans = {span.name: span for span in memory.get_finished_spans()}
    assert list(spans) == ["decide", "append", "confirm", "apply", "reply", "walk"]
    walk = spans.pop("walk")
    assert walk.attributes == {"partita.partition": 3, "partita.sequence": 8}
    assert walk.parent is not None
    assert format(walk.parent.trace_id, "032x") == TRACE
    last = walk.start_time
    for span in spans.values():
        assert span.parent is not None
        assert span.context is not None
        assert walk.context is not None
        assert span.parent.span_id == walk.context.span_id
        assert span.start_time == last
        last = span.end_time
    assert walk.end_time == last


def test_only_a_few_of_a_batch_are_traced() -> None:
    traces, memory = traced()
    batch = decided(*[outcome(SAMPLED)] * 100)
    for stage in (Stage.DECIDE, Stage.REPLY):
        traces.batch(stage, 0, batch)
    traces.close()
    assert len(memory.get_finished_spans()) == TRACED_PER_BATCH_MAX * 3


def test_batches_that_never_end_don_t_pile_up() -> None:
    traces, _ = traced()
    kept = [decided(outcome(SAMPLED)) for _ in range(500)]
    for batch in kept:
        traces.batch(Stage.DECIDE, 0, batch)
    assert len(traces._walks) <= 64
    traces.close()


def test_a_batch_without_traces_leaves_nothing() -> None:
    traces, memory = traced()
    for stage in Stage:
        traces.batch(stage, 0, decided(outcome(), outcome(UNSAMPLED)))
    traces.close()
    assert memory.get_finished_spans() == ()
    assert traces._walks == {}


class Stuck(SpanExporter):
    """A collector that takes a request and never answers."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.begun.set()
        self.released.wait(30)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


def test_a_stuck_collector_costs_spans_never_time_or_memory() -> None:
    stuck = Stuck()
    traces = Traces("", 1.0, "node-1", Clock(), stuck)
    batch = decided(*[outcome(SAMPLED)] * TRACED_PER_BATCH_MAX)
    for _ in range(400):
        for stage in Stage:
            traces.batch(stage, 0, batch)
    assert stuck.begun.wait(20)
    queue = traces._provider._active_span_processor._span_processors[0]
    assert len(queue._batch_processor._queue) <= QUEUE_MAX
    traces.close()  # returns although the exporter is stuck: bounded
    assert not stuck.released.is_set()
    stuck.released.set()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_an_absent_collector_is_quiet_and_counted(quiet: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    traces = make_traces(f"http://127.0.0.1:{port}", 1.0, "node-1", Clock())
    with traces.request("command", None):
        pass
    traces.close()
    assert traces.statistics()["spans"] == 1
    assert traces.statistics()["exported"] == 0
    assert [entry.name for entry in quiet.records if "opentelemetry" in entry.name] == []


def test_no_endpoint_means_no_traces() -> None:
    traces = make_traces("", 1.0, "node-1", Clock())
    assert isinstance(traces, NoTraces)
    with traces.request("command", SAMPLED) as request:
        assert request.traceparent == SAMPLED
    traces.batch(Stage.APPLY, 0, decided(outcome(SAMPLED)))
    assert traces.statistics() == {}
    traces.close()


def test_spans_reach_a_collector_over_http() -> None:
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def collect() -> None:
        stream, _ = listener.accept()
        with stream, stream.makefile("rb") as lines:
            received.append(lines.readline())
            headers = dict(
                line.decode().lower().split(": ", 1) for line in iter(lines.readline, b"\r\n")
            )
            received.append(lines.read(int(headers["content-length"])))
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    collector = threading.Thread(target=collect)
    collector.start()
    traces = make_traces(f"http://127.0.0.1:{listener.getsockname()[1]}", 1.0, "node-1", Clock())
    with traces.request("command", SAMPLED):
        pass
    traces.close()
    collector.join(20)
    listener.close()
    assert received[0].startswith(b"POST /v1/traces ")
    assert bytes.fromhex(TRACE) in received[1]
    assert b"node-1" in received[1]


# Logs.


@pytest.fixture
def _restored() -> Iterator[None]:
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], 0
    level = root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_restored")
def test_json_logs_are_one_object_a_line_with_secrets_masked() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out)
    log = structlog.get_logger("test")
    log.debug("unseen")
    log.info("owning", partition=3, sequence=918, epoch=7, token="open-sesame")
    traces, _ = traced()
    with traces.request("command", SAMPLED):
        log.warning("slow", raw=b"\xff", error=ValueError("x"))
    traces.close()
    logging.getLogger("some.library").warning("strange: %s", 5)
    logging.getLogger("opentelemetry.exporter").error("unseen")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["owning", "slow", "strange: 5"]
    assert lines[0]["partition"] == 3
    assert lines[0]["level"] == "info"
    assert "open-sesame" not in out.getvalue()
    assert lines[1]["trace_id"] == TRACE
    assert lines[2]["level"] == "warning"


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("fault", [ValueError("closed"), BrokenPipeError(), OSError(28, "full")])
def test_logs_that_nobody_takes_stop_nothing(fault: Exception) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise fault

        def flush(self) -> None:
            raise fault

    configure_logs("json", "info", Gone())
    structlog.get_logger("test").warning("lost")
    logging.getLogger("some.library").warning("lost too")


@pytest.mark.usefixtures("_restored")
def test_console_logs_are_for_people() -> None:
    out = io.StringIO()
    configure_logs("console", "debug", out)
    structlog.get_logger("test").info("owning", partition=3)
    assert "owning" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_logged_fault_shows_no_values_of_variables() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out)
    try:
        hidden = "not a number"
        int(hidden)
    except ValueError:
        structlog.get_logger("test").exception("fault")
    assert "ValueError" in out.getvalue()
    assert "hidden" not in out.getvalue().replace("int(hidden)", "")
