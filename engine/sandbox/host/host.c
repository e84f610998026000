/* The whole host as one translation unit, and the functions that Python calls. Each works on the
 * mailbox and on the buffers `in` and `out`, so that a batch is one crossing. */
#include "host.h"

Mailbox mailbox;
const u8 *image;

_Noreturn void broken(int line)
{
    mailbox.broken = (u32)line;
    __builtin_trap();
}

/* Columns of a run's outcomes. */
static u32 out_ends[OUTCOMES_MAX], out_indexes[OUTCOMES_MAX];
static u32 out_replies[OUTCOMES_MAX];
static i64 out_times[OUTCOMES_MAX];
static u8 out_ids[OUTCOMES_MAX][ID_BYTES];

enum { MISSING_BYTES = 4 << 20 };
static u8 *missing;

static Cell row_cell(Work *work, bool writable);
static Cell *cell_of(u32 h);
Cell group_cell(const Group *g, Work *work);
void value_header(u8 *value, u32 table, bool inactive);
bool is_one_of(u32 number, Span list);
bool work_load(Work *work, Row *row, const RecordType *record, const ViewType *view);
u8 *record_key(const RecordType *type, i64 root, i64 id, u32 *length);
void space_kind(const CommandType *command);
static bool same(Text text, Span known);
void chain_begin(u32 first_value);
void to_guest(u32 to, const void *from, u32 length);
void from_guest(void *to, u32 from, u32 length);
void guest_reset(const Guest *guest);

#include "memory.c"
#include "hash.c"
#include "avro.c"
#include "group.c"
#include "known.c"
#include "changed.c"
#include "rows.c"
#include "ranges.c"
#include "dedup.c"
#include "call.c"
#include "calls_fields.c"
#include "calls_arrays.c"
#include "calls_records.c"
#include "calls_views.c"
#include "unique.c"
#include "calls_nested.c"
#include "outcome.c"
#include "project.c"
#include "effects.c"
#include "rules.c"
#include "decide.c"
#include "fold.c"

/* Note a row that is not known, or all rows below a prefix. */
COLD void miss(const u8 *key, u32 length, bool prefix)
{
    call.missed = true;
    Mailbox *m = &mailbox;
    u32 head = length | (prefix ? 1u << 31 : 0);
    if (m->missing_used + 4 + length > MISSING_BYTES) return; /* found in a later pass */
    copy(missing + m->missing_used, &head, 4);
    copy(missing + m->missing_used + 4, key, length);
    m->missing_used += 4 + length;
    m->missing++;
}

/* ---- the batch ---- */

enum { OUT_SPARE = 1 << 20 };

/* The columns of a batch in `in`: offsets, times, lengths of keys and of values, then the bytes of
 * all keys, then of all values. A length of NONE: there is none.
 *
 * What was read from a file is folded where it lies, between heads and keys. Then `framed` is set,
 * and in place of the lengths is where each value starts and ends behind the columns. */
typedef struct {
    i64 *offsets; /* in a fold, which looks at none: hashes of values, 0 = not counted yet */
    const i64 *times;
    union { const u32 *key_lengths, *starts; };
    union { const u32 *value_lengths, *ends; };
    u32 key_at, value_at; /* of the next */
    u32 base;             /* behind the columns */
    bool framed;
} Columns;
static Columns columns;

EXPORT("batch") void batch_begin(void)
{
    Mailbox *m = &mailbox;
    u32 n = m->count;
    columns.offsets = (i64 *)bytes_at(m->in);
    columns.times = columns.offsets + n;
    columns.key_lengths = (const u32 *)(columns.times + n);
    columns.value_lengths = columns.key_lengths + n;
    columns.base = columns.key_at = columns.value_at = address_of(columns.value_lengths + n);
    columns.framed = m->size;
    for (u32 i = 0; i < n && !columns.framed; i++) {
        u32 length = columns.key_lengths[i];
        columns.value_at += length == NONE ? 0 : length;
    }
    chain_begin(columns.value_at);
    m->at = m->guessing = m->done = 0;
    m->missing = m->missing_used = 0;
    changed_begin();
    fill(digest_of, 0, sizeof(u64) * plan()->tables);
    fill(digest_touched, 0, plan()->tables);
}

/* The value of record `at`; where values lie one behind the other, this one lies at `place`. */
static Text value_of(u32 at, u32 place)
{
    if (!columns.framed) return (Text){place, columns.value_lengths[at]};
    return (Text){columns.base + columns.starts[at], columns.ends[at] - columns.starts[at]};
}

static Item item_at(u32 at)
{
    Item item = {{columns.offsets[at]}, columns.times[at], NULL, NULL, 0, 0, at};
    u32 key = columns.framed ? (u32)NONE : columns.key_lengths[at];
    Text value = value_of(at, columns.value_at);
    if (key != NONE) item.key = bytes_at(columns.key_at), item.key_length = key;
    if (value.length != NONE) item.value = bytes_at(value.at), item.value_length = value.length;
    return item;
}

