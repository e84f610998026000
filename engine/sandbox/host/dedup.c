/* The dedup window: which command ids have an outcome already (FORMATS 4, PROTOCOL D1-D3).
 *
 *   forgotten | [first ... live) passed by W, if all that is decided counts | [live ... next)
 *
 * Every outcome has one id, so the window is a run of sequences. Ids and times lie in blocks; a
 * table of 4-byte numbers, split into shards so that growing one never takes long, leads from an id
 * to its sequence. engine/sandbox/host_dedup.py is the same in Python, and says why it is right. */
#include "host.h"

enum { BLOCK_BITS = 12, BLOCK = 1 << BLOCK_BITS, SHARDS = 256, SHARD_BITS = 8, SLOTS_FIRST = 8 };
#define NUMBERS 0xFFFFFFFFull /* a table's number is sequence % NUMBERS + 1; 0 = empty */

typedef struct { u8 id[ID_BYTES]; i64 time; } Remembered;
typedef struct { u32 *slots; u32 room, used; } Shard;

_Static_assert(DEDUP_IDS_MAX < NUMBERS / 4, "a number names one sequence of the window");
_Static_assert(DEDUP_WINDOW_MIN_MS > ID_AHEAD_MS_MAX, "an id outlives its own time");

i64 dedup_floor;
u64 dedup_seed; /* of the partition's process, so that nobody can choose ids that collide */

static Remembered **blocks; /* of sequence s: blocks[s / BLOCK % room] */
static u32 block_room;
static i64 first = 1, live = 1, indexed = 1, next = 1; /* indexed: the table has those below */
static Shard shards[SHARDS];

static Remembered **block_of(i64 sequence)
{
    return &blocks[(u64)sequence >> BLOCK_BITS & (block_room - 1)];
}

static Remembered *remembered(i64 sequence) { return *block_of(sequence) + (sequence & (BLOCK - 1)); }
static i64 expires(i64 sequence) { return remembered(sequence)->time + ID_AHEAD_MS_MAX; }

static u64 place_of(const u8 *id)
{
    u64 a, b;
    copy(&a, id, 8), copy(&b, id + 8, 8);
    u64 mixed = (a ^ dedup_seed) * 0x9E3779B185EBCA87ull;
    mixed = ((mixed ^ mixed >> 32) + b) * 0xC2B2AE3D27D4EB4Full;
    mixed = (mixed ^ mixed >> 29) * 0x165667B19E3779F9ull;
    return mixed ^ mixed >> 32;
}

static Shard *shard_of(u64 place) { return &shards[place & (SHARDS - 1)]; }
static u32 home_in(const Shard *shard, u64 place)
{
    return (u32)(place >> SHARD_BITS) & (shard->room - 1);
}

static u32 number_of(i64 sequence) { return (u32)((u64)sequence % NUMBERS) + 1; }
static i64 sequence_of(u32 number)
{
    u64 begin = (u64)first % NUMBERS, at = number - 1;
    return first + (i64)(at >= begin ? at - begin : at + NUMBERS - begin);
}

static void shard_put(Shard *shard, u64 place, u32 number)
{
    u32 mask = shard->room - 1, at = home_in(shard, place);
    while (shard->slots[at]) at = (at + 1) & mask;
    shard->slots[at] = number;
}

static void shard_widen(Shard *shard)
{
    Shard old = *shard;
    shard->room = old.room ? old.room * 2 : SLOTS_FIRST;
    shard->slots = keep(shard->room * (u32)sizeof(u32));
    fill(shard->slots, 0, shard->room * (u32)sizeof(u32));
    for (u32 i = 0; i < old.room; i++) {
        u32 number = old.slots[i];
        if (number) shard_put(shard, place_of(remembered(sequence_of(number))->id), number);
    }
    if (old.room) drop(old.slots, old.room * (u32)sizeof(u32));
}

/* Lead from ids to sequences for all that came since. Looking for a place waits for memory: where
 * many come in a row the processor waits for several at once, so a fold leaves this to the end of a
 * batch. Whoever needs the table calls it first. */
void dedup_index(void)
{
    for (; indexed < next; indexed++) {
        u64 place = place_of(remembered(indexed)->id);
        Shard *shard = shard_of(place);
        if (++shard->used * 3 > shard->room * 2) shard_widen(shard);
        shard_put(shard, place, number_of(indexed));
    }
}

/* Take an entry out of the table and close the gap, as linear probing needs it. */
static void table_remove(i64 sequence)
{
    u64 place = place_of(remembered(sequence)->id);
    Shard *shard = shard_of(place);
    u32 mask = shard->room - 1, hole = home_in(shard, place), number = number_of(sequence);
    while (shard->slots[hole] != number) hole = (hole + 1) & mask;
    for (u32 at = (hole + 1) & mask; shard->slots[at]; at = (at + 1) & mask) {
        u64 other = place_of(remembered(sequence_of(shard->slots[at]))->id);
        if (((at - home_in(shard, other)) & mask) >= ((at - hole) & mask)) {
            shard->slots[hole] = shard->slots[at];
            hole = at;
        }
    }
    shard->slots[hole] = 0;
    shard->used--;
}

