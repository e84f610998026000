"""The one table of metric names: `partita_<area>_<thing>_<unit>`.

A component counts under short keys of its own (`statistics()`); here each key gets the name and
the words it is shown with. A key that is not here is not shown: tests/integration find it.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    """A row of the table."""

    component: str  # the first word of the component: that of "partition 3" is "partition"
    key: str
    name: str
    text: str
    counter: bool


_COUNTER, _GAUGE = True, False

# key, name behind partita_, counter or gauge, what it says
_PARTITION = (
    ("owned", "partition_owned", _GAUGE, "1 while this node owns the partition"),
    ("stopped", "partition_stopped", _GAUGE, "1 while it is stopped on an error"),
    ("sequence", "partition_sequence", _GAUGE, "Newest sequence applied"),
    ("epoch", "partition_epoch", _GAUGE, "Epoch of the newest owner read"),
    ("commands", "partition_commands", _COUNTER, "Commands taken"),
    ("outcomes", "partition_outcomes", _COUNTER, "Outcomes confirmed"),
    ("rejected", "partition_rejected", _COUNTER, "Outcomes that are rejections"),
    ("duplicates", "partition_duplicates", _COUNTER, "Duplicates answered"),
    (
        "duplicates_unanswered",
        "partition_duplicates_unanswered",
        _COUNTER,
        "Duplicates whose first outcome could not be read back: the archive was away",
    ),
    ("claims", "ownership_claims", _COUNTER, "Claims of ownership appended"),
    ("takeovers", "ownership_takeovers", _COUNTER, "Claims that came to count"),
    ("lost", "ownership_lost", _COUNTER, "Ownerships that ended without a release"),
    ("superseded", "log_superseded_records", _GAUGE, "Event records read that don't count"),
    ("alarms", "log_alarms", _GAUGE, "Event records read that mean a lost record"),
    (
        "clock_behind",
        "partition_clock_behind",
        _GAUGE,
        "1 while the broker's time is ahead of ours",
    ),
    ("lag", "commands_lag_records", _GAUGE, "Commands known to wait"),
    (
        "oldest_command_age_ms",
        "commands_oldest_age_ms",
        _GAUGE,
        "Age of the oldest unhandled command; at the retention the broker deletes it",
    ),
    ("retention_ms", "commands_retention_ms", _GAUGE, "How long the log keeps commands"),
    ("taken", "commands_taken_records", _COUNTER, "Command records read"),
    ("read_ahead", "commands_read_ahead_records", _GAUGE, "Command records read, not taken yet"),
    ("skipped_offsets", "commands_skipped_offsets", _COUNTER, "Offsets without a record"),
    ("applied_offset", "restore_applied_offset", _GAUGE, "Event offset applied"),
    ("target_offset", "restore_target_offset", _GAUGE, "Event offset to reach"),
    ("records_per_s", "restore_records_per_second", _GAUGE, "Event records folded a second"),
    ("builds", "view_builds", _GAUGE, "Views of which a new generation is being built"),
    ("builds_failed", "view_builds_failed", _GAUGE, "Of which that failed; the old one answers"),
    ("build_behind", "view_build_behind_records", _GAUGE, "Event records a build has yet to read"),
    ("built_total", "view_build_records", _COUNTER, "Event records that builds have read"),
    ("rows_written_total", "store_written_rows", _COUNTER, "Rows written"),
    ("rows", "store_rows", _GAUGE, "Rows held"),
    ("writes", "store_writes", _COUNTER, "Write batches"),
    ("unflushed", "store_unflushed_writes", _GAUGE, "Write batches a crash would take back"),
    ("estimate_num_keys", "store_keys", _GAUGE, "Keys held, as RocksDB estimates"),
    ("cur_size_all_mem_tables", "store_memtables_bytes", _GAUGE, "Rows not yet in files"),
    ("total_sst_files_size", "store_files_bytes", _GAUGE, "Size of all files of rows"),
    ("num_running_compactions", "store_compactions", _GAUGE, "Compactions running"),
    ("background_errors", "store_background_errors", _GAUGE, "RocksDB's errors in background"),
    ("views", "store_open_views", _GAUGE, "Consistent pictures open"),
    ("host_commands", "host_commands", _COUNTER, "Commands decided by the state host"),
    ("host_outcomes", "host_outcomes", _COUNTER, "Outcomes made by the state host"),
    ("host_rejected", "host_rejected", _COUNTER, "Rejections made by the state host"),
    ("host_duplicates", "host_duplicates", _COUNTER, "Duplicates met by the state host"),
    ("host_refused", "host_refused", _COUNTER, "Commands refused without a record"),
    ("host_folded", "host_folded", _COUNTER, "Outcomes folded"),
    ("host_fast", "host_fast", _COUNTER, "Outcomes of the WASM host's fast lane"),
    ("host_left", "host_left", _COUNTER, "What the fast lane left to the slow one"),
    (
        "host_fallback",
        "host_fallback",
        _GAUGE,
        "1 while the plain host stands in for the one in WASM, whose wasmtime is another",
    ),
    ("host_misses", "host_missed_rows", _COUNTER, "Rows that had to be read from the store"),
    ("host_rows_held", "host_held_rows", _GAUGE, "Rows in the state host's cache"),
    ("host_rows_bytes", "host_held_bytes", _GAUGE, "Memory that those rows take"),
    ("host_outcomes_unconfirmed", "host_unconfirmed_outcomes", _GAUGE, "Decided, not confirmed"),
    ("host_ids_remembered", "host_remembered_ids", _GAUGE, "Command ids in the dedup window"),
)
_GATE = (
    ("waiting", "gate_waiting_requests", _GAUGE, "Requests that wait for an outcome"),
    ("publishing", "gate_publishing_commands", _GAUGE, "Commands not yet in the log"),
    ("admitted", "gate_admitted", _COUNTER, "Requests let in"),
    ("refused", "gate_refused", _COUNTER, "Requests refused: too many waited"),
    ("answered", "gate_answered", _COUNTER, "Requests answered with an outcome"),
    ("abandoned", "gate_abandoned", _COUNTER, "Requests told to try again: the owner changed"),
)
_LOGS = (
    ("groups", "embedded_groups", _COUNTER, "Groups of records written together"),
    ("syncs", "embedded_syncs", _COUNTER, "Files made durable"),
    ("records", "embedded_records", _COUNTER, "Records written"),
    ("failures", "embedded_failures", _COUNTER, "Groups that failed"),
    ("waiting", "embedded_waiting_records", _GAUGE, "Appends that wait for the next group"),
    ("cut_bytes", "embedded_cut_bytes", _GAUGE, "Torn bytes cut off when the log was opened"),
    ("replies", "embedded_replies", _COUNTER, "Replies that only Kafka could have sent"),
    ("replies_sent", "kafka_replies_sent", _COUNTER, "Replies sent to the replies topic"),
    ("replies_dropped", "kafka_replies_dropped", _COUNTER, "Replies dropped: too many waited"),
    ("read_errors", "kafka_read_errors", _COUNTER, "Errors of readers"),
    ("lookups_waiting", "kafka_waiting_lookups", _GAUGE, "Single records asked for"),
    ("lookups_read", "kafka_read_lookups", _COUNTER, "Single records read from the broker"),
    ("lookups_cached", "kafka_cached_lookups", _COUNTER, "Single records found in memory"),
    ("appends_waiting", "kafka_waiting_appends", _GAUGE, "Appends without a report"),
    ("producer_instances", "kafka_producer_instances", _COUNTER, "Log producers made"),
    ("producer_errors", "kafka_producer_errors", _COUNTER, "Errors of log producers"),
    ("aside_waiting", "kafka_aside_waiting", _GAUGE, "Replies and heartbeats on their way"),
    ("aside_delivered", "kafka_aside_delivered", _COUNTER, "Replies and heartbeats delivered"),
    ("aside_failed", "kafka_aside_failed", _COUNTER, "Replies and heartbeats lost"),
    ("aside_errors", "kafka_aside_errors", _COUNTER, "Errors of the producer beside the log"),
)
_MEMORY = (
    ("cache_bytes", "memory_cache_bytes", _GAUGE, "Block cache in use by all partitions"),
    ("cache_pinned_bytes", "memory_cache_pinned_bytes", _GAUGE, "Of it, what can't be evicted"),
    ("write_buffers_bytes", "memory_write_buffers_bytes", _GAUGE, "Write buffers in use"),
)
_SNAPSHOTS = (
    ("taken", "snapshots_taken", _COUNTER, "Checkpoints and snapshots taken"),
    ("failures", "snapshots_failures", _COUNTER, "Checkpoints and snapshots that failed"),
    ("failing", "snapshots_failing", _GAUGE, "Partitions whose last one failed"),
    ("age_ms", "snapshots_age_ms", _GAUGE, "Age of the newest one, the oldest of all partitions"),
    ("restores", "stores_restored", _COUNTER, "Stores made of a checkpoint or a snapshot"),
    ("heals", "stores_healed", _COUNTER, "Partitions opened again because a store was broken"),
)
_HTTP = (
    ("active", "http_active_requests", _GAUGE, "HTTP requests being answered"),
    ("refused", "http_refused", _COUNTER, "HTTP requests refused: too many at once"),
    ("subscriptions", "http_open_subscriptions", _GAUGE, "Streams of changes that are open"),
)
_TRACES = (
    ("spans", "traces_spans", _COUNTER, "Spans begun"),
    ("exported", "traces_exported", _COUNTER, "Spans the collector has taken"),
    ("failed", "traces_failed", _COUNTER, "Spans lost: the collector was away"),
)

METRICS: tuple[Metric, ...] = tuple(
    Metric(component, key, f"partita_{name}", text, counter)
    for component, table in (
        ("partition", _PARTITION),
        ("gate", _GATE),
        ("logs", _LOGS),
        ("memory", _MEMORY),
        ("snapshots", _SNAPSHOTS),
        ("http", _HTTP),
        ("traces", _TRACES),
    )
    for key, name, counter, text in table
)
