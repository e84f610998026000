/* The state host's parts, natively, under the sanitizers: `host_test PART SEED [FILES]`.
 *
 * Each part is checked against the plainest thing that does the same: arrays that are searched from
 * one end to the other. tests/unit/test_host_native.py compiles and runs it. */
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.c"

void *native_table[GUESTS_MAX];

#define MUST(x) ((x) ? (void)0 : fail(__LINE__, #x))
static _Noreturn void fail(int line, const char *what)
{
    fprintf(stderr, "line %d: %s doesn't hold\n", line, what);
    exit(1);
}

static u64 state_of_random;
static u32 below(u32 bound) /* splitmix64 */
{
    u64 z = state_of_random += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (u32)((z ^ z >> 31) % bound);
}

/* ---- memory ---- */

static void test_memory(void)
{
    enum { HELD = 400 };
    static struct { u8 *at; u32 size; u8 byte; } held[HELD];
    for (int round = 0; round < 200000; round++) {
        u32 i = below(HELD);
        if (held[i].at) {
            for (u32 k = 0; k < held[i].size; k += 7) MUST(held[i].at[k] == held[i].byte);
            drop(held[i].at, held[i].size);
            held[i].at = NULL;
        } else {
            held[i].size = 1 + below(below(20) ? 300 : 70000);
            held[i].byte = (u8)round;
            held[i].at = keep(held[i].size);
            MUST(((uintptr_t)held[i].at & 7) == 0);
            fill(held[i].at, held[i].byte, held[i].size);
        }
    }
    for (u32 i = 0; i < HELD; i++) {
        if (held[i].at) drop(held[i].at, held[i].size);
    }
    MUST(pages_used == 0);
}

/* ---- hashes and UTF-8 ---- */

