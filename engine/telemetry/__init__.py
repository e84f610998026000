"""What a node tells of itself: metric names, traces and logs, all read from outside the walk.

This page imports nothing heavy, so any part may use it. `logs`, `traces` and `metrics` are set up
once by the shell. Nothing here may block, raise into the walk, or grow.
"""

from collections.abc import Mapping

SLOWEST_MAX = 10
_SLOWEST_WINDOW_MS = 60_000


# An outcome ends with its traceparent, ["null", string]: 0x02, length 55 as zigzag, 55 characters.
_TRACED = b"\x02\x6e00-"
_TRACEPARENT_LENGTH = 55


def sampled_traceparent(outcome: bytes) -> str | None:
    """Return a logged outcome's traceparent if its sender samples it, without decoding the rest.

    Bytes of arguments can't be taken for one: they never are the last field of an outcome.
    """
    if outcome[-57:-52] != _TRACED or outcome[-1:] not in b"13579bdf":
        return None
    return outcome[-_TRACEPARENT_LENGTH:].decode("ascii", "replace")


class Slowest:
    """The workspaces whose commands took longest lately, at most `SLOWEST_MAX` of them.

    Shown as a list, never as metric labels: those must stay few. Not thread-safe.
    """

    def __init__(self) -> None:
        self._since_ms = 0
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def note(self, workspace: str, duration_ms: int, now_ms: int) -> None:
        """Remember a duration if it is among the longest of this minute."""
        self._turn(now_ms)
        known = self._now
        if duration_ms <= known.get(workspace, -1):
            return
        if workspace not in known and len(known) >= SLOWEST_MAX:
            quickest = min(known, key=known.__getitem__)
            if known[quickest] >= duration_ms:
                return
            del known[quickest]
        known[workspace] = duration_ms

    def top(self, now_ms: int) -> Mapping[str, int]:
        """Return workspace -> longest duration in ms, longest first, of the last two minutes."""
        self._turn(now_ms)
        merged = dict(self._before)
        for workspace, duration_ms in self._now.items():
            merged[workspace] = max(duration_ms, merged.get(workspace, 0))
        longest = sorted(merged.items(), key=lambda item: (-item[1], item[0]))
        return dict(longest[:SLOWEST_MAX])

    def _turn(self, now_ms: int) -> None:
        age_ms = now_ms - self._since_ms
        if age_ms >= _SLOWEST_WINDOW_MS:
            self._before = self._now if age_ms < 2 * _SLOWEST_WINDOW_MS else {}
            self._now = {}
            self._since_ms = now_ms


__all__ = ["SLOWEST_MAX", "Slowest", "sampled_traceparent"]
