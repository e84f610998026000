"""HTTP: commands in, outcomes and queries out. Knows a node only as `node.api.NodeApi`."""

from engine.http.app import create_app
from engine.http.context import Waits
from engine.http.server import Server

__all__ = ["Server", "Waits", "create_app"]
