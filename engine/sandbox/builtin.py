"""Builtin Python extensions: trusted code that sees the same calls as a WASM guest.

An extension is a class; each call of an entry makes an instance of it and passes a `Context`:

    class Bank:
        def credit(self, call):
            account = call.record("account", 0) or call.reject("no_account", "open it first")
            account["balance"] += call.args["amount"]

        def project_statement(self, call):
            row = call.put("statement", day=call.context["command_time"] // 86_400_000, entry=1)
            row["balance"] = call.event["balance"]

Fields are items: a value in Python's form (an enum is its symbol, dates and times are integers).
Trusted means: there is no time budget, and state that a module keeps is its author's fault. An
exception rejects the one command.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NoReturn

from engine.application.types import (
    Application,
    EntryPoint,
    Extension,
    Field,
    KeyColumn,
    RecordSchema,
    RecordType,
    ViewType,
)
from engine.errors import ApplicationError, Code
from engine.limits import MESSAGE_LENGTH_MAX
from engine.sandbox.host_guests import Trapped
from engine.sandbox.session import (
    ARGS,
    CONTEXT,
    CONTEXT_HANDLE,
    EVENT,
    LOG_LEVELS,
    NONE,
    RESULT,
    Call,
    CallStopped,
)

_NAME = CONTEXT.by_name["name"]
_TYPE = CONTEXT.by_name["type"]


class Row:
    """The fields of a record, a view row, an array's item, or the arguments, as items."""

    __slots__ = ("_call", "_columns", "_handle", "_schema", "_types")

    def __init__(
        self,
        call: Call,
        handle: int,
        schema: RecordSchema,
        types: Mapping[str, RecordType] | None = None,
        columns: tuple[KeyColumn, ...] = (),
    ) -> None:
        self._call = call
        self._handle = handle
        self._schema = schema
        self._types = types  # of a record: what may be nested in it
        self._columns = columns  # of a row found by a scan: its key's

    def __getitem__(self, name: str) -> Any:
        for column in self._columns:
            if column.name == name:
                return self._call.get(self._handle, column)
        return self._call.get(self._handle, self._field(name))

    def __setitem__(self, name: str, value: Any) -> None:
        self._call.set(self._handle, self._field(name), value)

    @property
    def id(self) -> int:
        """The record's id; 0 for a singleton."""
        return self._call.id(self._handle)

    @property
    def active(self) -> bool:
        """Whether the record is active; set it to activate or deactivate."""
        return self._call.is_active(self._handle)

    @active.setter
    def active(self, active: bool) -> None:
        self._call.set_active(self._handle, active)

    def child(self, type_name: str) -> "Row":
        """In a command: return a new record nested in this one."""
        type_ = self._type(type_name)
        return Row(self._call, self._call.child(self._handle, type_), type_.schema, self._types)

    def child_of(self, type_name: str, id_: int) -> "Row | None":
        """In a command: return a record nested in this one, active or not, or None."""
        type_ = self._type(type_name)
        handle = self._call.child_of(self._handle, type_, id_)
        return None if handle == NONE else Row(self._call, handle, type_.schema, self._types)

    def children(self, type_name: str) -> "Iterator[Row]":
        """In a command: yield the active records of a type nested in this one, by id."""
        type_ = self._type(type_name)
        cursor = self._call.children(self._handle, type_)
        while (handle := self._call.next(cursor)) != NONE:
            yield Row(self._call, handle, type_.schema, self._types)

    def _type(self, type_name: str) -> RecordType:
        assert self._types is not None, "only a record has nested ones"
        return self._types[type_name]

    def items(self, name: str) -> "list[Row]":
        """Return the items of an array of records; of scalars, `row[name]` is a list."""
        field = self._field(name)
        count = self._call.length(self._handle, field)
        return [self._item(field, self._call.item(self._handle, field, i)) for i in range(count)]

    def append(self, name: str, value: Any = None) -> "Row | None":
        """Add an item to an array: a scalar, or a record of defaults, which is returned."""
        field = self._field(name)
        handle = self._call.append(self._handle, field)
        if field.items is not None:
            return self._item(field, handle)
        assert field.item is not None
        self._call.set(handle, field.item, value)
        return None

    def _item(self, field: Field, handle: int) -> "Row":
        assert field.items is not None, f"{field.name} is no array of records"
        return Row(self._call, handle, field.items)

    def _field(self, name: str) -> Field:
        try:
            return self._schema.by_name[name]
        except KeyError:
            raise KeyError(f"{self._schema.name} has no field {name}") from None


