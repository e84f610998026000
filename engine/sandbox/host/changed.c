/* Which rows a batch has changed: each once, and given back in the order of their keys.
 *
 * That order is for the store. It keeps rows in a list that is sorted by key, and finds a place next
 * to the last one in a third of the time that any other place takes. */
#include "host.h"

static Row **listed;
static u32 listed_count, listed_room, batch = 1;

/* A row at its place among the sorted ones, with the key's first bytes, which nearly always say
 * which of two comes first: so sorting seldom looks at the rows themselves, which lie all over. */
typedef struct { u64 high, low; Row *row; } Place;
static Place *places; /* twice as many as rows: a merge needs somewhere to write */
static u32 places_room;

int compare_keys(const u8 *a, u32 a_length, const u8 *b, u32 b_length)
{
    int by = __builtin_memcmp(a, b, a_length < b_length ? a_length : b_length);
    return by ? by : (int)a_length - (int)b_length;
}

static Row **list_add(Row **list, u32 *count, u32 *room, Row *row)
{
    if (*count == *room) {
        u32 wider = *room ? *room * 2 : 256;
        Row **made = keep(wider * sizeof(Row *));
        if (*room) {
            copy(made, list, *count * sizeof(Row *));
            drop(list, *room * sizeof(Row *));
        }
        list = made;
        *room = wider;
    }
    list[(*count)++] = row;
    return list;
}

void changed_begin(void)
{
    listed_count = 0;
    batch++;
}

void changed_add(Row *row)
{
    if (row->batch == batch) return;
    row->batch = batch;
    listed = list_add(listed, &listed_count, &listed_room, row);
}

/* ---- sorting: a merge sort, as no choice of keys can make it slow ---- */

static u64 leading(const Row *row, u32 from)
{
    u8 bytes[8] = {0};
    u32 left = row->key_length > from ? row->key_length - from : 0;
    copy(bytes, row->key + from, left < 8 ? left : 8);
    return (u64)get_plain(bytes);
}

static bool comes_later(const Place *a, const Place *b)
{
    if (a->high != b->high) return a->high > b->high;
    if (a->low != b->low) return a->low > b->low;
    return compare_keys(a->row->key, a->row->key_length, b->row->key, b->row->key_length) > 0;
}

/* Merge [from, middle) and [middle, end), both sorted, into `to`. */
static void merge(const Place *from, const Place *middle, const Place *end, Place *to)
{
    const Place *left = from, *right = middle;
    while (left < middle && right < end) *to++ = comes_later(left, right) ? *right++ : *left++;
    while (left < middle) *to++ = *left++;
    while (right < end) *to++ = *right++;
}

static void sort_listed(void)
{
    u32 n = listed_count;
    if (places_room < 2 * n) {
        if (places_room) drop(places, places_room * (u32)sizeof(Place));
        places_room = 2 * listed_room;
        places = keep(places_room * (u32)sizeof(Place));
    }
    Place *from = places, *to = places + n;
    for (u32 i = 0; i < n; i++) {
        from[i] = (Place){leading(listed[i], 0), leading(listed[i], 8), listed[i]};
    }
    for (u32 width = 1; width < n; width *= 2) {
        for (u32 at = 0; at < n; at += 2 * width) {
            u32 middle = at + width < n ? at + width : n;
            u32 end = middle + width < n ? middle + width : n;
            merge(from + at, from + middle, from + end, to + at);
        }
        Place *sorted = to;
        to = from, from = sorted;
    }
    for (u32 i = 0; i < n; i++) listed[i] = from[i].row;
}

/* Where key and value of each changed row end, then the bytes; NONE where a row is gone. */
u32 changed_write(Writer *w, u32 from)
{
    u32 to = from;
    u64 size = 0;
    if (from == 0) sort_listed();
    for (; to < listed_count; to++) {
        const Value *value = listed[to]->value;
        u64 more = 8u + listed[to]->key_length + (value == ABSENT ? 0 : value->length);
        if (size + more > (u64)(w->end - w->at)) break;
        size += more;
    }
    u32 at = (to - from) * 8;
    for (u32 i = from; i < to; i++) {
        const Value *value = listed[i]->value;
        u32 ends[2] = {at += listed[i]->key_length, NONE};
        if (value != ABSENT) ends[1] = at += value->length;
        write_raw(w, ends, 8);
    }
    for (u32 i = from; i < to; i++) {
        const Value *value = listed[i]->value;
        write_raw(w, listed[i]->key, listed[i]->key_length);
        if (value != ABSENT) write_raw(w, value->bytes, value->length);
    }
    return to - from;
}

