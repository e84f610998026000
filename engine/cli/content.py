"""Extensions' code as words that only read find it."""

from engine.cli.sources import Source


class Content:
    """Extensions' code, read only: of the folder that was named, else as the log stores it."""

    def __init__(self, source: Source) -> None:
        extensions = source.application.extensions.values() if source.application else ()
        self._known = {one.sha256.hex(): one.content for one in extensions}
        self._stored = source.content

    def get(self, name: str) -> bytes | None:
        """Return code by its sha256."""
        return self._known.get(name) or self._stored().get(name)

    def put(self, name: str, data: bytes) -> None:
        """Refuse: an audit writes nothing."""
        raise AssertionError(f"an audit stores nothing ({name}, {len(data)} bytes)")

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that are known without asking."""
        return [name for name in self._known if name.startswith(prefix)]

    def delete(self, name: str) -> None:
        """Refuse: an audit deletes nothing."""
        raise AssertionError(f"an audit deletes nothing ({name})")
