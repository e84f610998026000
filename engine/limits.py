"""Every bound of the engine, in one place. Over the bound means a clear refusal, never growth."""

# Sizes on the wire.
WORKSPACE_BYTES_MAX = 256
COMMAND_BYTES_MAX = 256 * 1024
OUTCOME_BYTES_MAX = 900_000
RECORD_BYTES_MAX = 1_048_576
CONTENT_PART_BYTES_MAX = 900_000
NAME_LENGTH_MAX = 255

# One command.
CHANGES_MAX = 100
VIEW_ROWS_MAX = 1_000
SCAN_ROWS_MAX = 1_000  # rows of one range that a command goes through
HANDLES_MAX = 4_096
FIELD_BYTES_MAX = 65_535
ROW_BYTES_MAX = 262_144
MESSAGE_LENGTH_MAX = 1_000
CODE_LENGTH_MAX = 64
LOGS_MAX = 16

# One batch.
BATCH_COMMANDS_MAX = 4_000
BATCH_COMMANDS_FIRST = 1_000  # until it is known how long they take
BATCH_COMMANDS_MIN = 16
BATCH_DECIDE_MS_MAX = 40  # other partitions of a node wait for it
BATCH_BYTES_MAX = 4 * 1024 * 1024
FLIGHTS_MAX = 4
MISS_PASSES_MAX = 4
MISSING_ROWS_MAX = 10_000
FOLD_RECORDS_MAX = 1_000
FOLD_CHAINED_MAX = 12_000  # where the host says itself what counts, so that each takes less long
BUILD_RECORDS_MIN = 100  # of views' new generations, between two batches of the walk
BUILD_PAUSE_RECORDS = 1_000  # so few are left that the walk waits for the build
BUILD_PAUSE_MS_MAX = 2_000  # but not longer than this at a time
MARK_OUTCOMES = 1_000
MARK_INTERVAL_MS = 10_000

# An extension.
EPOCH_TICK_MS = 10
COMMAND_TIME_MS_DEFAULT = 50
COMMAND_TIME_MS_MAX = 1_000
FOLD_TIME_MS_MAX = 10_000
GUEST_MEMORY_KIB_DEFAULT = 1_024
GUEST_MEMORY_KIB_MAX = 65_536
GUEST_STACK_BYTES = 512 * 1024
MODULE_BYTES_MAX = 16 * 1024 * 1024
DESCRIPTION_BYTES_MAX = 65_536
DESCRIPTION_NAMES_MAX = 4_096
PLAN_FIELDS_MAX = 64
MODULES_COMPILED_MAX = 64
TABLE_ELEMENTS_MAX = 65_536

# An application.
PARTITIONS_MAX = 1_024
MANIFEST_BYTES_MAX = 256 * 1024
SCHEMA_BYTES_MAX = 256 * 1024
TYPES_MAX = 1_000  # of records, commands, views, projectors, extensions: each
FIELDS_MAX = 1_000
SCHEMA_DEPTH_MAX = 8
KEY_COLUMNS_MAX = 16
OCCURS_MAX = 1_000  # nested records of one type below one parent
NESTING_MAX = 8
PATTERN_LENGTH_MAX = 1_000
PATTERN_STATES_MAX = 1_024
PATTERN_POSITIONS_MAX = 2_048  # characters of a pattern once its repetitions are written out
CHOICES_MAX = 1_000
UNIQUES_MAX = 1_000_000  # numbers of uniques, those of removed ones too

# Ids.
TEMPORARY_ID_MAX = 65_535
ID_FIRST = 65_536
SINGLETON_ID = 0

# One outcome per command (FORMATS 4).
DEDUP_WINDOW_MS = 24 * 3_600_000
DEDUP_WINDOW_MIN_MS = 120_000
DEDUP_IDS_MAX = 8_388_608
ID_AHEAD_MS_MAX = 60_000
PAGES_EXPIRED_MAX = 200  # at each mark

# Ownership (ARCHITECTURE 4).
CLOCK_AHEAD_MS_MAX = 5_000
CLAIM_WAY_MS_MAX = 2 * CLOCK_AHEAD_MS_MAX  # a claim under way for longer shows no clock
APPEND_DEADLINE_MS = 30_000
RECLAIM_WAIT_MS = 1_000
RECOVER_IDLE_MS = 5_000
REVOKE_WAIT_MS = 3_000
HEARTBEAT_MS = 250
SUSPECT_MS = 500  # then a standby beats more often, to know sooner whether it hears at all
SUSPECT_BEAT_MS = 50
SHELL_STUCK_MS = 20_000  # then a node no longer says that it is there
HEARING_MS = 600  # so lately must an own heartbeat that came back have been sent
OWNER_SILENCE_MS = 800  # then the first standby claims
STANDBY_STEP_MS = 500  # and each further one so much later
SUCCESSOR_WAIT_MS = 500  # others leave this to the successor that Released names
HEIR_WAIT_MS = 2_000  # so long who leaves goes on for a standby that is about to be ready
PEER_SILENCE_MS = 2_000
RECONNECT_MS = 1_000  # so much later than this node may others reach a broker that was away
PEER_GONE_MS = 10_000  # then another node stands by in its place
GROUP_WAIT_MS = 10_000  # so long is the group left to choose an owner where none was heard
MOVE_INTERVAL_MS = 60_000  # between two hand-overs that a node asks for
BALANCE_INTERVAL_MS = 5_000  # the same, from a node that owns more
MOVE_LAG_MAX = 1_000  # outcomes behind its owner, at which a standby may ask
STANDBYS_MAX = 8
NODES_MAX = 1_000

