/* What is known not to be there, so that nobody has to ask the store for it.
 *
 * A host that began with an empty store has seen every row: one that it doesn't hold was evicted,
 * or never was. A filter of fixed size remembers the evicted ones. It may take a row that never was
 * for an evicted one, and then that row is asked for like any other; never the other way round.
 * One that is asked for costs a batch a second pass, so there must be hardly any among the thousands
 * of records of a fold: a key sets one bit in each of eight words, which are one line of the
 * processor's cache. With a million keys in it, the filter is wrong for four in a million. */
#include "host.h"

enum { BLOCK_WORDS = 8, FILTER_BLOCK_BITS = 16, FILTER_BLOCKS = 1 << FILTER_BLOCK_BITS };
enum { FILTER_BYTES = FILTER_BLOCKS * BLOCK_WORDS * 8 }; /* 4 MiB, with the first eviction */

static bool complete; /* it began with an empty store */
static u64 *filter;

static Row nobody = {.value = ABSENT};

void known_begin(void) { complete = true; }

void known_end(void)
{
    complete = false;
    if (filter) drop(filter, FILTER_BYTES);
    filter = NULL;
}

static u64 *block_at(u64 hash) { return filter + (hash >> (64 - FILTER_BLOCK_BITS)) * BLOCK_WORDS; }
static u64 bit_in(u64 hash, u32 word) { return 1ull << (hash >> (6 * word) & 63); }

void known_evicted(const Row *row)
{
    if (!complete || row->value == ABSENT) return;
    if (!filter) {
        filter = keep(FILTER_BYTES);
        fill(filter, 0, FILTER_BYTES);
    }
    u64 *block = block_at(row->hash);
    for (u32 word = 0; word < BLOCK_WORDS; word++) block[word] |= bit_in(row->hash, word);
}

/* The row of a key that is not held: an absent one if there never was one, NULL if that is not
 * known. */
Row *known_absent(u64 hash)
{
    if (!complete) return NULL;
    if (!filter) return &nobody;
    const u64 *block = block_at(hash);
    for (u32 word = 0; word < BLOCK_WORDS; word++) {
        if (!(block[word] & bit_in(hash, word))) return &nobody;
    }
    return NULL;
}