static void step(const Item *item)
{
    columns.key_at += item->key_length;
    columns.value_at += item->value_length;
    mailbox.at++;
}

#include "chain.c"

/* Skip the one that the slow lane has dealt with. */
EXPORT("skip") void skip(void)
{
    Item item = item_at(mailbox.at);
    step(&item);
}

static u32 run(enum Status (*one)(const Item *))
{
    Mailbox *m = &mailbox;
    m->out_used = m->outcomes = m->rejected = m->replies = 0;
    while (m->at < m->count && m->missing < MISSING_ROWS_MAX) {
        if (m->outcomes == OUTCOMES_MAX || m->out_room - m->out_used < OUT_SPARE) return FULL;
        Item item = item_at(m->at);
        if (one(&item) == LEFT) return LEFT;
        step(&item);
    }
    return FINISHED;
}

EXPORT("decide") u32 decide(void) { return run(decide_one); }
EXPORT("fold") u32 fold(void)
{
    u32 status = run(fold_one);
    dedup_index();
    return status;
}

/* A guest has trapped: forget the command at hand, and let the guest be as new. */
EXPORT("recover") void recover(void)
{
    if (!mailbox.running) return;
    mailbox.running = 0;
    mailbox.counters[R_TRAP]++;
    guest_reset(&guests[mailbox.guest]);
}

/* Write rows that the batch has changed, by key, from number `size` on; return how many had room. */
EXPORT("changed") u32 changed(void)
{
    Mailbox *m = &mailbox;
    Writer w = {bytes_at(m->out), bytes_at(m->out + m->out_room), false};
    u32 count = changed_write(&w, m->size);
    m->out_used = (u32)(w.at - bytes_at(m->out));
    m->left = listed_count - m->size - count;
    return count;
}

/* ---- what the slow lane and the port ask for, through `in` and `out` ---- */

static u32 in_u32(u32 *at)
{
    u32 number;
    copy(&number, bytes_at(*at), 4);
    *at += 4;
    return number;
}

/* A row: the length of its value and the value in `out`; NONE where there is none, NONE - 1 where
 * it is not known. The key is on the desk. */
EXPORT("get") void get(void)
{
    Mailbox *m = &mailbox;
    const u8 *key = bytes_at(m->desk);
    Row *row = row_find(key, m->size, key_hash(key, m->size));
    u32 length = !row ? NONE - 1 : row->value == ABSENT ? NONE : row->value->length;
    copy(bytes_at(m->out), &length, 4);
    m->out_used = 4;
    if (!row || row->value == ABSENT) return;
    copy(bytes_at(m->out) + 4, row->value->bytes, length);
    m->out_used += length;
}

/* `size` rows: the lengths of key and value, key, value. */
EXPORT("provide") void provide(void)
{
    Mailbox *m = &mailbox;
    u32 at = m->desk;
    for (u32 i = 0; i < m->size; i++) {
        u32 key_length = in_u32(&at), length = in_u32(&at);
        const u8 *key = bytes_at(at), *value = key + key_length;
        at += key_length + (length == NONE ? 0 : length);
        range_add(row_provide(key, key_length, value, length, length != NONE));
    }
}

/* What is provided from here on, in key order, are all stored rows below the prefix in `in`. */
EXPORT("range_begin") void range_opened(void) { range_begin(bytes_at(mailbox.desk), mailbox.size); }
EXPORT("range_end") void range_closed(void) { range_end(); }

/* The rows of an outcome that the slow lane has made; `state` is that behind it. */
static void change(bool confirmed)
{
    Mailbox *m = &mailbox;
    u32 at = m->desk;
    change_begin(confirmed);
    for (u32 i = 0; i < m->size; i++) {
        u32 key_length = in_u32(&at), length = in_u32(&at);
        const u8 *key = bytes_at(at), *value = key + key_length;
        at += key_length + (length == NONE ? 0 : length);
        change_put(key, key_length, key_hash(key, key_length), value, length, length != NONE, 0);
    }
    change_end(&m->state);
}

EXPORT("change") void change_rows(void) { change(false); }
EXPORT("change_confirmed") void change_rows_confirmed(void) { change(true); }
EXPORT("guess") void guess(void) { guess_begin(); }
EXPORT("settle") void settle(void) { guess_end(); }
EXPORT("confirm") u32 confirm(void) { return rows_confirm(mailbox.first, &mailbox.before); }
EXPORT("discard") void discard(void) { rows_discard(); }
EXPORT("clear") void clear_rows(void) { rows_clear(); }
EXPORT("bound") void bound(void) { rows_bound((u64)mailbox.first); }
EXPORT("held_bytes") u64 held_bytes(void) { return rows_bytes(); }
EXPORT("held") u32 held(void) { return rows_held(); }
EXPORT("unconfirmed") u32 unconfirmed(void) { return rows_unconfirmed(); }

