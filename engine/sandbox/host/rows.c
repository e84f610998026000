/* Rows by key. Each holds its newest value; a journal has the older ones of what is unconfirmed.
 *
 *   journal   [ changes of unconfirmed outcomes | guesses )   each: a row and the value it had
 *   waiting   one entry per unconfirmed outcome: the state behind it, and where its changes end
 *
 * Confirming drops old values from the journal's begin; discarding puts them back from its end. A
 * row that the journal names is pinned: it can't be evicted. Others go when there are too many,
 * between batches only, the ones that nobody has used since they were last passed by. */
#include "host.h"

typedef struct { Row *row; Value *before; } Journal;
typedef struct { State state; u64 end; } Waiting;

Value absent_;

static Row **buckets;
static u32 bucket_count, row_count, hand;
static u64 row_bytes, row_bytes_max = ROW_CACHE_BYTES_MAX; /* all that rows take, values too */

static Journal *journal;
static u64 journal_first, journal_end, journal_room; /* positions only grow; slot = position % room */
static Waiting *waiting_outcomes;
static u64 outcomes_first, outcomes_end, outcomes_room;
static bool guessing;
static u64 guess_from;

static Row **folded; /* changed and confirmed, not known to be in the store yet */
static u32 folded_count, folded_room;
static bool changing_confirmed;

u64 key_hash(const u8 *key, u32 length) { return xxh64(key, length); }

static u32 row_size(const Row *row) { return (u32)sizeof(Row) + row->key_length; }
static u32 value_size(const Value *value) { return (u32)sizeof(Value) + value->length; }

static void value_drop(Value *value)
{
    if (!value || value == ABSENT) return;
    row_bytes -= value_size(value);
    drop(value, value_size(value));
}

static Value *value_new(const u8 *data, u32 length, u64 hash, bool hashed)
{
    Value *value = keep((u32)sizeof(Value) + length);
    value->hash = hash;
    value->hashed = hashed;
    value->length = length;
    copy(value->bytes, data, length);
    row_bytes += value_size(value);
    return value;
}

Row *row_find(const u8 *key, u32 length, u64 hash)
{
    if (UNLIKELY(!bucket_count)) return known_absent(hash);
    for (Row *row = buckets[hash & (bucket_count - 1)]; row; row = row->next) {
        if (row->hash == hash && row->key_length == length && equal(row->key, key, length)) {
            row->used = 1;
            return row->value ? row : known_absent(hash);
        }
    }
    return known_absent(hash);
}

static void widen(void)
{
    u32 wider = bucket_count ? bucket_count * 2 : 1024;
    Row **made = keep(wider * sizeof(Row *));
    fill(made, 0, wider * sizeof(Row *));
    for (u32 i = 0; i < bucket_count; i++) {
        for (Row *row = buckets[i], *next; row; row = next) {
            next = row->next;
            Row **place = &made[row->hash & (wider - 1)];
            row->next = *place;
            *place = row;
        }
    }
    if (bucket_count) drop(buckets, bucket_count * sizeof(Row *));
    buckets = made;
    bucket_count = wider;
}

static Row *row_get(const u8 *key, u32 length, u64 hash)
{
    if (UNLIKELY(row_count >= bucket_count)) widen();
    Row **place = &buckets[hash & (bucket_count - 1)];
    for (Row *row = *place; row; row = row->next) {
        if (row->hash == hash && row->key_length == length && equal(row->key, key, length)) {
            return row;
        }
    }
    Row *row = keep((u32)sizeof(Row) + length);
    *row = (Row){.next = *place, .hash = hash, .key_length = (u16)length,
        .used = key[0] < TABLE_VIEWS_FIRST >> 8};
    copy(row->key, key, length);
    *place = row;
    row_count++;
    row_bytes += row_size(row);
    return row;
}

static void row_remove(Row *row)
{
    Row **place = &buckets[row->hash & (bucket_count - 1)];
    while (*place != row) place = &(*place)->next;
    *place = row->next;
    value_drop(row->value);
    row_count--;
    row_bytes -= row_size(row);
    drop(row, row_size(row));
}

u64 value_hash(Row *row)
{
    Value *value = row->value;
    if (!value || value == ABSENT) return 0;
    if (!value->hashed) {
        value->hash = row_hash(row->key, row->key_length, value->bytes, value->length);
        value->hashed = 1;
    }
    return value->hash;
}

Row *row_provide(const u8 *key, u32 length, const u8 *value, u32 value_length, bool there)
{
    Row *row = row_get(key, length, key_hash(key, length));
    if (!row->value && !row->pins) {
        row->value = there ? value_new(value, value_length, 0, false) : ABSENT;
    }
    row->used = 1;
    return row;
}

/* ---- changes ---- */

/* Make room for one more in a ring of a power of two; `size` is that of an entry. */
static void *ring(void *old, u64 first, u64 end, u64 *room, u32 size)
{
    if (LIKELY(end - first < *room)) return old;
    u64 wider = *room ? *room * 2 : 256;
    u8 *made = keep((u32)(wider * size));
    for (u64 at = first; at < end; at++) {
        copy(made + (at & (wider - 1)) * size, (u8 *)old + (at & (*room - 1)) * size, size);
    }
    if (*room) drop(old, (u32)(*room * size));
    *room = wider;
    return made;
}

