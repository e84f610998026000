"""Serving HTTP: a server on its own thread, bound early, stopped within bounded time.

Owns the listening socket and the rule of who may be reached from where (E1002, E1003).
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from typing import Protocol

import structlog
import uvicorn
import uvloop
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine import limits
from engine.errors import ConfigError
from engine.http.exposure import address_is, check_exposure
from engine.settings import HttpSettings

_BACKLOG = 1_024
_START_S = 10.0
_GRACE_S = 5
_KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they close them first
_STUCK_MS = 60_000

_log = structlog.get_logger("http")


class App(Protocol):
    """An ASGI application that has `state.end_streams`, which ends what never ends by itself."""

    @property
    def state(self) -> State:
        """Return what it keeps."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...


class Server:
    """Listens from `Server(settings)` on, answers from `start` to `stop`."""

    def __init__(self, settings: HttpSettings) -> None:
        check_exposure(settings)
        self._settings = settings
        self._socket = _bind(settings)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Return the base URL at which others reach it."""
        if self._settings.advertise:
            return self._settings.advertise
        host = self._settings.host
        if address_is(host, "is_unspecified") or not host:
            host = socket.gethostname()
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self, app: App) -> None:
        """Serve `app`; return once requests are answered."""
        assert self._thread is None
        started = threading.Event()
        server = _Uvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                http=BoundedHead,
                ws="none",
                timeout_graceful_shutdown=_GRACE_S,
            ),
            started,
            app.state.end_streams,
        )
        self._server = server
        self._thread = threading.Thread(
            target=self._run, args=(server, started), name="http", daemon=True
        )
        self._thread.start()
        started.wait(_START_S)
        assert server.started, "the HTTP server ended while it was starting"
        _log.info("http started", url=self.url)

    def stop(self) -> bool:
        """Finish what is being answered, within a few seconds; return whether all was."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            self._socket.close()
            return True
        server.should_exit = True
        thread.join(_GRACE_S + 1)
        if thread.is_alive():
            server.force_exit = True
            thread.join(1)
        self._socket.close()
        _log.info("http stopped", finished=not thread.is_alive())
        return not thread.is_alive()

    def _run(self, server: uvicorn.Server, started: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(server.serve([self._socket]))
        finally:
            started.set()


class BoundedHead(HttpToolsProtocol):
    """HTTP whose request line and headers have a bound; the parser alone would take any amount."""

    _in_head = True
    _head_bytes = 0
    _ended = False

    def data_received(self, data: bytes) -> None:
        """Take bytes; hang up on a head that doesn't end."""
        self._ended = False
        super().data_received(data)
        if not self._in_head or self._ended:
            # What ended a message was body; a next head that begins in it is counted from its
            # second piece on.
            return
        self._head_bytes += len(data)
        if self._head_bytes > limits.HTTP_HEAD_BYTES_MAX:
            self.send_400_response("The request's head is too large.")

    def on_headers_complete(self) -> None:
        """Begin with the body."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the next head."""
        self._in_head, self._ended, self._head_bytes = True, True, 0
        super().on_message_complete()


class _Uvicorn(uvicorn.Server):
    """A server that says when it has started, and when it begins to stop."""

    def __init__(
        self, config: uvicorn.Config, begun: threading.Event, ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._begun = begun
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A stream never ends by itself: what is waited for is what will.
        self._ending()
        await super().shutdown(sockets)


def _bind(settings: HttpSettings) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            settings.host or None,
            settings.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections inherit it: a peer that takes nothing for so long is cut off.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK_MS)
        try:
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as fault:
        where = f"{settings.host}:{settings.port}"
        if fault.errno == errno.EADDRINUSE:
            raise ConfigError(
                "E1002",
                f"{where} is in use by another process",
                "Choose another with --http HOST:PORT; port 0 takes a free one",
            ) from None
        raise ConfigError(
            "E1001", f"http.host, http.port: can't listen on {where}: {fault}"
        ) from None
    return listening
