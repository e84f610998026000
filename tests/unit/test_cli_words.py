"""The command line itself: its help, its errors, and the words that need no log."""

import importlib

import orjson
import pytest
from inline_snapshot import snapshot
from typer.testing import CliRunner

from engine import cli
from engine.cli.main import WORDS, app
from engine.cli.rejections import REJECTIONS
from engine.errors import CATALOG, Code, StoreError

runner = CliRunner()
WIDE = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}


def run(*words: str, env: dict[str, str] | None = None):
    return runner.invoke(app, list(words), env={**WIDE, **(env or {})})


def test_the_help_lists_every_word():
    result = run("--help")
    assert result.exit_code == 0
    assert result.stdout == snapshot("""\
Usage: partita [OPTIONS] COMMAND [ARGS]...

  An event-sourcing engine on a message broker: exactly one outcome per command.

Options:
  --debug               Show tracebacks of errors.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.

Commands:
  dev        Run an application on this machine, without a broker.
  serve      Run a node of an application.
  node       Nodes: list, reload, drain, resume.
  app        Check, show and compare applications.
  extension  Build, check and list extensions.
  kafka      A real local Apache Kafka: up, down, status.
  command    Send commands, list the rejected ones.
  events     Look into the event log.
  record     Read records.
  view       Read views.
  partition  Who owns which partition.
  load       Record, replay and report real traffic.
  log        Archive, trim and copy the event log.
  snapshot   Take, list, check and restore snapshots.
  verify     Audit topics and stores against the promises.
  bench      Measure this engine on this machine.
  simulate   Run a simulated cluster from one seed.
  config     Show the settings and their schema.
  openapi    Write an application's OpenAPI document.
  explain    Explain an error or rejection code.
  doctor     Check what this machine has and lacks.
  version    Print the versions in use.

  Data goes to stdout, everything else to stderr. Most words take --json.
""")


