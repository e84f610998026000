/* The state host: what answers an extension's calls, and decides and folds one partition's batches.
 *
 * It runs as WASM beside the extensions, in one wasmtime store per partition, so that a call from
 * an extension is a call between two WASM modules. It is also compiled natively, for its tests.
 *
 * TWO LANES. Python's host (engine/sandbox/python.py) is the oracle: it says what every command
 * means, slowly. This one is the fast lane for what is frequent. Whatever it meets that is rare (a
 * rule that is broken, bytes that can't be read, a misuse of the ABI, a trap) it does not decide:
 * it leaves the command as if it had never looked at it, and returns LEFT. The slow lane, which is
 * the oracle's own code working on the rows and ids held HERE, decides that one command, and the
 * fast lane goes on behind it. So there is one state, and nothing has two meanings.
 *
 * WORDS
 *   shape    the fields of an Avro record, or the columns of a key, as plans.py compiles them
 *   group    the values of a shape: one 8-byte slot per field, and a bit per null
 *   row      a stored row as this host knows it, with its key; value NULL = not known here
 *   work     a row as the command at hand has made it, not yet anybody else's business
 *   cell     what a handle stands for
 *   image    the tables of one application, made by plans.py; offsets in it count from its begin
 *   guess    what commands behind a missing row change, while they run only to find more misses
 *   poisoned the command at hand won't count: calls return 0 until the guest ends
 *
 * MEMORY. Addresses are 32 bits wide in slots (`Text`), also natively: they count from `heap`.
 *   pages    `keep` and `drop`: rows, values, ids; lives as long as it is needed
 *   arena    the command at hand: bumped, reset before each command, never freed
 *   in, out  one batch's input and output, written and read by Python in one go
 * While a guest runs only the arena, the cells and a row's `used` mark are written. So a guest's
 * trap, wherever it happens, even inside a call of this host, needs nothing but a reset.
 */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;
typedef double f64;

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(name)))
#else
#define EXPORT(name)
#endif
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COLD __attribute__((noinline, cold))

/* An invariant of this host's own. Python finds the line in `mailbox.broken`. */
#define CHECK(x) ((x) ? (void)0 : broken(__LINE__))
_Noreturn void broken(int line);

enum { OP_CREATE, OP_UPDATE, OP_ACTIVATE, OP_DEACTIVATE }; /* of changes, as in outcome.avsc */

/* ---- limits: the names and numbers of engine/limits.py; a test compares them ---- */
enum {
    WORKSPACE_BYTES_MAX = 256, COMMAND_BYTES_MAX = 256 * 1024, OUTCOME_BYTES_MAX = 900000,
    NAME_LENGTH_MAX = 255, VIEW_ROWS_MAX = 1000, SCAN_ROWS_MAX = 1000, HANDLES_MAX = 4096,
    FIELD_BYTES_MAX = 65535, ROW_BYTES_MAX = 262144, MESSAGE_LENGTH_MAX = 1000,
    CODE_LENGTH_MAX = 64, LOGS_MAX = 16, MISSING_ROWS_MAX = 10000, ROW_CACHE_MAX = 1000000,
    ROW_CACHE_BYTES_MAX = 256 * 1024 * 1024, WORKSPACE_PAGE = 32, ID_FIRST = 65536,
    DEDUP_WINDOW_MS = 24 * 3600000, DEDUP_WINDOW_MIN_MS = 120000, DEDUP_IDS_MAX = 8388608,
    ID_AHEAD_MS_MAX = 60000, PLAN_FIELDS_MAX = 64,
};
enum {
    TABLE_WORKSPACE = 5, TABLE_WORKSPACE_LOG = 6, TABLE_UNIQUE = 7, INACTIVE = 1,
    VALUE_HEADER_BYTES = 7, AVRO_HEADER_BYTES = 10, ID_BYTES = 16,
};

/* ---- bytes ---- */
typedef struct { u32 at, length; } Text; /* bytes somewhere in the heap */

#ifdef __wasm__ /* address 0 of `Text` is that of the memory itself */
static inline u8 *bytes_at(u32 at) { return (u8 *)(uintptr_t)at; }
static inline u32 address_of(const void *p) { return (u32)(uintptr_t)p; }
#else
extern u8 *const heap;
static inline u8 *bytes_at(u32 at) { return heap + at; }
static inline u32 address_of(const void *p) { return (u32)((const u8 *)p - heap); }
#endif

/* memory.c */
void copy(void *to, const void *from, u32 length);
void fill(void *to, int byte, u32 length);
bool equal(const void *a, const void *b, u32 length);
void *keep(u32 size);             /* from the pages; never NULL */
void drop(void *p, u32 size);     /* back to them; the size it was kept with */
void *bump(u32 size);             /* from the arena, 8-byte aligned; poisons where it is full */
void arena_reset(void);
extern u64 pages_used;            /* bytes that are kept */