/* Whether what is not held was evicted, or never was: 1 = the store is empty, 0 = others write. */
EXPORT("known") void known(void)
{
    if (mailbox.size) known_begin();
    else known_end();
}

EXPORT("list") void list_changed(void)
{
    Mailbox *m = &mailbox;
    Writer w = {bytes_at(m->out), bytes_at(m->out + m->out_room), false};
    u64 at = 0;
    for (const Row *row; (row = rows_next_changed(&at, bytes_at(m->desk), m->size));) {
        u32 length = row->key_length;
        write_raw(&w, &length, 4);
        write_raw(&w, row->key, length);
    }
    CHECK(!w.full);
    m->out_used = (u32)(w.at - bytes_at(m->out));
}

/* The dedup window, by name: numbers come in `first` and `second`, an id on the desk. */
EXPORT("dedup_seed") void ids_seed(void) { dedup_seed = (u64)mailbox.first; }
EXPORT("dedup_start") void ids_start(void) { dedup_start(mailbox.first, mailbox.second); }
EXPORT("dedup_find") i64 ids_find(void) { return dedup_find(bytes_at(mailbox.desk)); }
EXPORT("dedup_floor_at") i64 ids_floor_at(void) { return dedup_floor_at(mailbox.first); }
EXPORT("dedup_is_full") u32 ids_full(void) { return dedup_is_full(mailbox.first); }
EXPORT("dedup_floor") i64 ids_floor(void) { return dedup_floor; }
EXPORT("dedup_count") i64 ids_count(void) { return dedup_count(); }
EXPORT("dedup_raise") void ids_raise(void) { dedup_raise(mailbox.first); }
EXPORT("dedup_forget") void ids_forget(void) { dedup_forget(mailbox.first, mailbox.second); }
EXPORT("dedup_drop_after") void ids_drop(void) { dedup_drop_after(mailbox.first, mailbox.second); }
EXPORT("dedup_add") void ids_add(void)
{
    dedup_add(mailbox.first, bytes_at(mailbox.desk), mailbox.second);
}
/* A page: `size` ids, the first one's sequence, and the newest command time. */
EXPORT("dedup_load") void ids_load(void)
{
    Mailbox *m = &mailbox;
    if (!dedup_load_begin(m->first, m->size, m->second)) return;
    for (u32 i = 0; i < m->size; i++) dedup_load(bytes_at(m->desk) + i * ID_BYTES, m->second);
    dedup_index();
}

/* ---- the beginning ---- */

enum { IN_BYTES_FIRST = 6 << 20, DESK_BYTES_FIRST = 64 << 10, OUT_BYTES = 16 << 20 };

/* Make room for `size` bytes of a batch, at least what one of the walk has; or of the desk. */
static void widen_room(u32 *place, u32 *room, u32 least)
{
    u32 wanted = mailbox.size > least ? mailbox.size : least;
    if (*room >= wanted) return;
    if (*room) drop(bytes_at(*place), *room);
    *place = address_of(keep(wanted));
    *room = wanted;
}
EXPORT("room") void room(void) { widen_room(&mailbox.in, &mailbox.in_room, IN_BYTES_FIRST); }
EXPORT("desk") void desk(void) { widen_room(&mailbox.desk, &mailbox.desk_room, DESK_BYTES_FIRST); }

EXPORT("start") u32 start(void)
{
    Mailbox *m = &mailbox;
    if (!m->out) {
        m->size = 0;
        room();
        desk();
        m->out = address_of(keep(OUT_BYTES));
        m->out_room = OUT_BYTES;
        missing = keep(MISSING_BYTES);
        m->missing_at = address_of(missing);
        m->ends = address_of(out_ends), m->indexes = address_of(out_indexes);
        m->ids = address_of(out_ids), m->times = address_of(out_times);
        m->reply_indexes = address_of(out_replies);
        m->digests = address_of(digest_of), m->digests_touched = address_of(digest_touched);
    }
    call_reset();
    poison(R_NONE); /* what a guest's start function asks for is nothing */
    return address_of(m);
}

/* Take over the image of `size` bytes. */
EXPORT("load") u32 load_image(void)
{
    static u32 size;
    if (image) drop((void *)image, size);
    size = mailbox.size;
    u8 *made = keep(size);
    copy(made, bytes_at(mailbox.desk), size);
    image = made;
    const Image *p = plan();
    return p->magic == IMAGE_MAGIC && p->size == size && p->tables <= DIGESTS_MAX;
}

/* Take a guest's memory as it is when new: number `size`, slots on the desk (as Guest has them). */
EXPORT("guest") void guest_load(void)
{
    Mailbox *m = &mailbox;
    CHECK(m->size < GUESTS_MAX);
    Guest *guest = &guests[m->size];
    if (guest->image) drop(bytes_at(guest->image), guest->memory_bytes);
    copy(guest, bytes_at(m->desk), sizeof *guest);
    guest->image = address_of(keep(guest->memory_bytes));
    call.loaded = guest;
    from_guest(bytes_at(guest->image), 0, guest->memory_bytes);
}
