/* The ABI's calls on fields (abi.py has their table, session.py their meaning). What isn't plainly
 * right goes through one of the cold functions, which poison the command. */
#include "host.h"

static inline Cell *cell_of(u32 h)
{
    u32 i = h - call.base;
    if (LIKELY(i - HANDLES_FIRST < call.count - HANDLES_FIRST)) return &cells[i];
    return &cells[h < HANDLES_FIRST ? h : H_NONE];
}

static inline const Ref *ref_of(u32 f)
{
    static const Ref none = {.typed = NONE - 9, .shape = NONE - 1, .access = A_NONE};
    return LIKELY(f < call.ref_count) ? &call.refs[f] : &none;
}

static COLD void misused(void) { poison(R_CALL); }

static inline bool is_plain(const Cell *cell, const Ref *ref, u32 access)
{
    return LIKELY(ref->typed == (cell->shape << 2 | access));
}

/* Where a value lies: in the cell's own group, or among the columns of a row that a scan found. */
static COLD i64 *odd_slot(const Cell *cell, const Ref *ref)
{
    static i64 zero;
    zero = 0;
    if (!call.poisoned && ref->is_column && cell->columns == ref->shape) {
        return &cell->column_slots[ref->field];
    }
    misused();
    return &zero;
}

static COLD i64 *other_slot(const Cell *cell, const Ref *ref, u32 access)
{
    return ref->access == access ? odd_slot(cell, ref) : odd_slot(cell, ref_of(NONE));
}

/* The commonest call: both bounds and the type are right, and it is a load. */
static inline i64 *slot_of(u32 h, u32 f, u32 access)
{
    const Ref *ref = ref_of(f);
    const Cell *cell = cell_of(h);
    return is_plain(cell, ref, access) ? &cell->slots[ref->field] : other_slot(cell, ref, access);
}

EXPORT("get_i64") i64 get_i64(u32 h, u32 f) { return *slot_of(h, f, A_I64); }

EXPORT("get_f64") f64 get_f64(u32 h, u32 f)
{
    f64 number;
    copy(&number, slot_of(h, f, A_F64), 8);
    return number == 0 ? 0 : number; /* -0.0 reads as 0.0 */
}

EXPORT("get_bytes") u32 get_bytes(u32 h, u32 f, u32 to, u32 capacity)
{
    Text text = slot_text(*slot_of(h, f, A_BYTES));
    if (LIKELY(text.length <= capacity && !call.poisoned)) {
        to_guest(to, bytes_at(text.at), text.length);
    }
    return text.length;
}

EXPORT("is_null") u32 is_null(u32 h, u32 f)
{
    const Cell *cell = cell_of(h);
    const Ref *ref = ref_of(f);
    if (LIKELY(cell->shape == ref->shape)) {
        return cell->nulls[ref->field >> 6] >> (ref->field & 63) & 1;
    }
    odd_slot(cell, ref);
    return 0;
}

EXPORT("length") u32 length(u32 h, u32 f)
{
    const Cell *cell = cell_of(h);
    const Ref *ref = ref_of(f);
    if (UNLIKELY(cell->shape != ref->shape || ref->is_column)) return misused(), 0;
    i64 slot = cell->slots[ref->field];
    if (ref->access == A_BYTES) return slot_text(slot).length;
    bool null = cell->nulls[ref->field >> 6] >> (ref->field & 63) & 1;
    if (ref->access == A_ARRAY) return null ? 0 : ((Array *)bytes_at((u32)slot))->count;
    if (!null) misused();
    return 0;
}

/* ---- writing ---- */

bool set_slot(const Ref *ref, i64 *slot, i64 value)
{
    switch (ref->kind) {
    case LONG: break;
    case INT:
        if (value != (i32)value) return false;
        break;
    case BOOLEAN:
        if ((u64)value > 1) return false;
        break;
    case ENUM:
        if ((u64)value >= field_at(shape_at(ref->shape), ref->field)->size) return false;
        break;
    default: return false;
    }
    *slot = value;
    return true;
}

static bool set_number(const Ref *ref, i64 *slot, f64 number)
{
    if (number != number) {
        *slot = 0x7ff8000000000000; /* one NaN, so that replicas stay equal */
        return true;
    }
    if (ref->kind == FLOAT) {
        float narrow = (float)number;
        if (__builtin_isinf(narrow) && !__builtin_isinf(number)) return false;
        number = narrow;
    }
    copy(slot, &number, 8);
    return true;
}

bool set_text(const Ref *ref, i64 *slot, u32 from, u32 length)
{
    if (length > FIELD_BYTES_MAX) return false;
    if (ref->kind == STRING && !is_utf8(bytes_at(from), length)) return false;
    if (ref->kind == FIXED && length != field_at(shape_at(ref->shape), ref->field)->size) {
        return false;
    }
    *slot = text_slot(from, length);
    return true;
}

static inline void mark(const Cell *cell, const Ref *ref)
{
    Work *work = cell->work;
    if (work) {
        if (UNLIKELY(!work->changed)) work_changing(work);
        u32 bit = cell->bit ? cell->bit - 1u : ref->field;
        work->touched[bit >> 6] |= 1ull << (bit & 63);
    }
}

/* Make ready to set a field; NULL where that may not be. */
static inline Cell *writable(u32 h, const Ref *ref, u32 access)
{
    Cell *cell = cell_of(h);
    if (UNLIKELY(!is_plain(cell, ref, access) || !cell->writable)) {
        return misused(), NULL;
    }
    mark(cell, ref);
    return LIKELY(!call.poisoned) ? cell : NULL;
}