/* hash.c */
u64 xxh64(const u8 *data, u32 length);
u64 row_hash(const u8 *key, u32 key_length, const u8 *value, u32 length);
u32 murmur2(const u8 *key, u32 length); /* Kafka's, as wire.partition_of takes it modulo */
bool is_utf8(const u8 *data, u32 length);
u32 code_points(const u8 *data, u32 length); /* of valid UTF-8 */

/* ---- avro.c: a reader that remembers damage, a writer that remembers fullness ---- */
typedef struct { const u8 *at, *end; bool bad; } Reader;
typedef struct { u8 *at, *end; bool full; } Writer;

i64 read_longer(Reader *r);
static inline i64 read_long(Reader *r) /* nearly all numbers of a record are one byte */
{
    if (UNLIKELY(r->at >= r->end || *r->at >= 0x80)) return read_longer(r);
    u8 byte = *r->at++;
    return (i64)(byte >> 1) ^ -(i64)(byte & 1);
}
u8 read_boolean(Reader *r);
Text read_sized(Reader *r);       /* in place */
Text read_string(Reader *r);      /* the same, and it must be UTF-8 */
void write_long(Writer *w, i64 number);
void write_byte(Writer *w, u8 byte);
void write_raw(Writer *w, const void *data, u32 length);
void write_sized(Writer *w, const void *data, u32 length);
static inline void write_text(Writer *w, Text t) { write_sized(w, bytes_at(t.at), t.length); }

#include "image.h"

/* ---- groups ---- */
typedef struct { u32 shape; u32 reserved; u64 *nulls; i64 *slots; } Group;
typedef struct { u32 count, room; u64 *entries; } Array; /* slots, or addresses of Groups */

static inline Text slot_text(i64 slot) { Text t = {(u32)slot, (u32)((u64)slot >> 32)}; return t; }
static inline i64 text_slot(u32 at, u32 length) { return (i64)((u64)length << 32 | at); }
static inline bool group_null(const Group *g, u32 f) { return g->nulls[f >> 6] >> (f & 63) & 1; }

/* group.c */
void group_begin(Group *g, u32 shape);             /* in the arena, of defaults */
bool group_read(Group *g, u32 shape, Reader *r, bool trusted); /* false: not of its shape */
void group_write(const Group *g, Writer *w);
void group_set_null(Group *g, u32 f, bool null);

/* ---- rows.c: every row that is known, newest first; what is unconfirmed can be taken back ---- */
typedef struct { u64 hash; u32 length; u32 hashed; u8 bytes[]; } Value;
extern Value absent_; /* known not to be there */
#define ABSENT (&absent_)

typedef struct Row {
    struct Row *next;
    Value *value;     /* the newest; NULL = not known (only while something unconfirmed was) */
    u64 hash;
    u32 pins;         /* journal entries that name it */
    u32 batch;        /* in which it was listed as changed */
    u16 key_length; u8 used, folded;
    u8 key[];
} Row;

typedef struct {
    i64 sequence, previous, registered_at, newest_command_time, dedup_floor, emitted_sequence;
} State; /* model.HostState without the application */

u64 key_hash(const u8 *key, u32 length);
Row *row_find(const u8 *key, u32 length, u64 hash); /* NULL = nothing known; writes `used` only */
u64 value_hash(Row *row);                           /* of its present value, 0 where absent */
Row *row_provide(const u8 *key, u32 length, const u8 *value, u32 value_length, bool there);
/* One outcome's changes: begin, put each, end. `confirmed`: nothing can take them back (fold). */
void change_begin(bool confirmed);
void change_put(const u8 *key, u32 key_length, u64 hash, const u8 *value, u32 length, bool there,
    u64 hashed /* 0 = not counted yet */);
void change_end(const State *state);
void guess_begin(void);
void guess_end(void);
bool rows_confirm(i64 sequence, State *behind);     /* false: no such outcome was waiting */
void rows_discard(void);
void rows_clear(void);
void rows_bound(u64 bytes);       /* of what may be evicted, between batches */
u32 rows_held(void);
u64 rows_bytes(void);
u32 rows_unconfirmed(void);
/* The next row below a prefix that has changed since the last confirmation, from place *at on (0:
 * all); NULL = no more. Some come twice. */
Row *rows_next_changed(u64 *at, const u8 *prefix, u32 length);

/* ---- changed.c: the rows that a batch has changed ---- */
void changed_begin(void);                    /* a new batch: none so far */
void changed_add(Row *row);
u32 changed_write(Writer *w, u32 from);      /* in key order; how many from there on had room */
int compare_keys(const u8 *a, u32 a_length, const u8 *b, u32 b_length);

