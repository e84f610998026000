"""Guests that call whatever they like: each call does what it may, or ends its command alone."""

import functools
import itertools

from guest_world import wat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_boxes import MANIFEST, SCHEMAS

from engine.application import Application
from engine.application.building import Parts, build
from engine.errors import Code
from engine.sandbox import abi
from engine.sandbox.sdk import generate
from engine.sandbox.testkit import TestKit

TEXTS = {f"{name}.avsc": text for name, text in SCHEMAS.items()}
# What may become of a command whose extension does anything at all.
EXPECTED = {"", "nobody", "name_taken", "no_part", "too_large"} | {
    code.value
    for code in (
        Code.ABI_MISUSED,
        Code.INVALID_REFERENCE,
        Code.NOT_UNIQUE,
        Code.UNIQUE_CHANGED,
        Code.UNDECLARED_CODE,
        Code.INACTIVE_RECORD,
        Code.TOO_MANY_CHANGES,
    )
}
NUMBER = st.one_of(
    st.integers(0, 12),
    st.sampled_from([-1, 16, 4_096, 65_535, 65_536, 65_537, 2**31 - 1, -(2**31)]),
)
# An argument is a number, or the result of an earlier call, counted back from the last one.
TEN = st.integers(0, 10)
LAST, RECENT = (0,), st.tuples(st.integers(0, 4))
# Calls with a handle of the wrong kind.
MISUSED = st.sampled_from(["next", "unique", "scan", "children", "put", "id", "set_active", "item"])
WILD = st.tuples(
    st.sampled_from(sorted(abi.IMPORTS)),
    st.lists(st.one_of(NUMBER, RECENT), min_size=6, max_size=6),
).map(lambda call: [call])


def application(module: bytes) -> Application:
    return build(Parts(MANIFEST, TEXTS, {"guest": module}, "application.toml"))


@functools.cache
def statements() -> list[str]:
    around = application(b"")
    lines = generate.header(around, around.extensions["guest"]).splitlines()
    return [line.strip().strip('"').removesuffix("\\n") for line in lines if '\\n"' in line]


def ordinal(statement: str) -> int:
    kinds = ("field", "key") if statement.startswith(("field", "key")) else statement.split()[:1]
    same = [line for line in statements() if line.split()[0] in kinds]
    return same.index(statement)


BOX, PART = ordinal("record box"), ordinal("record part")
SIZES, LARGEST = ordinal("view sizes"), ordinal("view largest")
NAME, INSIDE = ordinal("field record box name bytes"), ordinal("field record box inside i64")
SIZE, FIRST = ordinal("field record part size i64"), ordinal("field view largest first i64")
KIND, KEY_BOX = ordinal("key sizes kind bytes"), ordinal("key sizes box i64")
LARGEST_BOX = ordinal("key largest box i64")


def snippets(*choices: list) -> st.SearchStrategy[list]:
    """Return bodies of calls that mean something, and of wild ones among them."""
    filled = [
        st.tuples(*(st.tuples(whole(name), st.tuples(*map(whole, args))) for name, args in calls))
        for calls in choices
    ]
    sane = st.one_of(*filled).map(list)
    # One wild call in six: it mostly ends the command.
    mixed = st.integers(0, 5).flatmap(lambda chance: sane if chance else WILD)
    return st.lists(mixed, max_size=8).map(lambda found: [*itertools.chain(*found)])


def whole(argument: object) -> st.SearchStrategy:
    return argument if isinstance(argument, st.SearchStrategy) else st.just(argument)