static void clear(i64 sequence)
{
    for (u32 i = 0; i < block_room; i++) {
        if (blocks[i]) drop(blocks[i], BLOCK * (u32)sizeof(Remembered));
        blocks[i] = NULL;
    }
    for (u32 i = 0; i < SHARDS; i++) {
        if (shards[i].room) drop(shards[i].slots, shards[i].room * (u32)sizeof(u32));
        shards[i] = (Shard){0};
    }
    first = live = indexed = next = sequence;
}

static void blocks_widen(void)
{
    Remembered **old = blocks;
    u32 old_room = block_room;
    block_room = old_room ? old_room * 2 : 4;
    blocks = keep(block_room * (u32)sizeof *blocks);
    fill(blocks, 0, block_room * (u32)sizeof *blocks);
    if (!old_room) return;
    for (i64 s = first & -BLOCK; s < next; s += BLOCK) {
        *block_of(s) = old[(u64)s >> BLOCK_BITS & (old_room - 1)];
    }
    drop(old, old_room * (u32)sizeof *old);
}

static void append(const u8 *id, i64 time)
{
    u64 needed = ((u64)next >> BLOCK_BITS) - ((u64)first >> BLOCK_BITS) + 1;
    if (needed > block_room) blocks_widen();
    Remembered **block = block_of(next);
    if (!*block) *block = keep(BLOCK * (u32)sizeof(Remembered));
    Remembered *entry = *block + (next & (BLOCK - 1));
    copy(entry->id, id, ID_BYTES);
    entry->time = time;
    next++;
}

static void advance(void)
{
    while (live < next && expires(live) <= dedup_floor) live++;
}

i64 dedup_count(void) { return next - live; }

/* Begin behind the outcome `sequence`, before the pages up to it are loaded. */
void dedup_start(i64 sequence, i64 floor)
{
    dedup_floor = floor;
    clear(sequence + 1);
}

/* Pages come oldest first; what is known or expired is left out. */
bool dedup_load_begin(i64 first_sequence, u32 count, i64 newest_time)
{
    if (!count || newest_time + ID_AHEAD_MS_MAX <= dedup_floor) return false;
    if (next == first) clear(first_sequence);
    else if (first_sequence + count <= next) return false;
    CHECK(first_sequence == next);
    return true;
}

void dedup_load(const u8 *id, i64 time) { append(id, time); }

/* The sequence of a remembered id's outcome, or 0. */
i64 dedup_find(const u8 *id)
{
    dedup_index();
    u64 place = place_of(id);
    const Shard *shard = shard_of(place);
    if (!shard->room) return 0;
    u32 mask = shard->room - 1;
    for (u32 at = home_in(shard, place); shard->slots[at]; at = (at + 1) & mask) {
        i64 sequence = sequence_of(shard->slots[at]);
        if (sequence >= live && equal(remembered(sequence)->id, id, ID_BYTES)) return sequence;
    }
    return 0;
}

/* What W would be behind an outcome of this time. */
i64 dedup_floor_at(i64 command_time)
{
    i64 floor = command_time - DEDUP_WINDOW_MS;
    if (floor < dedup_floor) floor = dedup_floor;
    if (dedup_count() >= DEDUP_IDS_MAX) {
        i64 oldest = expires(live);
        if (oldest <= command_time - DEDUP_WINDOW_MIN_MS && oldest > floor) floor = oldest;
    }
    return floor;
}

bool dedup_is_full(i64 command_time)
{
    return dedup_count() >= DEDUP_IDS_MAX && expires(live) > dedup_floor_at(command_time);
}

/* In fold there may be more than the bound. */
void dedup_add(i64 sequence, const u8 *id, i64 command_time)
{
    dedup_floor = dedup_floor_at(command_time);
    if (next == first && next != sequence) clear(sequence);
    CHECK(sequence == next);
    append(id, command_time);
    advance();
}

/* Take over a higher floor, as a Mark names it. */
void dedup_raise(i64 floor)
{
    if (floor > dedup_floor) dedup_floor = floor;
    advance();
}

/* Forget for good what a confirmed floor has passed, up to sequence `before`. */
void dedup_forget(i64 before, i64 floor)
{
    dedup_index();
    if (before > next) before = next;
    while (first < before && expires(first) <= floor) {
        table_remove(first);
        Remembered **block = block_of(first);
        first++;
        if (!(first & (BLOCK - 1))) {
            drop(*block, BLOCK * (u32)sizeof(Remembered));
            *block = NULL;
        }
    }
    if (live < first) live = first;
}

/* Forget the ids of outcomes behind `sequence`; the floor is what it was there. */
void dedup_drop_after(i64 sequence, i64 floor)
{
    dedup_index();
    while (next - 1 > sequence && next > first) {
        table_remove(--next);
        if (!(next & (BLOCK - 1)) || next == first) {
            Remembered **block = block_of(next);
            drop(*block, BLOCK * (u32)sizeof(Remembered));
            *block = NULL;
        }
    }
    indexed = next;
    dedup_floor = floor;
    live = first;
    advance();
}
