"""A guest in WAT text for any record schema: arguments go into a record, records into a view.

Fields are (name, kind, nullable, check); the record is `thing`, its view `shown`.
"""

from guest_world import wat

from engine.sandbox import abi

ARGS, EVENT, RESULT = "(i32.const 1)", "(i32.const 3)", "(i32.const 4)"
ROW, KEY = "(local.get $h)", "(local.get $k)"
LOCALS = "(local $h i32) (local $k i32)"


class Copier:
    """Writes the guest of one application."""

    def __init__(self, fields, columns, *, has_unique):
        self.fields = fields
        self.columns = columns
        self.has_unique = has_unique
        self.said = self._said()
        named = [line for line in self.said if line.startswith(("field", "key"))]
        self.ordinals = {line: at for at, line in enumerate(named)}

    def module(self, *, singleton):
        """Return the module."""
        imports = "".join(
            f'(import "{abi.MODULE}" "{name}" (func ${name}'
            f" {' '.join(f'(param {each})' for each in given)}"
            f" {' '.join(f'(result {each})' for each in returned)}))"
            for name, (given, returned) in abi.IMPORTS.items()
        )
        memory = '(memory (export "memory") 2 2)'  # one that may grow is left to the slow lane
        description = "".join(f"{line}\\n" for line in self.said)
        return wat(imports + self._put(singleton=singleton) + self._shown() + memory, description)

    def _said(self):
        said = ["abi 1", "entry put", "entry shown", "record thing", "view shown"]
        said += ["unique thing.u"] * self.has_unique
        for place in ("args put", "record thing", "view shown"):
            said += [f"field {place} {name} {abi.ACCESS[kind]}" for name, kind, *_ in self.fields]
        said += [f"field args put {name} i64" for name in ("id", "mask", "active")]
        said += [f"key shown k{name} {abi.ACCESS[kind]}" for name, kind, *_ in self.columns]
        return [*said, "field result put id i64"]

    def _ordinal(self, start):
        return next(at for line, at in self.ordinals.items() if line.startswith(f"{start} "))

    def _moved(self, shape, source, place, to, to_place):
        name, kind, nullable, _ = shape
        is_key = to_place.startswith("key")
        get = self._ordinal(f"{place} {name}")
        put = self._ordinal(f"{to_place}{name}" if is_key else f"{to_place} {name}")
        access = abi.ACCESS[kind]
        if access == "bytes":
            read = (
                f"(call $get_bytes {source} (i32.const {get}) (i32.const 4096) (i32.const 60000))"
            )
            move = f"(call $set_bytes {to} (i32.const {put}) (i32.const 4096) {read})"
        else:
            value = f"(call $get_{access} {source} (i32.const {get}))"
            move = f"(call $set_{access} {to} (i32.const {put}) {value})"
        if not nullable or is_key:
            return move
        null = f"(call $set_null {to} (i32.const {put}))"
        return f"(if (call $is_null {source} (i32.const {get})) (then {null}) (else {move}))"

    def _argument(self, name):
        return f"(call $get_i64 {ARGS} (i32.const {self._ordinal(f'field args put {name}')}))"

    def _put(self, *, singleton):
        copies = ""
        for at, shape in enumerate(self.fields):
            copy = self._moved(shape, ARGS, "field args put", ROW, "field record thing")
            bit = f"(i32.wrap_i64 (i64.shr_u {self._argument('mask')} (i64.const {at})))"
            copies += f"(if (i32.and {bit} (i32.const 1)) (then {copy}))"
        id_ = "(i64.const 0)" if singleton else self._argument("id")
        active = self._argument("active")
        return f"""(func (export "put") {LOCALS}
  (local.set $h (call $record (i32.const 0) {id_}))
  (if (i32.eqz {ROW}) (then (local.set $h (call $create (i32.const 0)))))
  {copies}
  (if (i64.eq {active} (i64.const 1)) (then (call $set_active {ROW} (i32.const 1))))
  (if (i64.eq {active} (i64.const 2)) (then (call $set_active {ROW} (i32.const 0))))
  {self._looked_up() if self.has_unique else ""}
  (if (i64.eq {active} (i64.const 9)) (then (unreachable))))"""

    def _looked_up(self):
        """Ask who has the arguments in the unique index; the answer is the result."""
        keys = "".join(
            self._moved(shape, ARGS, "field args put", KEY, "field record thing")
            for shape in self.fields
        )
        result = self._ordinal("field result put id")
        found = f"(call $set_i64 {RESULT} (i32.const {result}) (call $unique {KEY}))"
        return f"(local.set $k (call $unique_key (i32.const 0))) {keys} {found}"

    def _shown(self):
        keys = "".join(
            self._moved(shape, EVENT, "field record thing", KEY, "key shown k")
            for shape in self.columns
        )
        rows = "".join(
            self._moved(shape, EVENT, "field record thing", ROW, "field view shown")
            for shape in self.fields
        )
        return f"""(func (export "shown") {LOCALS}
  (local.set $k (call $key (i32.const 0))) {keys}
  (local.set $h (call $put {KEY})) {rows})"""