# Checkpoints, snapshots, restores.
RESTORE_AHEAD_MIN = 50_000  # a snapshot so far ahead of a sound local store is quicker
BROKEN_STORES_MAX = 2  # damaged stores of a partition that are kept for analysis
HEALS_MAX = 3  # times that a partition restores itself, until it has run for a while
HEALED_MS = 3_600_000
ROOM_RETRY_MS = 5_000  # so often a disk that was full, or read-only, is tried again
ROOM_BYTES = 16 * 1024 * 1024  # what a store must be able to write before it goes on
SNAPSHOT_RETRY_MS = 15_000
ARCHIVE_PIECE_BYTES = 8 * 1024 * 1024  # of records in one object of the archive
ARCHIVE_PIECES_HELD = 3  # in memory, of each partition that is read there
SNAPSHOT_ORPHANS_MS = 24 * 3_600_000  # what another writer has left without naming it

# Caches.
ROW_CACHE_MAX = 1_000_000  # of each partition, if its share of bytes is enough
ROW_CACHE_BYTES_MAX = 256 * 1024 * 1024  # where no setting says otherwise
LOOKUPS_WAITING_MAX = 1_000

# Commands on their way into the log, per process.
PUBLISHING_MAX = 20_000
WORKSPACE_PAGE = 32

# HTTP.
REQUESTS_WAITING_MAX = 2_000
REQUEST_WAIT_MS = 30_000
SEQUENCE_WAIT_MS = 5_000
FORWARD_CONNECTIONS_MAX = 100
FORWARD_BUFFER_BYTES_MAX = 1024 * 1024
HTTP_BODY_BYTES_MAX = COMMAND_BYTES_MAX
QUERY_LIMIT_DEFAULT = 100
QUERY_LIMIT_MAX = 1_000
PAGE_PART_BYTES = 64 * 1024  # of a page's answer, made at a time
PAGE_BRIEF_ROWS_MAX = 100  # such a page of a view needs no thread of its own
QUERY_SCAN_MAX = 10_000  # rows looked at for one request
QUERY_SCAN_BYTES_MAX = 32 * 1024 * 1024
QUERY_CONDITIONS_MAX = 32
QUERY_OPERANDS_MAX = 1_000
QUERY_KEYS_MAX = 1_000
ORDER_COLUMNS_MAX = 8
ORDER_TEXT_MAX = 256  # characters of a text that an order looks at: a cursor holds them
SUBSCRIPTIONS_MAX = 1_000
SUBSCRIPTIONS_PER_WORKSPACE_MAX = 100
SUBSCRIPTION_ROWS_MAX = 1_000
SUBSCRIPTION_HEARTBEAT_MS = 15_000
SUBSCRIPTION_SEND_MS = 60_000
SUBSCRIPTION_PAUSE_MS = 50  # between two looks at a partition for all its subscribers
HTTP_HEAD_BYTES_MAX = 64 * 1024

# Audits and load tests.
DIFFERENCES_MAX = 1_000
RECORDING_HEADER_BYTES_MAX = 65_536
REPLAY_CONNECTIONS_MAX = 32
REPLAY_WAITING_MAX = 200_000

# Tables (FORMATS 5): the engine's own below, record types, then view generations.
TABLE_RECORDS_FIRST = 0x0100
TABLE_VIEWS_FIRST = 0x8000
TABLE_MAX = 0xFFFF

FORMAT = 1

assert OUTCOME_BYTES_MAX < RECORD_BYTES_MAX
assert COMMAND_BYTES_MAX < OUTCOME_BYTES_MAX
assert COMMAND_BYTES_MAX < BATCH_BYTES_MAX
assert FIELD_BYTES_MAX < ROW_BYTES_MAX < OUTCOME_BYTES_MAX
assert TEMPORARY_ID_MAX + 1 == ID_FIRST
assert DEDUP_WINDOW_MIN_MS > 2 * ID_AHEAD_MS_MAX - 1
assert MISSING_ROWS_MAX < ROW_CACHE_MAX
assert COMMAND_TIME_MS_MAX < FOLD_TIME_MS_MAX
assert TABLE_RECORDS_FIRST + TYPES_MAX < TABLE_VIEWS_FIRST
assert HEARTBEAT_MS * 4 < PEER_SILENCE_MS < PEER_GONE_MS
assert HEARTBEAT_MS * 2 < HEARING_MS < OWNER_SILENCE_MS < PEER_SILENCE_MS
assert QUERY_LIMIT_DEFAULT <= PAGE_BRIEF_ROWS_MAX < QUERY_LIMIT_MAX
assert TABLE_RECORDS_FIRST < TABLE_VIEWS_FIRST <= TABLE_MAX