# The first box and a part in it, for the others to find.
MAKE = [
    ("create", [BOX]),
    ("set_bytes", [LAST, NAME, 16, 11]),
    ("child", [LAST, PART]),
    ("set_i64", [LAST, SIZE, 7]),
]
COMMAND = snippets(
    [("create", [BOX])],
    [("create", [BOX]), ("set_bytes", [LAST, NAME, 16, TEN])],
    [("create", [BOX]), ("child", [LAST, PART]), ("set_i64", [LAST, SIZE, RECENT])],
    [("create", [BOX]), ("set_i64", [LAST, INSIDE, RECENT]), ("set_bytes", [LAST, NAME, 17, TEN])],
    [("unique_key", [0]), ("set_bytes", [LAST, NAME, 16, TEN]), ("unique", [LAST])],
    [("record", [BOX, 65_536]), ("children", [LAST, PART]), ("next", [LAST]), ("id", [LAST])],
    [("record", [BOX, 65_536]), ("child_of", [LAST, PART, 65_537]), ("is_active", [LAST])],
    [("record", [BOX, 65_536]), ("set_active", [LAST, st.integers(0, 1)])],
    [("record", [BOX, 65_536]), ("child", [LAST, PART])],
    [(MISUSED, [RECENT, 0, 0, 0])],
)
PROJECTOR = snippets(
    [("key", [LARGEST]), ("set_i64", [LAST, LARGEST_BOX, NUMBER]), ("put", [LAST])],
    [("key", [LARGEST]), ("set_i64", [LAST, LARGEST_BOX, NUMBER]), ("view", [LAST])],
    [("key", [LARGEST]), ("set_i64", [LAST, LARGEST_BOX, NUMBER]), ("remove", [LAST])],
    [("key", [LARGEST]), ("scan", [LAST, 0, st.integers(0, 1)]), ("next", [LAST])],
    [("key", [LARGEST]), ("scan", [LAST, 0, 0]), ("next", [LAST]), ("get_i64", [LAST, FIRST])],
    [("key", [SIZES]), ("set_bytes", [LAST, KIND, 16, TEN]), ("scan", [LAST, 1, 1])],
    [
        ("key", [SIZES]),
        ("set_bytes", [LAST, KIND, 16, TEN]),
        ("set_i64", [LAST, KEY_BOX, NUMBER]),
        ("set_i64", [LAST, KEY_BOX + 1, 1]),
        ("set_i64", [LAST, KEY_BOX + 2, RECENT]),
        ("put", [LAST]),
    ],
    [
        ("key", [LARGEST]),
        ("set_i64", [LAST, LARGEST_BOX, TEN]),
        ("put", [LAST]),
        ("set_i64", [LAST, FIRST, RECENT]),
    ],
    [("get_i64", [3, SIZE])],
    [(MISUSED, [RECENT, 0, 0, 0])],
)


def code_of(name: str, body: list) -> str:
    """Return a function in WAT text that makes these calls, and keeps all that they return."""
    lines, results = [], []
    for function, arguments in body:
        given, returned = abi.IMPORTS[function]
        operands = [
            operand(kind, each, results) for kind, each in zip(given, arguments, strict=False)
        ]
        call = f"(call ${function} {' '.join(operands)})"
        if returned:
            lines.append(f"(local.set $r{len(results)} {call})")
            results.append(returned[0])
        else:
            lines.append(call)
    kept = " ".join(f"(local $r{at} {kind})" for at, kind in enumerate(results))
    return f'(func (export "{name}") {kept} {" ".join(lines)})'


def operand(kind: str, argument: int | tuple[int], results: list[str]) -> str:
    if isinstance(argument, int):
        return f"({kind}.const {argument})"
    back = [at for at, result in enumerate(results) if result == kind][::-1]
    return f"(local.get $r{back[argument[0]]})" if argument[0] < len(back) else f"({kind}.const 1)"


def guest(bodies: dict[str, list]) -> bytes:
    imports = "".join(
        f'(import "partita1" "{name}" (func ${name}'
        f" {' '.join(f'(param {each})' for each in given)}"
        f" {' '.join(f'(result {each})' for each in returned)}))"
        for name, (given, returned) in abi.IMPORTS.items()
    )
    functions = "".join(code_of(name, body) for name, body in bodies.items())
    return wat(imports + functions, "".join(f"{line}\\n" for line in statements()))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    look=COMMAND,
    drop=COMMAND,
    parts=PROJECTOR,
    commands=st.lists(st.sampled_from(["look", "drop", "make"]), max_size=6),
)
def test_any_calls_do_what_they_may_or_end_their_command(look, drop, parts, commands):
    bodies = {"make": MAKE, "look": look, "drop": drop, "parts": parts}
    kit = TestKit(application(guest(bodies)))
    for command in ["make", *commands]:
        outcome = kit.send("w", command)
        assert outcome.code in EXPECTED, outcome
        assert outcome.sequence == len(kit.outcomes)
    kit.replay()
    kit.close()
