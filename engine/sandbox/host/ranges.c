/* Ranges: all rows below a prefix of their keys, in key order.
 *
 * A range lists the stored rows as of the last confirmation; the rows themselves are in rows.c, and
 * always as new as they are known. What the store doesn't have yet is found among what has changed
 * since. A confirmation forgets all ranges: the store goes on, and rows may be evicted. */
#include "host.h"

typedef struct Range {
    struct Range *next;
    Row **rows;
    u32 count, room, length;
    u8 prefix[];
} Range;

static Range *ranges, *open_range;

void range_begin(const u8 *prefix, u32 length)
{
    Range *range = keep((u32)sizeof(Range) + length);
    *range = (Range){.next = ranges, .length = length};
    copy(range->prefix, prefix, length);
    ranges = open_range = range;
}

void range_end(void) { open_range = NULL; }

void range_add(Row *row)
{
    Range *range = open_range;
    if (range) range->rows = list_add(range->rows, &range->count, &range->room, row);
}

void ranges_forget(void)
{
    for (Range *range = ranges, *next; range; range = next) {
        next = range->next;
        if (range->room) drop(range->rows, range->room * (u32)sizeof(Row *));
        drop(range, (u32)sizeof(Range) + range->length);
    }
    ranges = open_range = NULL;
}

static int order(const Row *a, const Row *b)
{
    return compare_keys(a->key, a->key_length, b->key, b->key_length);
}

/* Sort by halves: what has changed below one prefix is little. */
static void sort(Row **rows, Row **spare, u32 count)
{
    if (count < 2) return;
    u32 half = count / 2;
    sort(rows, spare, half);
    sort(rows + half, spare, count - half);
    copy(spare, rows, half * (u32)sizeof(Row *));
    for (u32 left = 0, right = half, to = 0; left < half;) {
        bool first = right == count || order(spare[left], rows[right]) <= 0;
        rows[to++] = first ? spare[left++] : rows[right++];
    }
}

/* Count the rows below a prefix that have changed, and list them where there is room given. */
static u32 changed_below(const u8 *prefix, u32 length, Row **found)
{
    u32 count = 0;
    u64 at = 0;
    for (Row *row; (row = rows_next_changed(&at, prefix, length)); count++) {
        if (found) found[count] = row;
    }
    return count;
}

/* Lay two lists in key order over each other, each row once; those that are gone are left out. */
static u32 merged(Row **into, Row *const *a, u32 a_count, Row *const *b, u32 b_count)
{
    u32 count = 0;
    const Row *last = NULL;
    while (a_count || b_count) {
        bool first = !b_count || (a_count && order(*a, *b) <= 0);
        Row *row = first ? *a++ : *b++;
        if (first) a_count--;
        else b_count--;
        if (row != last && row->value && row->value != ABSENT) into[count++] = row;
        last = row;
    }
    return count;
}

bool range_rows(const u8 *prefix, u32 length, Row ***found, u32 *count)
{
    const Range *range = ranges;
    while (range && !(range->length == length && equal(range->prefix, prefix, length))) {
        range = range->next;
    }
    if (!range) return false;
    u32 changes = changed_below(prefix, length, NULL);
    Row **changed = bump(changes * 2 * (u32)sizeof(Row *));
    *found = bump((range->count + changes) * (u32)sizeof(Row *));
    *count = 0;
    if (call.poisoned) return true;
    changed_below(prefix, length, changed);
    sort(changed, changed + changes, changes);
    *count = merged(*found, range->rows, range->count, changed, changes);
    return true;
}