static void test_hash(void)
{
    /* Test vectors of the xxHash project, and of Kafka's Utils.murmur2 (UtilsTest). */
    MUST(xxh64((const u8 *)"", 0) == 0xEF46DB3751D8E999ull);
    MUST(xxh64((const u8 *)"a", 1) == 0xD24EC4F1A98C6E5Bull);
    MUST(xxh64((const u8 *)"abc", 3) == 0x44BC2CF5AD770999ull);
    MUST(murmur2((const u8 *)"21", 2) == (u32)(-973932308 & 0x7fffffff));
    MUST(murmur2((const u8 *)"foobar", 6) == (u32)(-790332482 & 0x7fffffff));
    u8 data[700];
    for (u32 round = 0; round < 20000; round++) {
        u32 key = below(300), value = below(300);
        u32 swapped = __builtin_bswap32(key);
        memcpy(data, &swapped, 4);
        for (u32 i = 4; i < 4 + key + value; i++) data[i] = (u8)below(256);
        MUST(row_hash(data + 4, key, data + 4 + key, value) == xxh64(data, 4 + key + value));
    }
    static const char *bad[] = {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xE1\x80",
        "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "abcdefgh\xFF"};
    for (u32 i = 0; i < sizeof bad / sizeof *bad; i++) {
        MUST(!is_utf8((const u8 *)bad[i], (u32)strlen(bad[i])));
    }
    const char *good = "a\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF";
    MUST(is_utf8((const u8 *)good, (u32)strlen(good)));
    MUST(code_points((const u8 *)good, (u32)strlen(good)) == 8);
}

/* ---- rows: what is unconfirmed can be taken back, exactly ---- */

enum { KEYS = 24, OUTCOMES = 64, UNKNOWN = -2, GONE_ROW = -1 };
typedef struct { i64 sequence; int values[KEYS]; } Picture;
static Picture pictures[OUTCOMES]; /* [0] as confirmed, then behind each unconfirmed outcome */
static u32 outcomes;

static u32 name_of(u32 key, u8 *name)
{
    memset(name, 'k', 12);
    name[key % 3] = (u8)('a' + key);
    return 3 + key % 9;
}

static void look(const int *values)
{
    for (u32 key = 0; key < KEYS; key++) {
        u8 name[12];
        u32 length = name_of(key, name);
        const Row *row = row_find(name, length, key_hash(name, length));
        int value = !row ? UNKNOWN : row->value == ABSENT ? GONE_ROW : (int)row->value->bytes[0];
        MUST(value == values[key]);
    }
}

static void provide_unknown(int *values, u32 key)
{
    u8 name[12], value = (u8)below(256);
    u32 length = name_of(key, name);
    bool there = below(2);
    if (values[key] != UNKNOWN) { /* what is known already stays */
        row_provide(name, length, &value, 1, there);
        return;
    }
    row_provide(name, length, &value, 1, there);
    for (u32 i = 0; i <= outcomes; i++) {
        if (pictures[i].values[key] == UNKNOWN) pictures[i].values[key] = there ? value : GONE_ROW;
    }
}

static void change_some(int *values)
{
    for (u32 i = below(5); i; i--) {
        u8 name[12], value = (u8)below(256);
        u32 key = below(KEYS), length = name_of(key, name);
        if (values[key] == UNKNOWN) continue;
        bool there = below(3);
        change_put(name, length, key_hash(name, length), &value, 1, there, 0);
        values[key] = there ? value : GONE_ROW;
    }
}

static void test_rows(void)
{
    i64 sequence = 0;
    for (u32 key = 0; key < KEYS; key++) pictures[0].values[key] = UNKNOWN;
    for (u32 round = 0; round < 60000; round++) {
        Picture *newest = &pictures[outcomes];
        u32 what = below(20);
        if (what < 4) {
            provide_unknown(newest->values, below(KEYS));
        } else if (what < 12 && outcomes + 1 < OUTCOMES) {
            Picture *next = &pictures[++outcomes];
            *next = *newest;
            State behind = {.sequence = next->sequence = ++sequence};
            change_begin(false);
            change_some(next->values);
            change_end(&behind);
        } else if (what < 15) {
            Picture guessed = *newest;
            guess_begin();
            for (u32 i = below(3); i; i--) {
                State behind = {.sequence = 0};
                change_begin(false);
                change_some(guessed.values);
                change_end(&behind);
                look(guessed.values);
            }
            guess_end();
        } else if (what < 18 && outcomes) {
            u32 upto = below(outcomes + 1);
            State behind;
            bool found = rows_confirm(pictures[upto].sequence, &behind);
            MUST(found == (upto > 0));
            MUST(!found || behind.sequence == pictures[upto].sequence);
            memmove(pictures, pictures + upto, (outcomes - upto + 1) * sizeof *pictures);
            outcomes -= upto;
        } else if (what == 18) {
            rows_discard();
            outcomes = 0;
        } else if (!outcomes) {
            State behind = {.sequence = pictures[0].sequence = ++sequence};
            change_begin(true);
            change_some(pictures[0].values);
            change_end(&behind);
        }
        look(pictures[outcomes].values);
        MUST(rows_unconfirmed() == outcomes);
    }
    rows_clear();
    MUST(rows_held() == 0);
}

/* A view's row goes with its confirmation, unless somebody has read it meanwhile; others stay. */
static void test_unread(void)
{
    static const char *keys[] = {"\x80\0line", "\x80\0read", "\x01\0record"};
    State behind = {.sequence = 1};
    change_begin(false);
    for (u32 i = 0; i < 3; i++) {
        u32 length = 2 + (u32)strlen(keys[i] + 2);
        u64 hash = key_hash((const u8 *)keys[i], length);
        change_put((const u8 *)keys[i], length, hash, (const u8 *)"x", 1, true, 0);
        if (i == 1) MUST(row_find((const u8 *)keys[i], length, hash));
    }
    change_end(&behind);
    MUST(rows_held() == 3);
    rows_confirm(1, &behind);
    MUST(rows_held() == 2);
    MUST(!row_find((const u8 *)keys[0], 6, key_hash((const u8 *)keys[0], 6)));
    rows_clear();
}

/* ---- known: from an empty store on, what never was is known not to be there ---- */

enum { EVER = 260000, NEVER = 2000000, HELD_BYTES = 4 << 20 };

static const Row *numbered(u32 number)
{
    return row_find((const u8 *)&number, 4, key_hash((const u8 *)&number, 4));
}

static void test_known(void)
{
    known_begin();
    row_bytes_max = HELD_BYTES;
    for (u32 number = 0; number < EVER; number++) {
        State behind = {.sequence = number + 1};
        change_begin(true);
        change_put((const u8 *)&number, 4, key_hash((const u8 *)&number, 4), (const u8 *)&number, 4,
            true, 0);
        change_end(&behind);
        if (number % 1000 == 999) rows_confirm(number + 1, &behind);
    }
    MUST(rows_held() < EVER / 2);
    u32 asked = 0;
    for (u32 number = 0; number < EVER; number++) {
        const Row *row = numbered(number);
        MUST(row != &nobody);
        MUST(!row || !memcmp(row->value->bytes, &number, 4));
        asked += !row;
    }
    MUST(asked == EVER - rows_held());
    asked = 0;
    for (u32 number = EVER; number < EVER + NEVER; number++) asked += numbered(number) == NULL;
    MUST(asked < 4); /* each costs a batch a second pass */
    row_bytes_max = ROW_CACHE_BYTES_MAX;
    known_end(); /* another writes to the store */
    MUST(!numbered(EVER));
    rows_clear();
}

/* ---- ranges: stored rows with what has changed since, in key order ---- */

static void test_ranges(void)
{
    static const u8 prefix[] = "p";
    for (u32 round = 0; round < 4000; round++) {
        u8 now[200] = {0};
        i64 sequence = round * 100;
        rows_clear();
        call_reset();
        range_begin(prefix, 1);
        for (u32 i = 0; i < 200; i++) {
            u8 key[2] = {'p', (u8)i};
            if (below(4)) continue;
            now[i] = 1;
            range_add(row_provide(key, 2, key, 2, true));
        }
        range_end();
        for (u32 i = below(30); i; i--) {
            u8 key[2] = {below(9) ? 'p' : 'q', (u8)below(200)};
            bool there = below(2);
            State behind = {.sequence = ++sequence};
            change_begin(false);
            change_put(key, 2, key_hash(key, 2), key, 2, there, 0);
            change_end(&behind);
            if (key[0] == 'p') now[key[1]] = there;
        }
        Row **found;
        u32 count, at = 0;
        MUST(!range_rows((const u8 *)"q", 1, &found, &count));
        MUST(range_rows(prefix, 1, &found, &count));
        for (u32 i = 0; i < 200; i++) {
            if (now[i]) MUST(at < count && found[at]->key[1] == i), at++;
        }
        MUST(at == count);
        rows_discard();
        MUST(!range_rows(prefix, 1, &found, &count));
    }
}

/* ---- the dedup window ---- */

enum { IDS = 6000 };
static struct { u8 id[ID_BYTES]; i64 time, floor; } decided[IDS]; /* by sequence - 1 */

static i64 expected(const u8 *id, i64 last, i64 floor)
{
    for (i64 s = last; s > 0; s--) {
        if (memcmp(decided[s - 1].id, id, ID_BYTES)) continue;
        return decided[s - 1].time + ID_AHEAD_MS_MAX > floor ? s : 0;
    }
    return 0;
}

static void test_dedup(void)
{
    i64 last = 0, confirmed = 0, time = 1700000000000, floor = 0;
    dedup_seed = state_of_random;
    dedup_start(0, 0);
    for (u32 round = 0; round < 20000 && last < IDS; round++) {
        u32 what = below(16);
        if (what < 12) {
            time += below(8) ? below(1000) : below(6 * 3600 * 1000);
            for (u32 i = 0; i < ID_BYTES; i++) decided[last].id[i] = (u8)below(256);
            decided[last].time = time;
            dedup_add(last + 1, decided[last].id, time);
            if (time - DEDUP_WINDOW_MS > floor) floor = time - DEDUP_WINDOW_MS;
            decided[last++].floor = floor;
        } else if (what < 14 && confirmed < last) {
            confirmed += 1 + below((u32)(last - confirmed));
            dedup_forget(confirmed + 1, decided[confirmed - 1].floor);
        } else if (what == 14) {
            last = confirmed;
            floor = last ? decided[last - 1].floor : 0;
            dedup_drop_after(last, floor);
        }
        MUST(dedup_floor == floor);
        for (u32 i = 0; i < 3 && last; i++) {
            const u8 *id = decided[below((u32)last)].id;
            MUST(dedup_find(id) == expected(id, last, floor));
        }
        u8 other[ID_BYTES] = {(u8)below(256)};
        MUST(dedup_find(other) == expected(other, last, floor));
    }
}

#include "host_changed.c"
#include "host_fuzz.c"

int main(int argc, char **argv)
{
    MUST(argc >= 3);
    const char *part = argv[1];
    state_of_random = strtoull(argv[2], NULL, 10);
    call_reset();
    if (!strcmp(part, "memory")) pages_used = 0, test_memory();
    else if (!strcmp(part, "hash")) test_hash();
    else if (!strcmp(part, "rows")) test_rows(), test_unread();
    else if (!strcmp(part, "changed")) for (u32 i = 0; i < 200; i++) test_changed();
    else if (!strcmp(part, "known")) test_known();
    else if (!strcmp(part, "ranges")) test_ranges();
    else if (!strcmp(part, "dedup")) test_dedup();
    else if (!strcmp(part, "fuzz") && argc == 6) test_fuzz(argv[3], argv[4], (u32)atoi(argv[5]));
    else fail(__LINE__, part);
    return 0;
}