class Context:
    """What an entry may ask for and do; see `session` for the rules."""

    def __init__(self, call: Call, application: Application) -> None:
        self._call = call
        self._application = application
        self.context = Row(call, CONTEXT_HANDLE, CONTEXT)

    @property
    def args(self) -> Row:
        """The command's arguments."""
        name = self._call.get(CONTEXT_HANDLE, _NAME)
        return Row(self._call, ARGS, self._application.commands[name].args)

    @property
    def event(self) -> Row:
        """In a projector: the changed record as it is now."""
        type_ = self._application.records[self._call.get(CONTEXT_HANDLE, _TYPE)]
        return Row(self._call, EVENT, type_.schema)

    @property
    def result(self) -> Row:
        """In a command: the result, if it declares one."""
        command = self._application.commands[self._call.get(CONTEXT_HANDLE, _NAME)]
        assert command.result is not None, f"{command.name} declares no result"
        return Row(self._call, RESULT, command.result)

    def record(self, type_name: str, id_: int = 0) -> Row | None:
        """Return a record, active or not, or None."""
        type_ = self._application.records[type_name]
        handle = self._call.record(type_, id_)
        types = self._application.records
        return None if handle == NONE else Row(self._call, handle, type_.schema, types)

    def create(self, type_name: str) -> Row:
        """Return a new record."""
        types = self._application.records
        type_ = types[type_name]
        return Row(self._call, self._call.create(type_), type_.schema, types)

    def unique(self, name: str, **fields: Any) -> int:
        """In a command: return the id of the active record with these values, or 0.

        `name` is the record type and its unique, as in `call.unique("table.number", number=7)`.
        """
        unique = self._application.uniques[name]
        k = self._call.unique_key(unique)
        by_name = self._application.records[unique.record].schema.by_name
        for field, value in fields.items():
            if by_name[field] not in unique.fields:
                raise KeyError(f"{name} has no {field}")
            self._call.set(k, by_name[field], value)
        return self._call.unique(k)

    def view(self, view_name: str, **columns: Any) -> Row | None:
        """In a projector: return the view's row at a key, read only, or None."""
        view = self._application.views[view_name]
        handle = self._call.view(self._key(view, columns))
        return None if handle == NONE else Row(self._call, handle, view.schema)

    def put(self, view_name: str, **columns: Any) -> Row:
        """In a projector: return the view's row at a key to write; new with defaults if absent."""
        view = self._application.views[view_name]
        return Row(self._call, self._call.put(self._key(view, columns)), view.schema)

    def remove(self, view_name: str, **columns: Any) -> None:
        """In a projector: remove the view's row at a key, if there is one."""
        self._call.remove(self._key(self._application.views[view_name], columns))

    def scan(self, view_name: str, *, reverse: bool = False, **columns: Any) -> Iterator[Row]:
        """In a projector: yield the view's rows whose first key columns are these, read only.

        In the order of their keys; each has the columns of its key too.
        """
        view = self._application.views[view_name]
        leading = {column.name for column in view.key[: len(columns)]}
        if leading != columns.keys():
            raise KeyError(f"a scan takes the first columns of the key of {view_name}")
        cursor = self._call.scan(self._key(view, columns), len(leading), reverse)
        while (handle := self._call.next(cursor)) != NONE:
            yield Row(self._call, handle, view.schema, columns=view.key)

    def reject(self, code: str, text: str = "", field: str | None = None) -> NoReturn:
        """Reject the command and end it here."""
        self._call.reject(code, text, field)
        raise CallStopped(code)

    def log(self, text: str, level: str = "info") -> None:
        """Log a line; level is debug, info, warning or error."""
        self._call.log(LOG_LEVELS.index(level), text)

    def _key(self, view: ViewType, columns: dict[str, Any]) -> int:
        k = self._call.key(view)
        for column in view.key:
            if column.name in columns:
                self._call.set(k, column, columns.pop(column.name))
        if columns:
            raise KeyError(f"the key of {view.name} has no {', '.join(columns)}")
        return k


class BuiltinGuests:
    """The Python extensions of one application; implements `host_guests.Guests`."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._classes = {
            extension.name: _load(extension)
            for extension in application.extensions.values()
            if extension.kind == "python"
        }
        for entry in application.entry_points:
            class_ = self._classes.get(entry.extension)
            if class_ is not None and not callable(getattr(class_, entry.function, None)):
                raise _wrong(
                    application.extensions[entry.extension], f"it has no method {entry.function}"
                )

    def run(self, entry: EntryPoint, call: Call, time_ms: int | None) -> None:  # noqa: ARG002 - trusted: no budget
        """Run an entry to its end; an exception is a trap. See `host_guests.Guests.run`."""
        try:
            getattr(self._classes[entry.extension](), entry.function)(
                Context(call, self._application)
            )
        except CallStopped:
            return  # `call` knows why
        except (Exception, SystemExit) as fault:
            raise Trapped(Code.EXTENSION_TRAPPED, _described(fault)) from fault

    def close(self) -> None:
        """Let go of the classes."""
        self._classes.clear()


def _load(extension: Extension) -> Callable[[], object]:
    """Return the class of an extension, its source run once as a module of a private name."""
    file, _, class_name = extension.target.partition(":")
    name = f"partita_extension_{extension.name}_{extension.sha256.hex()[:16]}"
    module = sys.modules.get(name)
    if module is None:
        module = ModuleType(name)
        try:
            code = compile(extension.content, f"{file}.py", "exec")
            sys.modules[name] = module
            exec(code, module.__dict__)  # noqa: S102 - what `python =` in a manifest means
        except Exception as fault:
            sys.modules.pop(name, None)
            raise _wrong(extension, f"it can't be run: {_described(fault)}") from fault
    class_ = getattr(module, class_name, None)
    if not isinstance(class_, type):
        raise _wrong(extension, f"it has no class {class_name}")
    return class_


def _described(fault: BaseException) -> str:
    try:
        text = f"{type(fault).__name__}: {fault}"
    except Exception:  # noqa: BLE001 - an exception of user code may do anything, even here
        text = type(fault).__name__
    return text[:MESSAGE_LENGTH_MAX]


def _wrong(extension: Extension, what: str) -> ApplicationError:
    return ApplicationError(
        "E1104",
        what,
        "Mend the extension or the manifest",
        extension=extension.name,
        target=extension.target,
    )
