/* What a projector may do: keys of the views that it declares, and the rows at them. */
#include "host.h"

static COLD u32 wrong(void)
{
    poison(R_PROJECTOR);
    return 0;
}

static const ViewType *view_of(u32 ordinal)
{
    if (call.poisoned || !call.projecting || ordinal >= call.guest->views.count) return NULL;
    u32 number = *FROM(call.guest->views, u32, ordinal);
    if (!is_one_of(number, call.projector->writes)) return NULL;
    return FROM(plan()->views, ViewType, number);
}

EXPORT("key") u32 view_key(u32 ordinal)
{
    const ViewType *view = view_of(ordinal);
    if (UNLIKELY(!view)) return wrong();
    Group group;
    group_begin(&group, view->key);
    for (u32 i = 0; i < shape_at(view->key)->words; i++) group.nulls[i] = ~0ull;
    return hold((Cell){
        .shape = view->key, .kind = C_KEY, .writable = 1, .slots = group.slots,
        .nulls = group.nulls, .of = view, .columns = NONE,
    });
}

static u32 escaped_length(Text text)
{
    const u8 *data = bytes_at(text.at);
    u32 length = text.length + 2;
    for (u32 i = 0; i < text.length; i++) length += data[i] == 0;
    return length;
}

static u8 *put_escaped(u8 *to, Text text)
{
    const u8 *data = bytes_at(text.at);
    for (u32 i = 0; i < text.length; i++) {
        *to++ = data[i];
        if (!data[i]) *to++ = 0xff;
    }
    *to++ = 0, *to++ = 0;
    return to;
}

/* rows.encode_double: bytes sort as numbers do. */
static void put_double(u8 *to, i64 slot)
{
    f64 number;
    copy(&number, &slot, 8);
    number += 0.0; /* -0.0 is 0.0 */
    u64 bits;
    copy(&bits, &number, 8);
    put_plain(to, (i64)(bits >> 63 ? ~bits : bits | SIGN));
}

static i64 get_double(const u8 *from)
{
    u64 bits = (u64)get_plain(from);
    return (i64)(bits >> 63 ? bits & ~SIGN : ~bits);
}

/* Read an escaped text back; NULL where the key ends within it. */
static const u8 *get_escaped(const u8 *at, const u8 *end, i64 *slot)
{
    u8 *to = bump((u32)(end - at)), *from = to;
    while (!call.poisoned && end - at >= 2) {
        if (at[0]) {
            *to++ = *at++;
        } else if (at[1] == 0) {
            *slot = text_slot(address_of(from), (u32)(to - from));
            return at + 2;
        } else {
            *to++ = 0;
            at += 2;
        }
    }
    return NULL;
}

/* Append columns to a key of `head` bytes that `key_begin` made; NULL where it is too long. */
u8 *columns_key(u32 table, const Shape *shape, const i64 *slots, u32 columns, u32 *length)
{
    u32 extra = 0;
    for (u32 i = 0; i < columns; i++) {
        const Field *column = field_at(shape, i);
        extra += column->access == A_BYTES ? escaped_length(slot_text(slots[i])) : 8;
        if (extra > 4 * FIELD_BYTES_MAX) return NULL;
    }
    u8 *key = key_begin(table, extra, length), *to = key + *length - extra;
    for (u32 i = 0; i < columns; i++) {
        const Field *column = field_at(shape, i);
        if (column->access == A_BYTES) {
            to = put_escaped(to, slot_text(slots[i]));
        } else {
            if (column->access == A_F64) put_double(to, slots[i]);
            else put_long(to, slots[i]);
            to += 8;
        }
    }
    return key;
}

/* A view's row at work; `row` is where it is stored, or NULL. */
static Work *view_work(const ViewType *view, const u8 *key, u32 length, u64 hash, Row *row)
{
    Work *work = work_find(key, length, hash);
    if (work) return work;
    work = work_new(key, length, hash);
    work->view = view;
    work->present = row && row->value != ABSENT;
    work_touched(work, view->shape);
    if (work->present && UNLIKELY(!work_load(work, row, NULL, view))) {
        poison(R_ROW);
        return NULL;
    }
    return work;
}

/* The row at a key; one that is not known is missed, and reads as absent. */
static Work *row_at(u32 k, const ViewType **view)
{
    const Cell *cell = cell_of(k);
    if (UNLIKELY(!call.projecting || cell->kind != C_KEY)) return wrong(), NULL;
    *view = cell->of;
    const Shape *shape = shape_at((*view)->key);
    for (u32 i = 0; i < shape->fields.count; i++) {
        if (UNLIKELY(cell->nulls[i >> 6] >> (i & 63) & 1)) return wrong(), NULL;
    }
    u32 length;
    u8 *key = columns_key((*view)->table, shape, cell->slots, shape->fields.count, &length);
    if (UNLIKELY(!key || length > FIELD_BYTES_MAX)) return wrong(), NULL;
    u64 hash = key_hash(key, length);
    Work *work = work_find(key, length, hash);
    if (work) return work;
    Row *row = row_find(key, length, hash);
    if (UNLIKELY(!row)) miss(key, length, false);
    return view_work(*view, key, length, hash, row);
}

static u32 hold_view(Work *work, bool writable)
{
    return hold((Cell){
        .shape = work->group.shape, .kind = C_GROUP, .writable = writable, .work = work,
        .slots = work->group.slots, .nulls = work->group.nulls, .columns = NONE,
    });
}

EXPORT("view") u32 view_row(u32 k)
{
    const ViewType *view;
    Work *work = row_at(k, &view);
    return work && work->present ? hold_view(work, false) : 0;
}

EXPORT("put") u32 put(u32 k)
{
    const ViewType *view;
    Work *work = row_at(k, &view);
    if (UNLIKELY(!work)) return 0;
    if (!work->present) {
        work->present = true;
        group_begin(&work->group, view->shape);
    }
    if (!work->changed) work_changing(work);
    return hold_view(work, true);
}

EXPORT("remove") void remove_row(u32 k)
{
    const ViewType *view;
    Work *work = row_at(k, &view);
    if (!work || !work->present) return;
    work->present = false;
    if (!work->changed) work_changing(work);
}