@pytest.mark.parametrize(
    "words",
    [("events",), ("load",), ("command",), ("view",), ("record",), ("partition",), ("node",)],
)
def test_a_noun_alone_shows_its_verbs(words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Commands:" in result.stdout
    assert "completion" not in result.stdout


def test_the_help_of_verify():
    assert run("verify", "--help").stdout == snapshot("""\
Usage: partita verify [OPTIONS] [application]

  Audit an application: one outcome per command, in order, gapless, equal
  digests.

  Exit 1 with E1501 on any difference. Nothing is changed anywhere.

Arguments:
  application <path>  The application's folder; needed with a broker.

Options:
  --data <path>              The data folder of `partita dev`, read only.
  --bootstrap-servers <str>  The broker's addresses.
  --store <list[Path]>       Also compare a node's data folder; repeatable.
  --settled                  Nothing runs any more: nothing may be waiting.
  --replay / --no-replay     Fold the events anew, compare digests.  [default:
                             replay]
  --strict                   Count alarms, which the protocol survives, too.
  --config <path>            The settings file.
  --json                     Write JSON.
  -h, --help                 Show this message and exit.
""")


def test_the_help_of_replay():
    assert run("load", "replay", "--help").stdout == snapshot("""\
Usage: partita load replay [OPTIONS] {file}

  Play a recording open loop: through HTTP, or with --bootstrap-servers through
  the broker.

  Latency counts from when a command was due until its outcome could be read.

Arguments:
  file <path>  The recording.  [required]

Options:
  -a, --application <path>   The application's folder: for its schemas.
  --rate <str>               1x (as recorded), 10x, 2000/s, or max.  [default:
                             1x]
  --same-ids                 Keep the command ids: send true duplicates.
  --drain <float range>      Seconds to wait for the last ones.  [default: 30;
                             x>=0]
  --results <path>           The folder of results.  [default: loadtest/results]
  --json                     Write JSON.
  --url <str>                Base URL of a running node.  [env var: PARTITA_URL;
                             default: http://127.0.0.1:8080]
  --bootstrap-servers <str>  The broker's addresses.
  --config <path>            The settings file.
  -h, --help                 Show this message and exit.
""")


def test_a_typo_gets_a_suggestion():
    result = run("evnts")
    assert result.exit_code == 2
    assert result.stderr == snapshot("""\
Usage: partita [OPTIONS] COMMAND [ARGS]...
Try 'partita -h' for help.

Error: No such command 'evnts'. Did you mean 'events'?
""")


def test_a_broken_word_breaks_only_itself(monkeypatch):
    word = WORDS["version"]._replace(module="engine.cli.absent")
    monkeypatch.setitem(WORDS, "version", word)
    result = run("version")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == snapshot("`partita version` is not part of this installation\n")
    assert run("explain").exit_code == 0


def fails(_code: str) -> dict[str, str]:
    raise StoreError("E1203", "applied 918, the log ends at 900", "Restore the log", partition=4)


def test_an_error_is_one_line_and_its_exit_status(monkeypatch):
    info = importlib.import_module("engine.cli.info")
    monkeypatch.setattr(info, "_page", fails)
    result = run("explain", "x")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.split(". ") == snapshot(
        [
            "E1203 partition 4: applied 918, the log ends at 900",
            "Restore the log",
            "More: partita explain E1203\n",
        ]
    )
    assert "Traceback" in run("--debug", "explain", "x").stderr


def interrupted(_code: str) -> dict[str, str]:
    raise KeyboardInterrupt


def test_ctrl_c_ends_with_130(monkeypatch):
    monkeypatch.setattr(importlib.import_module("engine.cli.info"), "_page", interrupted)
    assert run("explain", "x").exit_code == 130


def test_every_code_is_explained():
    assert set(REJECTIONS) == set(Code)
    for code in [*CATALOG, *(code.value for code in Code)]:
        page = orjson.loads(run("explain", code, "--json").stdout)
        assert page["code"] == code
        assert page["title"]
        assert page["why"]
        assert page["what_to_do"]
    listed = orjson.loads(run("explain", "--json").stdout)
    assert len(listed) == len(CATALOG) + len(Code)


def test_explain_reads_like_this():
    assert run("explain", "e1203").stdout == snapshot("""\
E1203: The store is ahead of the log

The log lost data, or the wrong log is configured. Going on would fork the history.

Restore the log, or move the partition's folder away to rebuild it from this log.
""")
    assert run("explain", "nope").exit_code == 2


def test_versions():
    versions = orjson.loads(run("version", "--json").stdout)
    assert versions["partita"]
    assert "missing" not in versions.values()


def test_doctor_says_what_is_there():
    result = run("doctor", "--json")
    found = {row["check"]: row for row in orjson.loads(result.stdout)}
    assert found["python"]["state"] == "ok"
    assert set(found) == {"python", "libraries", "java", "zig", "port", "disk", "cores"}


def test_config_masks_secrets():
    result = run("config", "show", "--json", env={"PARTITA__HTTP__TOKEN": "secret-word"})
    assert "secret-word" not in result.stdout
    assert orjson.loads(result.stdout)["http"]["token"]
    assert orjson.loads(run("config", "schema").stdout)["title"]


def test_a_wrong_setting_is_named():
    result = run("config", "show", env={"PARTITA__HTTP__PORT": "99999999"})
    assert result.exit_code == 2
    assert "http.port" in result.stderr


def test_no_node_is_told_with_what_to_do():
    result = run("view", "get", "statement", "-w", "a", "--url", "http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (6, "")
    assert "E1406" in result.stderr
    assert "--url" in result.stderr


def test_wrong_flags_are_told():
    assert "--id" in run("command", "send", "credit", "-w", "a", "--id", "7").stderr
    assert "--key" in run("view", "get", "x", "-w", "a", "-k", "novalue").stderr


def test_the_package_says_what_it_is():
    assert cli.__doc__
