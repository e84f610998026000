/* Part of host_test.c. */

/* ---- changed: each row once, in the order of keys, however little room there is ---- */

enum { CHANGES = 600, MANY_KEYS = 300 };

/* Some keys begin alike for longer than is compared at once, and some end where others go on. */
static u32 long_name_of(u32 key, u8 *name)
{
    memset(name, key & 1 ? 'k' : 0, 40);
    name[key % 29] = (u8)key;
    name[29] = (u8)(key >> 4);
    return 1 + key % 31;
}

static int by_key(const void *a, const void *b)
{
    u8 one[40], other[40];
    u32 length = long_name_of(*(const u32 *)a, one);
    return compare_keys(one, length, other, long_name_of(*(const u32 *)b, other));
}

static void test_changed(void)
{
    static u32 numbers[MANY_KEYS];
    static u8 out[4096];
    rows_clear();
    changed_begin();
    u32 count = 0;
    for (u32 i = 0; i < CHANGES; i++) {
        u8 name[40];
        u32 key = below(MANY_KEYS), length = long_name_of(key, name);
        change_begin(true);
        change_put(name, length, key_hash(name, length), name, length, below(4), 0);
        change_end(&(State){.sequence = 1});
        bool known = false;
        for (u32 k = 0; k < count; k++) known |= !by_key(&numbers[k], &key);
        if (!known) numbers[count++] = key;
    }
    qsort(numbers, count, sizeof *numbers, by_key);
    u32 done = 0;
    while (done < count) {
        Writer w = {out, out + 100 + below(sizeof out - 100), false};
        u32 some = changed_write(&w, done), at = some * 8;
        MUST(some && !w.full && done + some <= count);
        for (u32 i = 0; i < some; i++) {
            u8 name[40];
            u32 length = long_name_of(numbers[done + i], name), ends[2];
            const Row *row = row_find(name, length, key_hash(name, length));
            memcpy(ends, out + i * 8, 8);
            MUST(ends[0] - at == length && !memcmp(out + at, name, length));
            at = ends[0];
            MUST((ends[1] == (u32)NONE) == (row->value == ABSENT));
            if (ends[1] != (u32)NONE) at = ends[1];
        }
        MUST(at == w.at - out);
        done += some;
    }
    rows_clear();
}