static inline void not_null(Cell *cell, const Ref *ref)
{
    cell->nulls[ref->field >> 6] &= ~(1ull << (ref->field & 63));
}

EXPORT("set_i64") void set_i64(u32 h, u32 f, i64 value)
{
    const Ref *ref = ref_of(f);
    Cell *cell = writable(h, ref, A_I64);
    if (UNLIKELY(!cell)) return;
    if (UNLIKELY(!set_slot(ref, &cell->slots[ref->field], value))) misused();
    else not_null(cell, ref);
}

EXPORT("set_f64") void set_f64(u32 h, u32 f, f64 value)
{
    const Ref *ref = ref_of(f);
    Cell *cell = writable(h, ref, A_F64);
    if (UNLIKELY(!cell)) return;
    if (UNLIKELY(!set_number(ref, &cell->slots[ref->field], value))) misused();
    else not_null(cell, ref);
}

EXPORT("set_bytes") void set_bytes(u32 h, u32 f, u32 from, u32 length)
{
    const Ref *ref = ref_of(f);
    Cell *cell = writable(h, ref, A_BYTES);
    if (UNLIKELY(!cell)) return;
    if (UNLIKELY(length > FIELD_BYTES_MAX)) return misused();
    u8 *data = bump(length);
    from_guest(data, from, length);
    if (UNLIKELY(!set_text(ref, &cell->slots[ref->field], address_of(data), length))) misused();
    else not_null(cell, ref);
}

static void null_slot(Cell *cell, const Ref *ref)
{
    cell->slots[ref->field] = 0;
    cell->nulls[ref->field >> 6] |= 1ull << (ref->field & 63);
}

EXPORT("set_null") void set_null(u32 h, u32 f)
{
    const Ref *ref = ref_of(f);
    Cell *cell = writable(h, ref, ref->access);
    if (UNLIKELY(!cell)) return;
    if (UNLIKELY(ref->is_column || !ref->nullable || ref->access == A_ARRAY)) misused();
    else null_slot(cell, ref);
}

/* ---- whole records ---- */

static const Plan *plan_of(u32 number)
{
    if (call.poisoned || number >= call.guest->plans.count) return misused(), NULL;
    return FROM(call.guest->plans, Plan, number);
}

EXPORT("read") u32 read_fields_of(u32 h, u32 number, u32 to, u32 capacity)
{
    const Cell *cell = cell_of(h);
    const Plan *p = plan_of(number);
    if (UNLIKELY(!p)) return 0;
    if (UNLIKELY(cell->shape != p->shape)) return misused(), 0;
    const Ref *ref = FROM(p->refs, Ref, 0);
    u32 size = p->size;
    static u8 together[1024];
    i64 head[1 + PLAN_FIELDS_MAX];
    u64 nulls = 0;
    for (u32 i = 0; i < p->refs.count; i++) {
        i64 slot = cell->slots[ref[i].field];
        bool null = cell->nulls[ref[i].field >> 6] >> (ref[i].field & 63) & 1;
        nulls |= (u64)null << i;
        if (ref[i].access == A_BYTES && !null) {
            u32 length = slot_text(slot).length;
            slot = text_slot(size, length);
            size += length;
        }
        head[1 + i] = null ? 0 : slot;
    }
    head[0] = (i64)nulls;
    if (size > capacity) return size;
    /* One copy where it is short: what a copy between memories costs is mostly its beginning. */
    u8 *at = size <= sizeof together ? together : bump(size);
    if (call.poisoned) return 0;
    u8 *end = at + p->size;
    copy(at, head, p->size);
    for (u32 i = 0; i < p->refs.count; i++) {
        if (ref[i].access != A_BYTES || nulls >> i & 1) continue;
        Text text = slot_text(cell->slots[ref[i].field]);
        copy(end, bytes_at(text.at), text.length);
        end += text.length;
    }
    to_guest(to, at, size);
    return size;
}

static bool write_field(Cell *cell, const Ref *ref, i64 given, const u8 *data, u32 length)
{
    i64 *slot = &cell->slots[ref->field];
    if (ref->access == A_I64) return set_slot(ref, slot, given);
    if (ref->access == A_F64) {
        f64 number;
        copy(&number, &given, 8);
        return set_number(ref, slot, number);
    }
    Text text = slot_text(given);
    if ((u64)text.at + text.length > length) return false;
    return set_text(ref, slot, address_of(data) + text.at, text.length);
}

EXPORT("write") void write_fields_of(u32 h, u32 number, u32 from, u32 length)
{
    Cell *cell = cell_of(h);
    const Plan *p = plan_of(number);
    if (UNLIKELY(!p)) return;
    if (cell->shape != p->shape || !cell->writable || length > ROW_BYTES_MAX || length < p->size) {
        return misused();
    }
    u8 *data = bump(length);
    if (call.poisoned) return;
    from_guest(data, from, length);
    const i64 *given = (const i64 *)data;
    const Ref *ref = FROM(p->refs, Ref, 0);
    for (u32 i = 0; i < p->refs.count; i++, ref++) {
        bool null = (u64)given[0] >> i & 1;
        mark(cell, ref);
        if (call.poisoned) return;
        if (null && !ref->nullable) return misused();
        if (null) null_slot(cell, ref);
        else if (write_field(cell, ref, given[1 + i], data, length)) not_null(cell, ref);
        else return misused();
    }
}
