"""A network of its own in one process tree: namespaces on a bridge, whose links can be cut.

Needs Linux with user or network namespaces; without them `available()` is False and everything
runs on loopback, where nothing can be cut. A cut loses what one side sends to the other without
telling either: its neighbour entry names a station that nobody is.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

SUBNET = "10.213.0"
NOBODY = "02:de:ad:00:00:01"
INSIDE = "PARTITA_LOADTEST_INSIDE"
# The whole tree ends with its first process, however that ends.
PRIVATE = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# Holds a namespace, and says by its echo that it is there.
HOLDER = ("unshare", "--net", "cat")
TRY_S = 10.0


def available() -> bool:
    """Return whether this machine lets us make namespaces."""
    try:
        tried = subprocess.run(
            [*_private(), "true"], capture_output=True, timeout=TRY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _private() -> Sequence[str]:
    return PRIVATE if os.geteuid() == 0 else (*PRIVATE, "--map-root-user")


def inside() -> bool:
    """Return whether this process runs in a network of its own."""
    return INSIDE in os.environ and os.getppid() == 0


def enter(module: str, arguments: Sequence[str]) -> int:
    """Run a module again in a network of its own; return its exit status."""
    command = [*_private(), sys.executable, "-m", module, *arguments]
    # In a PID namespace of its own a process has the parent 0, which nothing else has.
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


class Network:
    """Places on one bridge, by name; the process that makes it is on the bridge too."""

    def __init__(self, names: Sequence[str]) -> None:
        self._numbers = {name: 11 + at for at, name in enumerate(names)}
        self._holders: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "hub", "type", "bridge")
        _run("ip", "addr", "add", f"{SUBNET}.1/24", "dev", "hub")
        _run("ip", "link", "set", "hub", "up")
        for name in self._numbers:
            self._place(name)
        for name in self._numbers:
            for other in self._numbers:
                if other != name:
                    self._neighbour(name, other, self._station(other))
        return self

    def __exit__(self, *_: object) -> None:
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
        _run("ip", "link", "del", "hub")

    def _place(self, name: str) -> None:
        number = self._numbers[name]
        holder = subprocess.Popen(HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._holders[name] = holder
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.stdout.readline()
        port = f"port{number}"
        peer = ("type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _run("ip", "link", "add", port, *peer)
        _run("ip", "link", "set", port, "master", "hub", "up")
        inside = self.command(name)
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "link", "set", "eth0", "address", self._station(name))
        _run(*inside, "ip", "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")

    def address(self, name: str) -> str:
        """Return a place's address."""
        return f"{SUBNET}.{self._numbers[name]}"

    def command(self, name: str) -> tuple[str, ...]:
        """Return what a command is put behind to run at a place; it keeps its process id."""
        return ("nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net", "--")

    def cut(self, sender: str, receiver: str) -> None:
        """Lose, in silence, whatever `sender` sends to `receiver` from now on."""
        self._neighbour(sender, receiver, NOBODY)

    def heal(self, sender: str, receiver: str) -> None:
        """Let `sender` reach `receiver` again."""
        self._neighbour(sender, receiver, self._station(receiver))

    def reset(self, name: str, other: str) -> None:
        """End every connection between two places with a reset; new ones may come."""
        with suppress(subprocess.CalledProcessError):  # one that ends meanwhile is none of ours
            _run(*self.command(name), "ss", "-K", "dst", self.address(other))

    def _station(self, name: str) -> str:
        return f"02:00:00:00:00:{self._numbers[name]:02x}"

    def _neighbour(self, name: str, other: str, station: str) -> None:
        entry = ("neigh", "replace", self.address(other), "lladdr", station)
        _run(*self.command(name), "ip", *entry, "nud", "permanent", "dev", "eth0")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=TRY_S)
