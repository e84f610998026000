"""What this machine says of its ports and processes."""

import socket
import subprocess
from pathlib import Path

from engine.world import SystemClock

HOST = "127.0.0.1"
EXEC_POLL_MS = 5
EXEC_POLLS_MAX = 200


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((HOST, 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listening(port: int) -> bool:
    """Return whether somebody has a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def command_line(pid: int) -> str:
    """Return a process's command line, "" if there is none (any more)."""
    proc = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        shown = subprocess.run(  # noqa: S603 -- a process id, on systems without /proc
            ["/bin/ps", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return shown.stdout
    clock = SystemClock()
    for _ in range(EXEC_POLLS_MAX):
        try:
            line = (proc / "cmdline").read_bytes()
            ended = b") Z " in (proc / "stat").read_bytes()
        except OSError:
            return ""
        if line or ended:
            return line.replace(b"\0", b" ").decode(errors="replace")
        # A program that is just being replaced by another (as Java does itself) shows nothing.
        clock.sleep_ms(EXEC_POLL_MS)
    return ""
