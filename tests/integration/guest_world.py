"""Small applications around guests that tests write themselves, in C or as WAT text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wasmtime

from engine.application import Application
from engine.application.building import Parts, build
from engine.sandbox.sdk import generate
from engine.sandbox.sdk.build import compile_c

MANIFEST = """
application = { name = "hostile", version = "1.0.0", partitions = 1 }
records.thing = { schema = "thing.avsc", kind = "singleton" }
commands.good = { args = "args.avsc", run = "guest:good" }
commands.bad = { args = "args.avsc", run = "guest:bad" }
commands.leak = { args = "args.avsc", run = "guest:leak" }
commands.grow = { args = "args.avsc", run = "guest:grow" }
commands.set = { args = "args.avsc", run = "guest:set" }
views.total = { row = "total.avsc", key = [] }
[projectors.total]
on = ["thing.create", "thing.update"]
writes = ["total"]
run = "guest:shown"
[extensions]
guest = { wasm = "guest.wasm", time_ms = 40, memory_kib = 128 }
"""
# One command, no view: what a guest in WAT text needs to be complete.
SMALL_MANIFEST = """
application = { name = "small", version = "1.0.0", partitions = 1 }
records.thing = { schema = "thing.avsc", kind = "singleton" }
commands.good = { args = "args.avsc", run = "guest:good" }
extensions.guest = { wasm = "guest.wasm", time_ms = 40, memory_kib = 128 }
"""
SCHEMAS = {
    "thing.avsc": """{"type": "record", "name": "Thing", "fields": [
        {"name": "total", "type": "long", "default": 0},
        {"name": "small", "type": "int", "default": 0},
        {"name": "note", "type": "string", "default": ""},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []}]}""",
    "args.avsc": """{"type": "record", "name": "Args", "fields": [
        {"name": "what", "type": "long", "default": 0},
        {"name": "handle", "type": "long", "default": 0}]}""",
    "total.avsc": """{"type": "record", "name": "Total", "fields": [
        {"name": "total", "type": "long", "default": 0}]}""",
}
# Without --no-growable-memory, so that a guest may try.
GROWING = (
    *("--no-entry", "--gc-sections", "--stack-first", "--page-size=1", "-z", "stack-size=4096"),
    "--export=__stack_pointer",
)


def application(
    module: bytes, manifest: str = MANIFEST, schemas: Mapping[str, str] = SCHEMAS
) -> Application:
    """Return an application with `module` as its extension `guest`."""
    wanted = {name: text for name, text in schemas.items() if f'"{name}"' in manifest}
    return build(Parts(manifest, wanted, {"guest": module}, "application.toml"))


def from_c(source: Path, scratch: Path, **options: Any) -> bytes:
    """Compile a guest against the header of the application around it."""
    around = application(b"")
    text = generate.header(around, around.extensions["guest"])
    (scratch / "guest.h").write_text(text + ordinals(text))
    return compile_c(source, include=(scratch,), **options)


def ordinals(header: str) -> str:
    """Return #defines of ordinals that the generated code has as numbers, to misuse them."""
    lines = header.splitlines()
    described = [line.strip().strip('"').removesuffix("\\n") for line in lines if '\\n"' in line]
    fields = [line for line in described if line.startswith(("field ", "key "))]
    plans = [line for line in described if line.startswith("plan ")]
    named = {
        "THING_TOTAL": fields.index("field record thing total i64"),
        "THING_SMALL": fields.index("field record thing small i64"),
        "THING_TAGS": fields.index("field record thing tags array"),
        "BAD_ARGS_WHAT": fields.index("field args bad what i64"),
        "THING_PLAN": plans.index("plan record thing total,small,note"),
    }
    return "".join(f"#define {name} {value}\n" for name, value in named.items())


def wat(body: str, description: str = "abi 1\\nentry good\\n") -> bytes:
    """Return a module of WAT text with a memory and a description; `body` may add or replace."""
    length = len(description.replace("\\n", "\n"))
    parts = [body]
    if '"memory"' not in body:
        parts.append('(memory (export "memory") 1 1)')
    if '"partita_describe"' not in body:
        packed = (16 << 32) | length
        parts.append(f'(func (export "partita_describe") (result i64) (i64.const {packed}))')
    if '"good"' not in body:
        parts.append('(func (export "good"))')
    if "(data" not in body:
        parts.append(f'(data (i32.const 16) "{description}")')
    # Imports come before everything else.
    parts.sort(key=lambda part: "(import" not in part)
    return bytes(wasmtime.wat2wasm(f"(module {' '.join(parts)})"))