void change_begin(bool confirmed)
{
    changing_confirmed = confirmed && !guessing;
    CHECK(!changing_confirmed || outcomes_first == outcomes_end);
}

/* Whether a row's value is of this length, and nobody needs it but who has it last. */
static bool is_folded(const Row *row, u32 length)
{
    return row->folded && row->value != ABSENT && row->value->length == length;
}

static void row_change(Row *row, Value *value)
{
    if (changing_confirmed) {
        value_drop(row->value);
        if (!row->folded) {
            row->folded = 1;
            folded = list_add(folded, &folded_count, &folded_room, row);
        }
    } else {
        journal = ring(journal, journal_first, journal_end, &journal_room, sizeof(Journal));
        journal[journal_end++ & (journal_room - 1)] = (Journal){row, row->value};
        row->pins++;
    }
    row->value = value;
}

void change_put(const u8 *key, u32 key_length, u64 hash, const u8 *value, u32 length, bool there,
    u64 hashed)
{
    Row *row = row_get(key, key_length, hash);
    if (changing_confirmed && there && is_folded(row, length)) {
        copy(row->value->bytes, value, length); /* once more before the store has it */
        row->value->hash = hashed;
        row->value->hashed = hashed != 0;
    } else {
        row_change(row, there ? value_new(value, length, hashed, hashed != 0) : ABSENT);
    }
    if (!guessing) changed_add(row);
}

void change_end(const State *state)
{
    if (changing_confirmed || guessing) return;
    waiting_outcomes =
        ring(waiting_outcomes, outcomes_first, outcomes_end, &outcomes_room, sizeof(Waiting));
    waiting_outcomes[outcomes_end++ & (outcomes_room - 1)] = (Waiting){*state, journal_end};
}

static void unpin(Row *row)
{
    if (--row->pins == 0 && !row->value) row_remove(row);
}

static void take_back(u64 to)
{
    while (journal_end > to) {
        Journal *entry = &journal[--journal_end & (journal_room - 1)];
        value_drop(entry->row->value);
        entry->row->value = entry->before;
        unpin(entry->row);
    }
}

void guess_begin(void)
{
    guessing = true;
    guess_from = journal_end;
}

void guess_end(void)
{
    if (!guessing) return;
    take_back(guess_from);
    guessing = false;
}

/* ---- between batches ---- */

/* Let a view's row go that nobody has read since it was put first: most are lines of some history, and
 * would only push what is worked on out of the processor's cache. The store has it. */
static void drop_unread(Row *row)
{
    if (row->pins || row->folded || row->used) return;
    known_evicted(row);
    row_remove(row);
}

static void forget_folded(void)
{
    for (u32 i = 0; i < folded_count; i++) {
        folded[i]->folded = 0;
        drop_unread(folded[i]);
    }
    folded_count = 0;
}

static void evict(void)
{
    /* Two rounds at most: the first takes marks away, the second finds them gone. */
    for (u32 steps = 2 * bucket_count; steps; steps--) {
        if (row_count <= ROW_CACHE_MAX && row_bytes <= row_bytes_max) return;
        hand = (hand + 1) & (bucket_count - 1);
        for (Row *row = buckets[hand], *next; row; row = next) {
            next = row->next;
            if (row->pins || row->folded) continue;
            if (row->used) {
                row->used = 0;
                continue;
            }
            known_evicted(row);
            row_remove(row);
        }
    }
}

bool rows_confirm(i64 sequence, State *behind)
{
    bool found = false;
    changed_begin();
    forget_folded();
    ranges_forget();
    while (outcomes_first < outcomes_end) {
        Waiting *outcome = &waiting_outcomes[outcomes_first & (outcomes_room - 1)];
        if (outcome->state.sequence > sequence) break;
        for (; journal_first < outcome->end; journal_first++) {
            Journal *entry = &journal[journal_first & (journal_room - 1)];
            value_drop(entry->before);
            entry->row->pins--;
            drop_unread(entry->row);
        }
        *behind = outcome->state;
        found = true;
        outcomes_first++;
    }
    evict();
    return found;
}

void rows_discard(void)
{
    guess_end();
    changed_begin();
    take_back(journal_first);
    outcomes_first = outcomes_end = 0;
    journal_first = journal_end = 0;
    forget_folded();
    ranges_forget();
    if (bucket_count) evict();
}

void rows_clear(void)
{
    known_end();
    rows_discard();
    for (u32 i = 0; i < bucket_count; i++) {
        while (buckets[i]) row_remove(buckets[i]);
    }
}

/* ---- what Python asks ---- */

Row *rows_next_changed(u64 *at, const u8 *prefix, u32 length)
{
    u64 unconfirmed = journal_end - journal_first;
    while (*at < unconfirmed + folded_count) {
        u64 i = (*at)++;
        Row *row = i < unconfirmed ? journal[(journal_first + i) & (journal_room - 1)].row
                                   : folded[i - unconfirmed];
        if (row->key_length >= length && equal(row->key, prefix, length)) return row;
    }
    return NULL;
}

void rows_bound(u64 bytes) { row_bytes_max = bytes; }
u32 rows_held(void) { return row_count; }
u64 rows_bytes(void) { return row_bytes; }
u32 rows_unconfirmed(void) { return (u32)(outcomes_end - outcomes_first); }
