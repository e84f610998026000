"""Every error the engine raises, and every code it answers a command with.

EngineError
├── ConfigError      a setting, a flag or a folder is wrong: the operator mends it, exit 2
├── ApplicationError a manifest, a schema or an extension is wrong: its author mends it, exit 3
├── StoreError       a store is damaged, locked, or doesn't belong to its log, exit 4
├── LogError         a log is damaged, missing, or not what it was, exit 5
└── UnavailableError not now: the caller may try again, exit 6

An error says what, where, why and what to do. `CATALOG` holds the page behind each code
(`partita explain CODE`). A new code only if somebody can react to it.

`Code` is the other family: what became of one command. Those are data, not exceptions.
"""

from enum import StrEnum
from typing import ClassVar


class EngineError(Exception):
    """What went wrong, its stable code, what to do about it, and where it happened."""

    exit_status: ClassVar[int] = 1

    def __init__(self, code: str, message: str, hint: str = "", **where: object) -> None:
        super().__init__(message)
        assert code in CATALOG, f"{code} has no page in errors.CATALOG"
        self.code = code
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        """Return one line: `E1203 partition 4: what. What to do. More: partita explain E1203`."""
        place = ", ".join(f"{name} {value}" for name, value in self.where.items())
        parts = [f"{self.code} {place}: {self.message}" if place else f"{self.code} {self.message}"]
        if self.hint:
            parts.append(self.hint)
        parts.append(f"More: partita explain {self.code}")
        return ". ".join(part.rstrip(".") for part in parts)


class ConfigError(EngineError):
    """The operator mends it."""

    exit_status = 2


class ApplicationError(EngineError):
    """The application's author mends it; `file` and `key` say where."""

    exit_status = 3


class StoreError(EngineError):
    """A node's own data is damaged, locked, or not of this log."""

    exit_status = 4


def unwritable(folder: object, fault: OSError) -> StoreError:
    """Return what a file that can't be made or written means: the operator mends it."""
    return StoreError(
        "E1207",
        f"{fault.strerror or fault}: {fault.filename or folder}",
        "Make room, mend the permissions, or choose another folder with --data",
        folder=folder,
    )


class LogError(EngineError):
    """The log is damaged, gone, or not what it was."""

    exit_status = 5


class UnavailableError(EngineError):
    """Not now; trying again is safe."""

    exit_status = 6


class Code(StrEnum):
    """What a command is answered with when it is not accepted. An extension may add its own.

    The first group are rejected outcomes, recorded in the event log. The second are refusals:
    replies without a record (ARCHITECTURE R7).
    """

    UNDECODABLE = "undecodable"
    UNKNOWN_COMMAND = "unknown_command"
    SWITCHED_OFF = "switched_off"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID_ARGUMENTS = "invalid_arguments"
    WRONG_PARTITION = "wrong_partition"
    NO_WORKSPACE = "no_workspace"
    TOO_LARGE = "too_large"
    EXPIRED = "expired"
    SEQUENCE_MISMATCH = "sequence_mismatch"
    SOURCE_FORBIDDEN = "source_forbidden"
    UNKNOWN_WORKSPACE = "unknown_workspace"
    WORKSPACE_EXISTS = "workspace_exists"
    WORKSPACE_GONE = "workspace_gone"
    NOT_IN_WORKSPACE = "not_in_workspace"
    REQUIRED = "required"
    CHECK_FAILED = "check_failed"
    INVALID_REFERENCE = "invalid_reference"
    NOT_UNIQUE = "not_unique"
    UNIQUE_CHANGED = "unique_changed"
    TOO_FEW = "too_few"
    TOO_MANY = "too_many"
    TOO_MANY_CHANGES = "too_many_changes"
    UNKNOWN_RECORD = "unknown_record"
    INACTIVE_RECORD = "inactive_record"
    INVALID_ID = "invalid_id"
    UNDECLARED_CODE = "undeclared_code"
    SCAN_TOO_WIDE = "scan_too_wide"
    OUTCOME_TOO_LARGE = "outcome_too_large"
    EXTENSION_TRAPPED = "extension_trapped"
    TIME_EXCEEDED = "time_exceeded"
    MEMORY_EXCEEDED = "memory_exceeded"
    ABI_MISUSED = "abi_misused"

    ID_CONFLICT = "id_conflict"
    ID_EXPIRED = "id_expired"
    ID_TOO_NEW = "id_too_new"
    DEDUP_FULL = "dedup_full"


