/* Memory: pages that are kept and dropped, and the arena of the command at hand. */
#include "host.h"

#ifdef __wasm__
enum { WASM_PAGE = 65536 };
extern u8 __heap_base;
#else
static _Alignas(16) u8 native_heap[256u << 20];
u8 *const heap = native_heap;
#endif

#ifdef __wasm__
/* What the compiler calls by itself. The engine's own memory.copy is dear to begin: 8 bytes at a
 * time are quicker for what is short, as nearly everything here is. */
enum { SHORT_BYTES = 128 };

__attribute__((no_builtin("memcpy"))) void *memcpy(void *to, const void *from, size_t length)
{
    u8 *t = to;
    const u8 *f = from;
    if (length > SHORT_BYTES) {
        __asm__ volatile("local.get %0\nlocal.get %1\nlocal.get %2\nmemory.copy 0, 0"
            : : "r"(to), "r"(from), "r"(length) : "memory");
        return to;
    }
    for (; length >= 8; length -= 8, t += 8, f += 8) {
        u64 word;
        __builtin_memcpy(&word, f, 8);
        __builtin_memcpy(t, &word, 8);
    }
    while (length--) *t++ = *f++;
    return to;
}

__attribute__((no_builtin("memset"))) void *memset(void *to, int byte, size_t length)
{
    u8 *t = to;
    u64 word = 0x0101010101010101ull * (u8)byte;
    for (; length >= 8; length -= 8, t += 8) __builtin_memcpy(t, &word, 8);
    while (length--) *t++ = (u8)byte;
    return to;
}

__attribute__((no_builtin("memcmp"))) int memcmp(const void *a, const void *b, size_t length)
{
    const u8 *p = a, *q = b;
    for (; length; length--, p++, q++) {
        if (*p != *q) return *p - *q;
    }
    return 0;
}
#endif

void copy(void *to, const void *from, u32 length) { __builtin_memcpy(to, from, length); }
void fill(void *to, int byte, u32 length) { __builtin_memset(to, byte, length); }

bool equal(const void *a, const void *b, u32 length)
{
    const u8 *p = a, *q = b;
    for (; length >= 8; length -= 8, p += 8, q += 8) {
        u64 x, y;
        copy(&x, p, 8), copy(&y, q, 8);
        if (x != y) return false;
    }
    while (length--) {
        if (*p++ != *q++) return false;
    }
    return true;
}

/* ---- pages ----
 * Sizes are rounded up to a class, of which each doubling has four; what is dropped waits in its
 * class for the next taker. Nothing is ever given back to the system: the caches that live here are
 * bounded, so is what waits. */
enum { CLASSES = 30 * 4, CLASS_FIRST_BITS = 4 };
typedef struct Free { struct Free *next; } Free;
static Free *waiting[CLASSES];
static u64 fresh, fresh_end; /* never kept yet: [fresh, fresh_end) */
u64 pages_used;

static u32 class_of(u32 size, u32 *rounded)
{
    if (size < 16) size = 16;
    u32 bits = 31 - (u32)__builtin_clz(size), quarter = 1u << (bits - 2);
    u32 up = (size + quarter - 1) & ~(quarter - 1);
    bits = 31 - (u32)__builtin_clz(up), quarter = 1u << (bits - 2);
    *rounded = (up + 7) & ~7u;
    return (bits - CLASS_FIRST_BITS) * 4 + ((up >> (bits - 2)) & 3);
}

static u32 more(u32 size)
{
    size = (size + 7) & ~7u;
#ifdef __wasm__
    if (!fresh) {
        fresh = ((u64)(uintptr_t)&__heap_base + 15) & ~15ull;
        fresh_end = (u64)__builtin_wasm_memory_size(0) * WASM_PAGE;
    }
    if (fresh + size > fresh_end) {
        u64 wanted = fresh + size - fresh_end, step = 4u << 20;
        u64 pages = ((wanted > step ? wanted : step) + WASM_PAGE - 1) / WASM_PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) CHECK(!"no memory is left");
        fresh_end += pages * WASM_PAGE;
    }
#else
    if (!fresh) fresh = 16, fresh_end = sizeof native_heap;
    CHECK(fresh + size <= fresh_end);
#endif
    u32 at = (u32)fresh;
    fresh += size;
    return at;
}

void *keep(u32 size)
{
    u32 rounded, class = class_of(size, &rounded);
    pages_used += rounded;
    Free *found = waiting[class];
    if (found) {
        waiting[class] = found->next;
        return found;
    }
    return bytes_at(more(rounded));
}

void drop(void *p, u32 size)
{
    u32 rounded, class = class_of(size, &rounded);
    pages_used -= rounded;
    Free *freed = p;
    freed->next = waiting[class];
    waiting[class] = freed;
}

/* ---- the arena ---- */
enum { ARENA_BYTES = 16 << 20, ARENA_SPARE = 1 << 20 };
static u8 *arena, *arena_at, *arena_end, *arena_true_end;

void arena_reset(void)
{
    if (!arena) {
        arena = keep(ARENA_BYTES);
        arena_true_end = arena + ARENA_BYTES;
        arena_end = arena_true_end - ARENA_SPARE;
    }
    arena_at = arena;
}

/* A command that needs more is left to the slow lane. Its calls end soon: what they still take
 * comes from the spare part, over and over. */
void *bump(u32 size)
{
    size = (size + 7) & ~7u;
    if (UNLIKELY(size > (u32)(arena_end - arena_at))) {
        poison(R_SIZE);
        CHECK(size <= ARENA_SPARE);
        return arena_end;
    }
    u8 *found = arena_at;
    arena_at += size;
    return found;
}

void arena_writer(Writer *w) { *w = (Writer){arena_at, arena_end, false}; }

Text arena_take(const Writer *w, const u8 *from)
{
    if (UNLIKELY(w->full)) {
        poison(R_SIZE);
        return (Text){0, 0};
    }
    arena_at += ((u32)(w->at - arena_at) + 7) & ~7u;
    return (Text){address_of(from), (u32)(w->at - from)};
}
