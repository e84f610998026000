"""A real S3 server for tests: versitygw on a folder, installed by Go once and kept.

Each test process starts one of its own, which takes a fraction of a second.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}
BUCKET = "partita"
INSTALL_S = 280
START_S = 30


def server_binary() -> Path:
    """Return the server's program, installed if it isn't there; skips where there is no Go."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "partita" / "s3"
    binary = cache / SERVER.rpartition("@")[2] / "versitygw"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        go = shutil.which("go")
        if go is None:
            pytest.skip("a real S3 server is built by Go, which isn't on this machine")
        with tempfile.TemporaryDirectory(dir=cache) as made:
            subprocess.run(
                [go, "install", SERVER],
                env={**os.environ, "GOBIN": made, "GOFLAGS": "-trimpath"},
                check=True,
                capture_output=True,
                timeout=INSTALL_S,
            )
            binary.parent.mkdir(exist_ok=True)
            (Path(made) / "versitygw").rename(binary)
    return binary


class S3Server:
    """A server that a test may stop and start again; its objects stay."""

    def __init__(self, folder: Path) -> None:
        self._binary = server_binary()
        self._folder = folder
        (folder / BUCKET).mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address of the bucket as the settings take it."""
        return f"s3://{BUCKET}?endpoint=http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        keys = [CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]]
        address = f"127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [
                *(self._binary, "-q", "-p", address, "-a", keys[0], "-s", keys[1]),
                *("posix", "--sidecar", self._sidecar(), self._folder),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, "the S3 server doesn't start"
                assert self._process.poll() is None, "the S3 server has ended"
                time.sleep(0.02)
            else:
                return

    def _sidecar(self) -> Path:
        """Return where it keeps what it knows of objects: not every file system has attributes."""
        folder = self._folder.with_name(f"beside-{self._folder.name}")
        folder.mkdir(exist_ok=True)
        return folder

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def s3_server(folder: Path) -> Generator[S3Server]:
    """Yield a running server; this process has the credentials meanwhile."""
    server = S3Server(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        try:
            server.start()
            yield server
        finally:
            server.stop()
