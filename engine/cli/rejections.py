"""The pages behind the engine's rejection codes: why a command was not accepted, and what to do."""

from engine.errors import Code

# code -> (why, what to do)
REJECTIONS: dict[Code, tuple[str, str]] = {
    Code.UNDECODABLE: (
        "The bytes on the command topic are no command: garbage, cut off, or of another schema.",
        "Encode commands as schemas/command.avsc says. The outcome's input_offset names the bytes.",
    ),
    Code.UNKNOWN_COMMAND: (
        "The application has no command of this name.",
        "`partita app show FOLDER` lists the commands.",
    ),
    Code.SWITCHED_OFF: (
        "The application has switched this command off, or the extension that decides it.",
        "The message says why. Send it again, with a new id, when it is on again.",
    ),
    Code.UNKNOWN_SCHEMA: (
        "args_schema is the fingerprint of no schema that this command has had.",
        "Send the CRC-64-AVRO fingerprint of the schema that wrote the arguments.",
    ),
    Code.INVALID_ARGUMENTS: (
        "The arguments don't fit the command's schema; `field` names the first that doesn't.",
        "Compare them with the schema: `partita openapi` has it as JSON Schema.",
    ),
    Code.WRONG_PARTITION: (
        "The command lies in another partition than its workspace belongs to.",
        "Use Kafka's murmur2 partitioner; in librdkafka: partitioner=murmur2_random.",
    ),
    Code.NO_WORKSPACE: (
        "The record has no key, or the key is no workspace.",
        "Set the record's key: 1 to 256 bytes of UTF-8 without a NUL.",
    ),
    Code.TOO_LARGE: (
        "The command is larger than 256 KiB, or one of its values than 65,535 bytes.",
        "Send less, or send the parts as several commands.",
    ),
    Code.EXPIRED: (
        "The command was decided after its `not_after`.",
        "Send it again if it is still wanted. Watch the lag if this happens often.",
    ),
    Code.SEQUENCE_MISMATCH: (
        "Another command of the workspace was accepted since `expected_sequence` was read.",
        "Read the workspace again, decide again, and send with the new sequence and a new id.",
    ),
    Code.SOURCE_FORBIDDEN: (
        "The command claims to come from a node; only nodes may, on a topic of their own.",
        "Leave `source` out.",
    ),
    Code.UNKNOWN_WORKSPACE: (
        "The workspace has not been made, and this command makes none.",
        "Send a command that creates one first: in application.toml it has `creates`.",
    ),
    Code.WORKSPACE_EXISTS: (
        "The command makes a workspace, and there is one of this name already.",
        "Choose another name, or use the one that is there.",
    ),
    Code.WORKSPACE_GONE: (
        "A command has deactivated the workspace. It takes no more commands.",
        "Use another workspace; the event log still has what it was.",
    ),
    Code.NOT_IN_WORKSPACE: (
        "A workspace of this kind has no such command, or no records of such a type.",
        "`workspaces` in application.toml says what each kind has.",
    ),
    Code.REQUIRED: (
        "A field that is required was not set at create, or would have become empty.",
        "`field` names it: set it.",
    ),
    Code.CHECK_FAILED: (
        "The command would have set a field to what the manifest's checks don't allow.",
        "`field` names it; the checks are in application.toml.",
    ),
    Code.INVALID_REFERENCE: (
        "A field would hold an id that is no active record of the types it may refer to.",
        "`field` names it, the message the id. Make or activate the record first.",
    ),
    Code.NOT_UNIQUE: (
        "Another active record of the workspace has the same values in fields that are unique.",
        "The message names the values and the record. Choose others, or deactivate that record.",
    ),
    Code.UNIQUE_CHANGED: (
        "A field that is unique would have changed while its record is active.",
        "Deactivate the record, and activate it again with the new value.",
    ),
    Code.TOO_FEW: (
        "A record would have fewer nested records than the manifest's `occurs` asks for.",
        "Make them by the same command, or deactivate the record they lie in.",
    ),
    Code.TOO_MANY: (
        "A record would have more nested records than the manifest's `occurs` allows.",
        "Deactivate some of them first.",
    ),
    Code.TOO_MANY_CHANGES: (
        "The command would have changed more records than its `changes_max`.",
        "Change them by several commands.",
    ),
    Code.UNKNOWN_RECORD: (
        "A generic command names a record, or a parent, that is not there.",
        "`field` says which change. A nested record is named with its parent.",
    ),
    Code.INACTIVE_RECORD: (
        "A record that is inactive, or lies in one that is, would have been changed.",
        "Activate it first, or by the same command.",
    ),
    Code.INVALID_ID: (
        "An id of a generic command is used where it can't be.",
        "New records have 0 or a temporary id of 1 to 65,535, once in a request; others their own.",
    ),
    Code.UNDECLARED_CODE: (
        "The extension rejected the command with a code that the command doesn't declare.",
        "It is a bug in the extension: add the code to the command's `errors`, or use one of them.",
    ),
    Code.SCAN_TOO_WIDE: (
        "The command, or a projector, would have gone through more than 1,000 rows of one range.",
        "Use a key that narrows the range, or keep what is counted in a row of its own.",
    ),
    Code.OUTCOME_TOO_LARGE: (
        "All that the command changed doesn't fit into one record of the event log.",
        "Change less in one command.",
    ),
    Code.EXTENSION_TRAPPED: (
        "The extension crashed: a trap in WebAssembly, or an exception in Python.",
        "It is a bug in the extension: try the command in its test kit.",
    ),
    Code.TIME_EXCEEDED: (
        "The extension ran longer than its time_ms.",
        "Make it faster, or raise `time_ms` of the extension in application.toml.",
    ),
    Code.MEMORY_EXCEEDED: (
        "The extension asked for more memory than its memory_kib.",
        "Use less, or raise `memory_kib` of the extension in application.toml.",
    ),
    Code.ABI_MISUSED: (
        "The extension used a handle or a field in a way that the ABI forbids.",
        "The message names it. It is a bug in the extension.",
    ),
    Code.ID_CONFLICT: (
        "The same command id was used before for another command, other arguments or elsewhere.",
        "Choose a new id for each new command; only a retry uses the same one.",
    ),
    Code.ID_EXPIRED: (
        "The id is older than the ids that are remembered. It may have been decided long ago.",
        "Look for its outcome in the event log before you send it anew with a new id.",
    ),
    Code.ID_TOO_NEW: (
        "The time inside the id is more than 60 s ahead of the log's.",
        "Set the client's clock, and send the same id again later.",
    ),
    Code.DEDUP_FULL: (
        "More ids than can be remembered came within two minutes.",
        "Send the same id again later, and send more slowly.",
    ),
}
