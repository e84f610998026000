/* Part of host_test.c. */

/* ---- readers of what comes from outside: broken in every way, they refuse and stay inside ---- */

typedef struct { u32 kind, shape, length; u8 *bytes; } Sample;
enum { SAMPLES_MAX = 4096, SAMPLE_BYTES = 1 << 16 };
static Sample samples[SAMPLES_MAX];
static u32 sample_count;

static u8 *file(const char *path, u32 *length)
{
    FILE *f = fopen(path, "rb");
    MUST(f);
    static u8 data[16 << 20];
    *length = (u32)fread(data, 1, sizeof data, f);
    fclose(f);
    return data;
}

static void load_samples(const char *path)
{
    u32 length, at = 0;
    const u8 *data = file(path, &length);
    while (at < length && sample_count < SAMPLES_MAX) {
        Sample *s = &samples[sample_count++];
        memcpy(s, data + at, 12);
        s->bytes = malloc(s->length + 1);
        memcpy(s->bytes, data + at + 12, s->length);
        at += 12 + s->length;
    }
}

static void load_image_of(const char *path)
{
    u32 length;
    const u8 *data = file(path, &length);
    u8 *made = keep(length);
    memcpy(made, data, length);
    image = made;
    MUST(plan()->magic == IMAGE_MAGIC && plan()->size == length);
}

static u32 damaged(const Sample *s, u8 *into)
{
    u32 length = s->length;
    memcpy(into, s->bytes, length);
    for (u32 i = below(4); i && length; i--) {
        u32 at = below(length), much = 1 + below(9);
        switch (below(6)) {
        case 0: into[at] ^= (u8)(1u << below(8)); break;
        case 1: into[at] = (u8)below(256); break;
        case 2: length = at; break;
        case 3: memset(into + at, 0xff, length - at < much ? length - at : much); break;
        case 4:
            memmove(into + at + 1, into + at, length - at);
            into[at] = (u8)below(256);
            length++;
            break;
        default:
            memmove(into + at, into + at + 1, length - at - 1);
            length--;
        }
    }
    return length;
}

/* What was read is written as it is read again. */
static void round_trip(const Group *g, u32 shape)
{
    static u8 once[4 * SAMPLE_BYTES], again[4 * SAMPLE_BYTES];
    Writer w = {once, once + sizeof once, false};
    group_write(g, &w);
    MUST(!w.full);
    u32 length = (u32)(w.at - once);
    u8 *copied = bump(length);
    memcpy(copied, once, length);
    Reader r = {copied, copied + length, false};
    Group second;
    MUST(group_read(&second, shape, &r, false));
    Writer v = {again, again + sizeof again, false};
    group_write(&second, &v);
    MUST(v.at - again == w.at - once && !memcmp(once, again, length));
}

static bool read_sample(const Sample *s, const u8 *bytes, u32 length)
{
    if (s->kind == 0) {
        Envelope e;
        return envelope_read(&e, bytes, length);
    }
    if (s->kind == 1) {
        Outcome o;
        return outcome_read(&o, bytes, length);
    }
    Group g;
    Reader r = {bytes, bytes + length, false};
    bool fine = group_read(&g, s->shape, &r, false);
    if (fine) round_trip(&g, s->shape);
    return fine;
}

static void test_fuzz(const char *image_path, const char *samples_path, u32 rounds)
{
    load_image_of(image_path);
    load_samples(samples_path);
    MUST(sample_count);
    u8 *place = keep(SAMPLE_BYTES + 64);
    for (u32 i = 0; i < sample_count; i++) {
        call_reset();
        memcpy(place, samples[i].bytes, samples[i].length);
        MUST(read_sample(&samples[i], place, samples[i].length));
    }
    u32 refused = 0;
    for (u32 round = 0; round < rounds; round++) {
        const Sample *s = &samples[below(sample_count)];
        MUST(s->length + 8 < SAMPLE_BYTES);
        call_reset();
        u32 length = damaged(s, place);
        /* What lies behind it must not be read: the heap is one block for the sanitizer. */
        u8 *end = place + ((length + 7) & ~7u);
        memset(place + length, 0xAA, (u32)(end - (place + length)));
        ASAN_POISON_MEMORY_REGION(end, 32);
        refused += !read_sample(s, place, length);
        ASAN_UNPOISON_MEMORY_REGION(end, 32);
    }
    printf("%u of %u refused\n", refused, rounds);
    MUST(refused > rounds / 4 && refused < rounds);
}
