"""The applications of a partition's log, by index, and the code they name."""

import hashlib
from collections.abc import Iterable

from engine import wire
from engine.application import Application
from engine.application.record import from_record, to_record
from engine.errors import LogError
from engine.partition.ownership import LogState, head_fields
from engine.ports import ObjectStore
from engine.wire import Kind


class Applications:
    """Every application that rows or outcomes of this partition may name."""

    def __init__(self, content: ObjectStore, logged: Iterable[bytes] = ()) -> None:
        self._content = content
        self.by_index: dict[int, Application] = {}
        for value in logged:
            self.add(wire.decode_event(value)[1])

    def add(self, fields: dict[str, object]) -> Application:
        """Take an Application record; raise LogError E1306 if its code is not to be had."""
        modules: dict[str, bytes] = {}
        listed = fields["modules"]
        assert isinstance(listed, list)
        for module in listed:
            data = self._content.get(module["sha256"].hex())
            if data is None or hashlib.sha256(data).digest() != module["sha256"]:
                raise LogError(
                    "E1306",
                    f"the code of extension {module['name']} ({module['sha256'].hex()[:12]}…) of "
                    f"application version {fields['version']} is missing or damaged",
                    "Restore the content topic or folder",
                )
            modules[module["name"]] = data
        application = from_record(fields, modules)
        self.by_index[application.index] = application
        return application

    def newest(self) -> Application | None:
        """Return the application in force."""
        return self.by_index[max(self.by_index)] if self.by_index else None

    def record(self, application: Application, state: LogState) -> bytes:
        """Return the Application record that puts `application` in force; its code is stored."""
        for extension in application.extensions.values():
            self._content.put(extension.sha256.hex(), extension.content)
        fields = {**head_fields(state), **to_record(application, self.newest())}
        return wire.encode_event(Kind.APPLICATION, fields)
