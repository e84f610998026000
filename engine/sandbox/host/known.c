/* What is known not to be there, so that nobody has to ask the store for it.
 *
 * A host that began with an empty store has seen every row: one that it doesn't hold was evicted,
 * or never was. A filter of fixed size remembers the evicted ones. It may take a row that never was
 * for an evicted one, and then that row is asked for like any other; never the other way round. */
#include "host.h"

enum { FILTER_BITS = 19, FILTER_WORDS = 1 << FILTER_BITS }; /* 4 MiB, taken with the first eviction */

static bool complete; /* it began with an empty store */
static u64 *filter;

static Row nobody = {.value = ABSENT};

void known_begin(void) { complete = true; }

void known_end(void)
{
    complete = false;
    if (filter) drop(filter, FILTER_WORDS * (u32)sizeof(u64));
    filter = NULL;
}

/* The word of a key and its four bits there. */
static u64 filter_place(u32 hash, u32 *word)
{
    u64 mixed = ((u64)hash + 1) * 0x9E3779B97F4A7C15ull;
    *word = (u32)(mixed >> (64 - FILTER_BITS));
    u64 bits = 1ull << (mixed & 63);
    for (u32 shift = 6; shift < 24; shift += 6) bits |= 1ull << (mixed >> shift & 63);
    return bits;
}

void known_evicted(const Row *row)
{
    if (!complete || row->value == ABSENT) return;
    if (!filter) {
        filter = keep(FILTER_WORDS * (u32)sizeof(u64));
        fill(filter, 0, FILTER_WORDS * (u32)sizeof(u64));
    }
    u32 word;
    u64 bits = filter_place(row->hash, &word);
    filter[word] |= bits;
}

/* The row of a key that is not held: an absent one if there never was one, NULL if that is not
 * known. */
Row *known_absent(u32 hash)
{
    if (!complete) return NULL;
    if (!filter) return &nobody;
    u32 word;
    u64 bits = filter_place(hash, &word);
    return (filter[word] & bits) == bits ? NULL : &nobody;
}
