"""A whole engine on files or on a broker: an application with one view, asked over HTTP."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from engine import simulator
from engine.assembly import Engine
from engine.model import Phase
from engine.settings import load_settings

LEDGER = Path(simulator.__file__).parent / "ledger"
SETTLE_S = 90


def until(condition: Callable[[], Any], said: object = "it never came") -> Any:
    """Wait until `condition()` says something that is true, and return it."""
    deadline = time.monotonic() + SETTLE_S
    while not (said := condition()):
        assert time.monotonic() < deadline, said
        time.sleep(0.01)
    return said


class World:
    """One application's data folder, whose engine is started and stopped again."""

    def __init__(self, folder: Path, source: Path = LEDGER, **settings: Any) -> None:
        self.folder = folder
        self.source = source
        self.settings = settings
        self.engine: Engine | None = None
        self._client = httpx.Client(timeout=60)

    @property
    def node(self) -> Any:
        assert self.engine is not None
        return self.engine.node

    @property
    def stores(self) -> Path:
        """Return where the stores lie."""
        return self.folder / "ledger" / "stores"

    def begin(self) -> None:
        flags = {"data": self.folder, "http": {"port": 0}, **self.settings}
        self.engine = Engine(load_settings(None, flags), self.source)
        self.engine.start()

    def start(self) -> None:
        self.begin()
        until(self.node.ready)

    def stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
            self.engine = None
        self._client.close()
        self._client = httpx.Client(timeout=60)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        assert self.engine is not None
        return self._client.request(method, self.engine.server.url + path, **more)

    def move(self, amount: int, workspace: str = "w") -> dict[str, Any]:
        answer = self.ask(
            "POST", f"/v1/workspaces/{workspace}/commands/move", json={"amount": amount}
        )
        assert answer.status_code in {200, 422}, answer.text  # every tenth is rejected
        return answer.json()

    def snapshot(self, partition: int) -> dict[str, Any]:
        answer = self.ask("POST", f"/v1/partitions/{partition}/snapshot")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def count(self, component: str, key: str) -> int | float:
        return self.node.statistics()[component][key]

    def owned(self, partition: int) -> bool:
        return any(
            one.partition == partition and one.phase is Phase.OWNING for one in self.node.progress()
        )
