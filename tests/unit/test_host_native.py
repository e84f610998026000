"""The state host's C, compiled natively under the address and undefined-behaviour sanitizers."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from fastavro.utils import generate_many
from record_world import inn

from engine import wire
from engine.application import schema
from engine.sandbox import plans
from engine.wire import Kind

TESTS = Path(__file__).parents[1] / "native"
GOLDEN = Path(__file__).parents[1] / "golden" / "format_1.json"
HOST = Path(__file__).parents[2] / "engine" / "sandbox" / "host"
TIMEOUT_S = 300
ROUNDS = 60_000
ENVELOPE, OUTCOME, GROUP = range(3)


@pytest.fixture(scope="session")
def tested(tmp_path_factory):
    """The test program; built once for all of this file's tests."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler with sanitizers: neither gcc nor clang")
    program = tmp_path_factory.mktemp("native") / "host_test"
    options = ["-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{HOST}"]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = TESTS / "host_test.c"
    command = [compiler, *options, *sanitize, str(source), "-o", str(program)]
    made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert made.returncode == 0, made.stderr
    return program


def run(program, *arguments):
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.xdist_group("native")
@pytest.mark.parametrize("part", ["memory", "hash", "rows", "changed", "known", "ranges", "dedup"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_part_does_what_the_plainest_thing_does(tested, part, seed):
    run(tested, part, seed)


@pytest.mark.xdist_group("native")
def test_broken_bytes_are_refused_and_nothing_behind_them_is_read(tested, tmp_path):
    application = inn()
    maker = plans.Maker(application, {application.index: application}, {})
    image, samples = tmp_path / "image", tmp_path / "samples"
    image.write_bytes(maker.image(0, {}))
    samples.write_bytes(b"".join(_samples(application, maker.shapes)))
    run(tested, "fuzz", 3, image, samples, ROUNDS)


def _samples(application, shapes):
    for type_ in (*application.records.values(), *application.views.values()):
        for values in generate_many(type_.schema.avro, 5):
            yield _sample(GROUP, schema.encode(type_.schema, values), shapes.of(type_.schema))
    golden = json.loads(GOLDEN.read_text())
    yield _sample(ENVELOPE, wire.encode_command(_command(golden)))
    yield _sample(ENVELOPE, wire.encode_command({**_command(golden), "principal": None}))
    yield _sample(OUTCOME, wire.encode_event(Kind.OUTCOME, _outcome(golden)))
    yield _sample(OUTCOME, wire.encode_event(Kind.OUTCOME, {**_outcome(golden), "changes": []}))


def _command(golden):
    fields = wire.decode_command(bytes.fromhex(golden["command"]))
    return {**fields, "source": None}


def _outcome(golden):
    _, fields = wire.decode_event(bytes.fromhex(golden["event outcome"]))
    return {**fields, "input": "commands", "emits": [], "timers": [], "source": None}


def _sample(kind, value, shape=0):
    return struct.pack("<3I", kind, shape, len(value)) + value
