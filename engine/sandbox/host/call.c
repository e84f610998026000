/* One execution of one entry: handles, what stands behind them, and how it ends. */
#include "host.h"

Call call;
Cell cells[HANDLES_MAX];
Guest guests[GUESTS_MAX];

enum { WORK_BUCKETS = 64, GENERATION_MAX = 1 << 18 };
static Work *works[WORK_BUCKETS];

static const Cell nothing = {.shape = NONE, .columns = NONE};

/* From here on every call of the guest returns 0, and the command is left to the slow lane, or run
 * again when the row that it missed is known. */
COLD void poison(enum Reason reason)
{
    if (!call.poisoned) call.reason = reason;
    call.poisoned = true;
    call.count = HANDLES_FIRST;
    call.ref_count = 0;
    for (u32 i = 0; i < HANDLES_FIRST; i++) cells[i] = nothing;
}

void call_begin(i64 generation, bool projecting)
{
    call.base = (u32)((u64)generation % (GENERATION_MAX - 1) + 1) << 12;
    call.count = HANDLES_FIRST;
    call.projecting = projecting;
    for (u32 i = 0; i < HANDLES_FIRST; i++) cells[i] = nothing;
}

void call_reset(void)
{
    arena_reset();
    fill(works, 0, sizeof works);
    fill(&call, 0, sizeof call);
    call.changed_end = &call.changed;
    call.views_changed_end = &call.views_changed;
}

u32 hold(Cell cell)
{
    if (UNLIKELY(call.poisoned)) return 0;
    if (UNLIKELY(call.count >= HANDLES_MAX)) {
        poison(R_CALL);
        return 0;
    }
    cells[call.count] = cell;
    return call.base + call.count++;
}

Work *work_find(const u8 *key, u32 length, u64 hash)
{
    for (Work *work = works[hash & (WORK_BUCKETS - 1)]; work; work = work->next) {
        if (work->key_hash == hash && work->key_length == length &&
            equal(work->key, key, length)) {
            return work;
        }
    }
    return NULL;
}

Work *work_new(const u8 *key, u32 length, u64 hash)
{
    Work *work = bump(sizeof(Work));
    Work **place = &works[hash & (WORK_BUCKETS - 1)];
    *work = (Work){
        .next = *place, .key = key, .key_length = length, .key_hash = hash, .present = true,
        .active = true, .was_active = true,
    };
    *place = work;
    return work;
}

/* Give a work the bitmap of the fields that were set. */
void work_touched(Work *work, u32 shape)
{
    u32 words = shape_at(shape)->words;
    work->touched = bump(words * 8);
    fill(work->touched, 0, words * 8);
}

/* Note the first change of a row. */
void work_changing(Work *work)
{
    if (call.poisoned) return;
    if (work->view) {
        if (call.view_changes >= VIEW_ROWS_MAX) {
            poison(R_CALL);
            return;
        }
        call.view_changes++;
        *call.views_changed_end = work;
        call.views_changed_end = &work->next_changed;
    } else if (work->record) {
        u32 number = (u32)(work->record - FROM(plan()->records, RecordType, 0));
        if ((call.kind && !(FROM(call.kind->records, u8, 0)[number >> 3] >> (number & 7) & 1)) ||
            call.changes >= call.command->changes_max) {
            poison(R_RULE);
            return;
        }
        call.changes++;
        *call.changed_end = work;
        call.changed_end = &work->next_changed;
    }
    work->changed = true;
}

void put_plain(u8 *to, i64 number)
{
    u64 swapped = __builtin_bswap64((u64)number);
    copy(to, &swapped, 8);
}

i64 get_plain(const u8 *from)
{
    u64 swapped;
    copy(&swapped, from, 8);
    return (i64)__builtin_bswap64(swapped);
}

static const u64 SIGN = 1ull << 63; /* flipped, so that bytes sort as numbers do */

void put_long(u8 *to, i64 number) { put_plain(to, (i64)((u64)number ^ SIGN)); }
i64 get_long(const u8 *from) { return (i64)((u64)get_plain(from) ^ SIGN); }

u8 *key_begin(u32 table, u32 extra, u32 *length)
{
    u32 head = 2 + call.workspace.length + 1;
    u8 *key = bump(head + extra);
    key[0] = (u8)(table >> 8);
    key[1] = (u8)table;
    copy(key + 2, bytes_at(call.workspace.at), call.workspace.length);
    key[head - 1] = 0;
    *length = head + extra;
    return key;
}

#ifdef __wasm__
#define AT_SLOT(type, slot) ((type)(uintptr_t)(slot))
#else
extern void *native_table[];
#define AT_SLOT(type, slot) ((type)native_table[slot])
#endif

void to_guest(u32 to, const void *from, u32 length)
{
    AT_SLOT(Copy, call.loaded->to_guest)(to, address_of(from), length);
}

void from_guest(void *to, u32 from, u32 length)
{
    AT_SLOT(Copy, call.loaded->from_guest)(address_of(to), from, length);
}

/* Put a guest's memory and globals back to what they were when it was new. */
void guest_reset(const Guest *guest) { AT_SLOT(PutBack, guest->put_back)(guest->image); }

void run_entry(u32 guest, u32 entry)
{
    call.guest = FROM(plan()->guests, GuestPlan, guest);
    call.loaded = &guests[guest];
    call.refs = FROM(call.guest->refs, Ref, 0);
    call.ref_count = call.poisoned ? 0 : call.guest->refs.count;
    mailbox.serial++;
    mailbox.budget_ms = call.guest->time_ms;
    mailbox.guest = guest;
    mailbox.running = 1;
    AT_SLOT(Entry, call.loaded->entries + entry)();
    mailbox.running = 0;
    guest_reset(call.loaded);
}