/* ---- known.c: which rows are known not to be there ---- */
void known_begin(void);             /* the store is empty, and only this host writes to it */
void known_end(void);
void known_evicted(const Row *row);
Row *known_absent(u64 hash);        /* NULL = it may be there */

/* ---- dedup.c: FORMATS 4; a port of host_dedup.py, which says why ---- */
extern i64 dedup_floor;
void dedup_start(i64 sequence, i64 floor);
bool dedup_load_begin(i64 first, u32 count, i64 newest_time); /* false: nothing to load of it */
void dedup_load(const u8 *id, i64 time);
void dedup_index(void); /* at the end of what has loaded or added many */
i64 dedup_find(const u8 *id);
i64 dedup_floor_at(i64 command_time);
bool dedup_is_full(i64 command_time);
void dedup_add(i64 sequence, const u8 *id, i64 command_time);
void dedup_raise(i64 floor);
void dedup_forget(i64 before, i64 floor);
void dedup_drop_after(i64 sequence, i64 floor);
i64 dedup_count(void);

/* ---- the command at hand ---- */
typedef struct Work {
    struct Work *next, *next_changed; /* of a bucket; in order of the first change */
    const RecordType *record;         /* or NULL */
    const ViewType *view;             /* or NULL: a result */
    const u8 *key;
    u32 key_length, handle;
    u64 key_hash;
    Row *row;                         /* where its stored value lies, or NULL */
    Value *before;                    /* NULL = none */
    Group group;
    i64 id, root, parent;
    u64 *touched;
    bool present, created, changed, active, was_active;
} Work;

enum CellKind { C_NONE, C_GROUP, C_KEY, C_UNIQUE, C_CURSOR };
typedef struct {
    u32 shape;      /* NONE where nothing can be read */
    u8 kind, writable;
    u16 bit;        /* 1 + the field of the row's array that this is an item of; 0 = the row */
    i64 *slots;     /* the group's */
    u64 *nulls;
    Work *work;     /* or NULL */
    const void *of; /* C_KEY: the ViewType, C_UNIQUE: the Unique, C_CURSOR: the Cursor */
    u32 columns;    /* a shape: the key's columns of a row found by a scan, or NONE */
    i64 *column_slots;
} Cell;
typedef struct { /* ids of nested records, or rows of a view */
    i64 *ids; i64 root; const RecordType *type;
    Work **works; const ViewType *view; bool reverse;
    u32 count, next;
} Cursor;

enum Reason { /* why a command is left to the slow lane; for people, in statistics */
    R_NONE, R_ENVELOPE, R_WORKSPACE, R_COMMAND, R_ANSWER, R_ADMISSION, R_ARGUMENTS, R_CALL, R_RULE,
    R_REJECTED, R_ROW, R_SIZE, R_PROJECTOR, R_SLOW, R_TRAP, R_KIND, REASONS,
};

typedef void (*Entry)(void);
typedef void (*PutBack)(u32 image);
typedef void (*Copy)(u32 to, u32 from, u32 length);
typedef struct { /* one loaded guest: slots of the host's function table */
    u32 to_guest, from_guest, put_back, entries; /* entries: where its own begin */
    u32 image, memory_bytes;                     /* the memory it begins with */
} Guest;
enum { GUESTS_MAX = 64 };
extern Guest guests[GUESTS_MAX];

typedef struct { u32 table, digest; const u8 *key; u64 key_hash; u32 key_length; const u8 *value;
    u32 length; bool there; u64 before, after; } Effect;

typedef struct { /* what a call works on; calls.c reads it first */
    u32 base, count;        /* handles: base + number of the cell */
    const Ref *refs; u32 ref_count;
    const GuestPlan *guest; Guest *loaded;
    bool poisoned, missed, projecting, bounded;
    enum Reason reason;
    /* the command */
    const CommandType *command;
    const Projector *projector;
    Text workspace;
    const WorkspaceKind *kind; /* of the workspace; NULL = it may hold anything */
    Group args, context;
    bool args_ready;
    Work *result, *changed, **changed_end, *views_changed, **views_changed_end;
    u32 changes, view_changes;
    i64 next_id;
    bool rejected;
    Text code, message, field; bool has_field;
} Call;
extern Call call;
extern Cell cells[HANDLES_MAX];
enum { H_NONE, H_ARGS, H_CONTEXT, H_EVENT, H_RESULT, HANDLES_FIRST };

