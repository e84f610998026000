/* Guests that mean harm: `bad` does what its argument says. `good` shows that the next command is
 * right. Compiled by test_hostile.py against the header of the application it defines. */
#include "guest.h"

static int64_t counter; /* memory that must not outlive a call */
static char large[70000];

void good(void)
{
    thing_t thing = thing_get();
    if (!thing_exists(thing)) thing = thing_create();
    thing_set_total(thing, thing_total(thing) + ++counter);
}

/* Give out this call's handle, for `bad` to use in a later one. */
void leak(void)
{
    thing_t thing = thing_get();
    thing_set_total(thing, thing.handle);
}

__attribute__((noinline)) static int64_t deep(volatile int64_t *above)
{
    volatile int64_t here[16];
    here[0] = *above + 1;
    return deep(here) + here[0];
}

static void forged(int64_t what)
{
    switch (what) {
    case 20: partita_get_i64(12345, THING_TOTAL); break;
    case 21: partita_get_i64(0, THING_TOTAL); break;
    case 22: partita_get_i64(0xffffffff, THING_TOTAL); break;
    case 23: partita_get_i64((partita_handle)bad_args_handle(), THING_TOTAL); break;
    case 24: partita_get_i64(PARTITA_EVENT, THING_TOTAL); break;
    case 25: partita_get_i64(PARTITA_RESULT, THING_TOTAL); break;
    case 26: partita_record(77, 0); break;
    case 27: partita_record(0, 5); break;
    case 28: partita_create(0); break; /* the singleton is there already */
    case 29: partita_key(0); break;    /* a command has no views */
    }
}

static void mistyped(int64_t what)
{
    thing_t thing = thing_get();
    switch (what) {
    case 30: partita_get_f64(thing.handle, THING_TOTAL); break;
    case 31: partita_get_bytes(thing.handle, THING_TOTAL, large, 8); break;
    case 32: partita_get_i64(thing.handle, 9999); break;
    case 33: partita_get_i64(thing.handle, BAD_ARGS_WHAT); break;
    case 34: partita_set_i64(PARTITA_ARGS, BAD_ARGS_WHAT, 1); break;
    case 35: partita_set_null(thing.handle, THING_TOTAL); break;
    case 36: partita_length(thing.handle, THING_TOTAL); break;
    case 37: partita_item(thing.handle, THING_TAGS, 3); break;
    case 38: partita_read(thing.handle, 99, large, sizeof large); break;
    case 39: partita_set_i64(thing.handle, THING_SMALL, 1ll << 40); break;
    }
}

static void overlong(int64_t what)
{
    thing_t thing = thing_get();
    thing_row row = {.note = {sizeof row, 0xffffffff}};
    switch (what) {
    case 40: thing_set_note(thing, large, sizeof large); break;
    case 41: thing_set_note(thing, "\xff\xfe", 2); break;
    case 42: thing_set_note(thing, (void *)0xfffffff0, 100); break;
    case 43: thing_set_note(thing, large, 0xffffffff); break;
    case 44: partita_get_bytes(PARTITA_CONTEXT, 0, (void *)0xfffffff0, 256); break;
    case 45: partita_write(thing.handle, THING_PLAN, &row, sizeof row); break;
    case 46: partita_write(thing.handle, THING_PLAN, &row, 3); break;
    case 47: partita_reject_text(large, 9000, "", 0); break;
    case 48: partita_reject_text("Not A Code", 10, "", 0); break;
    case 49: partita_log_text(99, "", 0); break;
    }
}

void bad(void)
{
    int64_t what = bad_args_what();
    thing_set_total(thing_get(), 1000000); /* must be undone */
    counter = 1000000;
    switch (what) {
    case 1: for (;;) __asm__ volatile(""); break;
    case 2: for (;;) thing_get(); break;
    case 3: for (;;) partita_log(PARTITA_INFO, "flood"); break;
    case 4: deep(&what); break;
    case 5: __builtin_trap(); break;
    case 6: *(volatile int32_t *)0x7fffffff = 1; break;
    case 7: while (__builtin_wasm_memory_grow(0, 4096) != (size_t)-1) {} __builtin_trap(); break;
    case 8: for (;;) thing_tags_append(thing_get()); break;
    default: forged(what), mistyped(what), overlong(what);
    }
}

/* Grow, leave a mark, and end well: neither the memory nor the mark may be there next time. */
void grow(void)
{
    size_t before = __builtin_wasm_memory_size(0);
    if (__builtin_wasm_memory_grow(0, 4096) == (size_t)-1) __builtin_trap();
    *(char *)before = 1;
    thing_set_total(thing_get(), (int64_t)before);
}

/* A projector: what it may not do rejects the command that it sees. */
void shown(void)
{
    int64_t total = thing_total(thing_event());
    if (total == 666) partita_reject("no", "a projector may not");
    if (total == 667) thing_get();
    if (total == 668) __builtin_trap();
    if (total == 669) thing_set_total(thing_event(), 1);
    total_set_total(total_put(total_key()), total);
}

void set(void) { thing_set_total(thing_get(), set_args_what()); }
