"""Every case of `partita bench` runs, small, and prints the keys that the documents name.

No figure is looked at: whether it is good is for a quiet machine to say.
"""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from engine.bench import bank, bare_loop, harm, host_call
from engine.bench.hosts import HOSTS
from engine.cli.main import app
from engine.model import Stage

FOLDER = Path(__file__).parents[2] / "topology" / "bank"
SMALL = ("--application", str(FOLDER), "--json")


def bench(*words: str) -> dict:
    result = CliRunner().invoke(app, ["bench", *words, *SMALL])
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout)
    assert document["bench"] == words[0]
    assert {"cpu", "cores", "memory_gib", "kernel", "python", "packages"} == set(
        document["machine"]
    )
    return document


@pytest.mark.parametrize("log", [pytest.param("kafka", marks=pytest.mark.kafka), "embedded"])
def test_commands(log: str) -> None:
    words = ("--log", log, "--count", "600", "--accounts", "50", "--latency", "0.5")
    document = bench("commands", *words)
    assert document["commands"] == 600
    assert document["commands_per_s"] >= 0  # all may be decided before the window begins
    assert document["bare_loop_per_s"] > 0
    assert {"ratio", "p50_ms", "p99_ms", "latencies"} < set(document)


def test_replay() -> None:
    sizes = ("--accounts", "20", "--outcomes", "200")
    (case,) = bench("replay", "--log", "embedded", *sizes)["cases"]
    assert (case["accounts"], case["outcomes"]) == (20, 200)
    assert case["outcomes_per_s"] > 0


def test_growth() -> None:
    cases = bench("growth", "--log", "embedded", "--rows", "30", "--count", "200")["cases"]
    assert [(case["rows"], case["choice"]) for case in cases] == [(30, "uniform"), (30, "zipf")]


@pytest.mark.kafka
def test_query() -> None:
    document = bench("query", "--seconds", "0.5", "--commands", "100", "--accounts", "20")
    assert [case["while"] for case in document["cases"]] == ["idle", "busy"]
    assert [case["sent"] for case in document["cases"]] == [50, 50]


def test_host_call() -> None:
    asked = host_call.Asked(tuple(HOSTS), calls=(100, 100), commands=2, rounds=1)
    document = host_call.run(asked)
    assert [(case["host"], case["name"]) for case in document["cases"]] == [
        (host, name) for host in HOSTS for name in host_call.NAMES
    ]
    assert document["bare_call_ns"] > 0
    assert set(document["bare_copy_ns"]) == {"16", "56"}
    assert set(document["reads_3000_us_by_host"]) == set(HOSTS)


def test_harm() -> None:
    asked = harm.Harm(tuple(HOSTS), commands=20, cases=(("trap", 2), ("endless", 1)), rounds=1)
    document = harm.run(asked)
    found = [(case["host"], case["bad"]) for case in document["cases"]]
    assert found == [(host, bad) for host in HOSTS for bad in ("trap", "endless")]
    assert all(case["us_per_bad"] > 0 for case in document["cases"])


def test_walk_and_what_is_kept_of_it(tmp_path: Path) -> None:
    words = ("walk", "--log", "embedded", "--count", "500", "--accounts", "10", "--keep")
    document = bench(*words, "--results", str(tmp_path))
    stages = {each["stage"] for each in document["stages"]}
    # A few commands are decided in the batch that ends the preparation.
    assert {"apply", "reply"} <= stages <= {each.value for each in Stage}
    (file,) = tmp_path.glob("walk-*.json")
    assert orjson.loads(file.read_bytes()) == document


def test_hot_accounts_are_drawn_as_zipf_says() -> None:
    accounts, draws = 1_000, 20_000
    choose = bank.zipf(accounts)
    drawn = [choose() for _ in range(draws)]
    counts = sorted((drawn.count(account) for account in set(drawn)), reverse=True)
    assert set(drawn) <= set(range(accounts))
    # The harmonic number of 1,000 with exponent 0.99 is 7.73: the hottest has its share.
    assert counts[0] / draws == pytest.approx(1 / 7.73, rel=0.15)
    assert counts[0] / counts[1] == pytest.approx(2**0.99, rel=0.2)


def test_seeded_accounts_are_those_that_commands_open() -> None:
    workload = bank.Bank(FOLDER, 3)
    assert [command.key for command in workload.opens()] == [b"a0000000", b"a0000001", b"a0000002"]
    ids = {command.value[10:26] for command in workload.credits(2_500)}
    assert len(ids) == 2_500


def test_the_bare_loop_does_what_a_command_asks() -> None:
    accounts: bare_loop.Accounts = {}
    for amount in (5, 7):
        fields = {"id": "1", "account": "a", "amount": amount, "reference": ""}
        event = bare_loop.decide(accounts, orjson.dumps(fields))
    assert orjson.loads(event) == {
        "id": "1",
        "account": "a",
        "balance": 12,
        "entries": 2,
        "turnover": 12,
    }