void poison(enum Reason reason);
void miss(const u8 *key, u32 length, bool prefix); /* noted; the command goes on, as a guess */
/* call.c */
void call_begin(i64 generation, bool projecting);
u32 hold(Cell cell);
void run_entry(u32 guest, u32 entry);
void work_changing(Work *work);
bool set_slot(const Ref *ref, i64 *slot, i64 value); /* false: the field can't hold it */
bool set_text(const Ref *ref, i64 *slot, u32 from, u32 length); /* bytes in the heap */
Work *work_find(const u8 *key, u32 length, u64 hash);
Work *work_new(const u8 *key, u32 length, u64 hash);
u8 *key_begin(u32 table, u32 extra, u32 *length); /* in the arena: table, workspace, NUL */
void put_plain(u8 *to, i64 number);               /* 8 bytes, big-endian: in values */
i64 get_plain(const u8 *from);
void put_long(u8 *to, i64 number);                /* rows.encode_long: in keys */
i64 get_long(const u8 *from);

void call_reset(void); /* a new command: nothing is known of the last one */
void work_touched(Work *work, u32 shape);
void arena_writer(Writer *w); /* writes behind what is taken; `arena_take` keeps what was written */
Text arena_take(const Writer *w, const u8 *from);

/* ---- an outcome being made or read ---- */
typedef struct {
    u32 table; i64 root, parent, id; u32 op; Text set; i64 before; Text body;
    const RecordType *type;
    Work *work;  /* in decide */
    Text value;  /* in decide: the row, of which the body is the end */
} Change;
typedef struct {
    i64 epoch, sequence, previous;
    Text workspace; i64 workspace_sequence; const u8 *command_id; i64 input_offset;
    i64 command_time, registered_at; Text name; i64 application, args_schema; Text args;
    Text code, message, field; bool has_field;
    Change *changes; u32 change_count;
    Text result; bool has_result;
    Text subject, kind; bool has_principal;
    Text traceparent; bool has_traceparent;
} Outcome;

void outcome_write(const Outcome *o, Writer *w);
bool outcome_read(Outcome *o, const u8 *value, u32 length); /* false: leave it to the slow lane */

/* ---- effects.c: what an outcome does to the rows; decide and fold share it (host_apply.py) ---- */
typedef struct { /* a workspace's row (rows.Workspace) */
    bool known, begun;
    Row *row;
    i64 last, accepted, next_id;
    u32 status, recent_count;
    Text kind;
    const u8 *recent;
} Space;
extern Space space;
void space_load(Text workspace); /* unknown: it is missed, and taken to be none */
void effects_begin(void);
void effect_put(u32 table, u32 digest, const u8 *key, u32 key_length, u64 key_hash,
    const u8 *value, u32 length, bool there, u64 before);
void effects_of(Outcome *o, const CommandType *command);
void effects_publish(const State *state, bool confirmed, bool counts);

/* project.c: runs the projectors of an outcome's events; what they changed become effects */
void context_begin(const Outcome *o, Text name);
void project(Outcome *o, const CommandType *command);
/* rules.c: false = a rule is broken, or a row that it needs is missing */
bool rules_hold(void);
/* unique.c */
void unique_begin(void); /* a new command: nothing is taken by it */
bool unique_holds(const Work *work, const Unique *unique, const Group *before);
void unique_effects(const Change *change);
/* ranges.c: all rows below a prefix, stored ones as of the last confirmation */
void range_begin(const u8 *prefix, u32 length); /* the rows that are added next are all of it */
void range_add(Row *row);                       /* in key order; of no range if none has begun */
void range_end(void);
void ranges_forget(void);
bool range_rows(const u8 *prefix, u32 length, Row ***found, u32 *count); /* false: not known */
/* calls_nested.c: the ids of a record's active children; false = missed, or left */
bool children_of(const Work *above, const RecordType *type, i64 **ids, u32 *count);
/* decide.c, fold.c: one command or record; where it lies in `in` */
typedef struct {
    union {
        i64 offset; /* of a command */
        i64 hash;   /* of a record's value, if chain.c has counted it; or 0 */
    };
    i64 time;
    const u8 *key, *value;
    u32 key_length, value_length, at;
} Item;
enum Status { FINISHED, LEFT, FULL };
enum Status decide_one(const Item *item);
enum Status fold_one(const Item *item);
const CommandType *command_of(Text name);
bool publish_miss(void); /* from the first miss on all is guessed */

/* ---- the door: what Python reads and writes; wasm_host_door.py mirrors it ---- */
enum { OUTCOMES_MAX = 4096 }; /* of one run */
typedef struct {
    /* in */
    u32 in, in_room, desk, desk_room, out, out_room; /* desk: input of all but batches */
    u32 at, count, guessing, size; /* the next of the batch, and how many there are; `size`, and */
    i64 epoch, now_ms, first, second; /* `first`, `second`: of what is on the desk */
    State state, before; /* `before`: where the first miss was */
    /* out */
    u32 out_used, outcomes, done, rejected, replies, missing, missing_used, reason;
    u32 running, serial, budget_ms, guest, broken, pages;
    u32 ends, indexes, ids, times, reply_indexes, missing_at, digests, digests_touched, left;
    u64 counters[REASONS];
} Mailbox;
extern Mailbox mailbox;

#endif
