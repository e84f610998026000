"""Logs: one line per change of state, never per command; keys partition, sequence, epoch.

Owns the set-up of structlog and of the libraries' standard logging. Lines go to stderr: stdout
is for data.
"""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from opentelemetry import trace

MASK = "********"
_SECRETS = frozenset({"token", "authorization", "password", "sasl_password"})
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Without the values of local variables: they may hold what must not be logged.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
)
_QUIET = ("opentelemetry", "httpx", "httpcore", "urllib3", "asyncio", "uvicorn.access")


class Unbreakable:
    """A stream that is written to as long as it takes anything: a log must stop no node.

    Its pipe may be closed, or its disk full; what can't be written is lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return whether a person may be reading."""
        return self._stream.isatty()


def configure_logs(
    style: Literal["json", "console"], level: str = "info", stream: TextIO | None = None
) -> None:
    """Set up logging for this process; the last call counts."""
    out = cast("TextIO", Unbreakable(stream or sys.stderr))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _join_trace,
        _mask,
    ]
    final: list[Any] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer(_json)]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    )
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _bridge(shared, final, out, _LEVELS[level])


def _bridge(shared: list[Any], final: list[Any], out: TextIO, level: int) -> None:
    """Write what libraries log in the same form, warnings and up; traces' exporter says nothing."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in _QUIET:
        # Their failures are counted in statistics(); a collector that is away must not fill logs.
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _json(event: MutableMapping[str, Any], **_options: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _join_trace(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = format(span.trace_id, "032x")
        event["span_id"] = format(span.span_id, "016x")
    return event


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event.keys() & _SECRETS:
        event[name] = MASK
    return event