REFUSALS = frozenset({Code.ID_CONFLICT, Code.ID_EXPIRED, Code.ID_TOO_NEW, Code.DEDUP_FULL})

# code -> (title, why it happens, what to do)
CATALOG: dict[str, tuple[str, str, str]] = {
    "E1001": (
        "A setting is wrong",
        "A flag, an environment variable or the settings file holds a value that can't be used.",
        "The message names the setting and what it accepts; `partita config show` prints all.",
    ),
    "E1002": (
        "An address is in use",
        "Another process listens on the port that HTTP was told to use.",
        "Stop that process, or choose another port with `--http 127.0.0.1:PORT`.",
    ),
    "E1003": (
        "An address others can reach needs a token",
        "HTTP listens on loopback only, unless requests must carry a bearer token.",
        "Set `http.token` in the settings, or pass `--insecure` if the network is trusted.",
    ),
    "E1004": (
        "A tool is missing",
        "This command needs a program or a package that is not installed.",
        "The message names it and the command that installs it.",
    ),
    "E1101": (
        "The manifest can't be read",
        "application.toml is missing or is not TOML.",
        "The message names the file and the line.",
    ),
    "E1102": (
        "The manifest is wrong",
        "A key is unknown, missing, or has a value that can't be used.",
        "The message names the key; `partita app check FOLDER` lists all such errors at once.",
    ),
    "E1103": (
        "A schema is wrong",
        "An .avsc file is missing, is not Avro, or uses a type that the engine doesn't support.",
        (
            "Use: boolean int long float double string bytes fixed enum, date, timestamps, "
            'decimal, arrays of records or scalars, and ["null", T].'
        ),
    ),
    "E1104": (
        "An extension can't be loaded",
        (
            "The .wasm or Python file is missing, asks for a name that the application doesn't "
            "have, or imports something that ABI v1 doesn't offer."
        ),
        "The message names the import or the name. Build it with `partita extension build FOLDER`.",
    ),
    "E1105": (
        "The change of the application is refused",
        (
            "The new application could not read what the old one has written, or its version is "
            "not higher than the one in force."
        ),
        "`partita app diff OLD NEW` lists every change and why it is refused.",
    ),
    "E1106": (
        "A projector failed on an event of the log",
        (
            "It ended badly on an event that the owner has projected: the extension or the engine "
            "doesn't do the same here as there. Going on would make the replicas differ."
        ),
        "The message names event and projector. Run the owner's engine version, and report it.",
    ),
    "E1201": (
        "The data folder is locked",
        "Another process has it open. One process owns a data folder at a time.",
        "Stop the other process, or choose another folder with `--data`.",
    ),
    "E1202": (
        "The store is damaged",
        "RocksDB found a file that is missing, cut off or has a wrong checksum.",
        "Move the partition's folder away and start again: it is rebuilt from the event log.",
    ),
    "E1203": (
        "The store is ahead of the log",
        "The log lost data, or the wrong log is configured. Going on would fork the history.",
        "Restore the log, or move the partition's folder away to rebuild it from this log.",
    ),
    "E1204": (
        "The store belongs to another log",
        (
            "The record before the store's position is not the one it has applied, or the topic "
            "was deleted and made again."
        ),
        "Check the broker address and the topic prefix; else move the partition's folder away.",
    ),
    "E1205": (
        "The replica diverged",
        "At a mark in the log this store's digest differs from the owner's.",
        "Keep the folder for analysis and report it; the partition is rebuilt from the log.",
    ),
    "E1206": (
        "The store has another format",
        "It was written by a newer engine.",
        "Run that engine version, or move the folder away to rebuild it from the log.",
    ),
    "E1207": (
        "The data folder can't be written",
        (
            "The disk is full, the file system is read-only, permissions are missing, or the "
            "process may open no more files."
        ),
        (
            "Make room or mend what the message names: what was acknowledged is safe, and a node "
            "that runs goes on by itself."
        ),
    ),
    "E1208": (
        "A snapshot can't be used",
        (
            "An object that its manifest names is missing, cut off or has another checksum, or "
            "the manifest itself can't be read, or it is of another log."
        ),
        "Nothing at once: an older snapshot is taken. `partita snapshot verify` checks them all.",
    ),
    "E1301": (
        "A topic is not as it must be",
        "It has another number of partitions, or settings that could lose or compact records.",
        "The message names the topic, the setting, and what it must be. Partitions never change.",
    ),
    "E1302": (
        "The log was trimmed below the position",
        "Records that this store has not applied are gone.",
        "Restore a newer snapshot of the partition.",
    ),
    "E1303": (
        "The log is damaged",
        "A segment has a record with a wrong checksum before its end.",
        "Restore the segment from a backup; the message names the file and the offset.",
    ),
    "E1304": (
        "The log needs a newer engine",
        "It has a record of an unknown kind or a newer format, which may not be skipped.",
        "Update the engine on this node.",
    ),
    "E1305": (
        "Commands expired unhandled",
        "The broker deleted commands before they were decided: retention is shorter than the lag.",
        "The message says how many. `partita serve --accept-lost-commands` goes on behind the gap.",
    ),
    "E1306": (
        "Content is missing",
        "The log names an extension's code that the content store doesn't have.",
        "Restore <app>.content (or the content folder); it is never deleted by the engine.",
    ),
    "E1307": (
        "The log needs another application",
        "An outcome names an application, or a schema of its arguments, that is not known here.",
        "Move the partition's folder away to rebuild it from the log; report it if that fails.",
    ),
    "E1401": (
        "The broker doesn't answer",
        "No connection to any bootstrap server, or the request timed out.",
        "The node waits and goes on by itself. Check the address and the broker's log.",
    ),
    "E1402": (
        "The partition is not served here and now",
        "It is being restored, or it is changing its owner, or its node is gone.",
        "Try again after the time in Retry-After, with the same Idempotency-Key.",
    ),
    "E1403": (
        "Too much is waiting",
        "A queue is at its bound; taking more would only grow memory and delay.",
        "Try again after the time in Retry-After.",
    ),
    "E1404": (
        "The local broker didn't start",
        "Java is missing or too old, a jar has a wrong checksum, or the port is in use.",
        "The message says which; the broker's own log is named there.",
    ),
    "E1405": (
        "A fault inside the engine stopped the partition",
        "An assertion failed: this is a bug in the engine, and going on could harm the state.",
        "Please report it with the message; restarting the node reads the log again.",
    ),
    "E1406": (
        "The node doesn't answer",
        "Nothing listens at that address, or no answer came in time.",
        "Start one with `partita dev FOLDER`, or name its address with `--url`.",
    ),
    "E1407": (
        "The store of snapshots and archives doesn't answer",
        "The bucket or the folder can't be reached, or refuses the credentials.",
        "Nodes go on without it and try again. Check its address, the credentials, the disk.",
    ),
    "E1408": (
        "A node has not handed everything over yet",
        "It drains, and some of its partitions could not be released in the time that was given.",
        (
            "It goes on by itself: `partita node show` says how many are left. Kept for long, the "
            "broker is away, or the store is slow: the node's log says which."
        ),
    ),
    "E1501": (
        "The audit found a difference",
        "A promise doesn't hold between the topics and the stores.",
        "The report lists each difference with partition and offset. Don't delete anything.",
    ),
    "E1502": (
        "A recording can't be read",
        "The file is not a recording, is cut off, or is of a newer format.",
        "Record again with `partita load record`.",
    ),
}
