/* Hashes that stored rows and the log rest on, and what UTF-8 is.
 *
 * xxh64 by the specification of xxHash (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), seed 0:
 * four lanes over stripes of 32 bytes, then the rest in words of 8, 4 and 1 bytes, then a mix. */
#include "host.h"

#define PRIME_1 0x9E3779B185EBCA87ull
#define PRIME_2 0xC2B2AE3D27D4EB4Full
#define PRIME_3 0x165667B19E3779F9ull
#define PRIME_4 0x85EBCA77C2B2AE63ull
#define PRIME_5 0x27D4EB2F165667C5ull

enum { STRIPE = 32 };

static inline u64 word64(const u8 *p) { u64 v; __builtin_memcpy(&v, p, 8); return v; }
static inline u32 word32(const u8 *p) { u32 v; __builtin_memcpy(&v, p, 4); return v; }
static inline u64 turn(u64 x, int by) { return x << by | x >> (64 - by); }
static inline u64 lane(u64 sum, u64 word) { return turn(sum + word * PRIME_2, 31) * PRIME_1; }
static inline u64 join(u64 hash, u64 sum) { return (hash ^ lane(0, sum)) * PRIME_1 + PRIME_4; }

typedef struct { u64 a, b, c, d; } Lanes;
static const Lanes LANES = {PRIME_1 + PRIME_2, PRIME_2, 0, 0 - PRIME_1};

static inline void stripe(Lanes *l, const u8 *p)
{
    l->a = lane(l->a, word64(p));
    l->b = lane(l->b, word64(p + 8));
    l->c = lane(l->c, word64(p + 16));
    l->d = lane(l->d, word64(p + 24));
}

/* The hash of `total` bytes, all of whose whole stripes are in `l`; `p` is the rest. */
static inline u64 finish(const Lanes *l, u64 total, const u8 *p, u32 rest)
{
    u64 hash = PRIME_5;
    if (total >= STRIPE) {
        hash = turn(l->a, 1) + turn(l->b, 7) + turn(l->c, 12) + turn(l->d, 18);
        hash = join(join(join(join(hash, l->a), l->b), l->c), l->d);
    }
    hash += total;
    for (; rest >= 8; rest -= 8, p += 8) {
        hash = turn(hash ^ lane(0, word64(p)), 27) * PRIME_1 + PRIME_4;
    }
    if (rest >= 4) {
        hash = turn(hash ^ word32(p) * PRIME_1, 23) * PRIME_2 + PRIME_3;
        rest -= 4, p += 4;
    }
    while (rest--) hash = turn(hash ^ *p++ * PRIME_5, 11) * PRIME_1;
    hash = (hash ^ hash >> 33) * PRIME_2;
    hash = (hash ^ hash >> 29) * PRIME_3;
    return hash ^ hash >> 32;
}

u64 xxh64(const u8 *data, u32 length)
{
    Lanes lanes = LANES;
    u32 rest = length;
    for (; rest >= STRIPE; rest -= STRIPE, data += STRIPE) stripe(&lanes, data);
    return finish(&lanes, length, data, rest);
}

/* Bytes that lie apart are hashed as if they lay together. */
typedef struct { Lanes lanes; u64 total; u8 part[STRIPE]; u32 held; } Stream;

static void feed(Stream *s, const u8 *data, u32 length)
{
    s->total += length;
    if (s->held) {
        u32 room = STRIPE - s->held, taken = length < room ? length : room;
        copy(s->part + s->held, data, taken);
        s->held += taken, data += taken, length -= taken;
        if (s->held < STRIPE) return;
        stripe(&s->lanes, s->part);
        s->held = 0;
    }
    for (; length >= STRIPE; length -= STRIPE, data += STRIPE) stripe(&s->lanes, data);
    copy(s->part, data, length);
    s->held = length;
}

/* rows.row_hash: over the key's length (4 bytes, big-endian), the key and the value. */
u64 row_hash(const u8 *key, u32 key_length, const u8 *value, u32 length)
{
    Stream s;
    s.lanes = LANES, s.total = s.held = 0;
    u32 swapped = __builtin_bswap32(key_length);
    feed(&s, (const u8 *)&swapped, 4);
    feed(&s, key, key_length);
    feed(&s, value, length);
    return finish(&s.lanes, s.total, s.part, s.held);
}

/* org.apache.kafka.common.utils.Utils.murmur2, as Kafka's default partitioner takes it. */
u32 murmur2(const u8 *key, u32 length)
{
    const u32 factor = 0x5BD1E995;
    u32 state = 0x9747B28C ^ length;
    for (; length >= 4; length -= 4, key += 4) {
        u32 word = word32(key) * factor;
        word = (word ^ word >> 24) * factor;
        state = state * factor ^ word;
    }
    if (length) {
        u32 tail = 0;
        while (length--) tail = tail << 8 | key[length];
        state = (state ^ tail) * factor;
    }
    state = (state ^ state >> 13) * factor;
    state ^= state >> 15;
    return state & 0x7FFFFFFF;
}

/* Exactly what Python's strict decoder takes: shortest forms, no surrogates, up to U+10FFFF. */
bool is_utf8(const u8 *data, u32 length)
{
    const u8 *end = data + length;
    while (data < end) {
        while (end - data >= 8 && !(word64(data) & 0x8080808080808080ull)) data += 8;
        if (data == end) break;
        u8 first = *data++;
        if (first < 0x80) continue;
        u32 more;
        u8 least = 0x80, most = 0xBF; /* of the second byte */
        if (first >= 0xC2 && first <= 0xDF) more = 1;
        else if (first >= 0xE0 && first <= 0xEF) more = 2;
        else if (first >= 0xF0 && first <= 0xF4) more = 3;
        else return false;
        if (first == 0xE0) least = 0xA0;
        if (first == 0xED) most = 0x9F;
        if (first == 0xF0) least = 0x90;
        if (first == 0xF4) most = 0x8F;
        if ((u32)(end - data) < more || *data < least || *data > most) return false;
        for (data++; --more; data++) {
            if ((*data & 0xC0) != 0x80) return false;
        }
    }
    return true;
}

u32 code_points(const u8 *data, u32 length)
{
    u32 count = 0;
    while (length--) count += (*data++ & 0xC0) != 0x80;
    return count;
}
