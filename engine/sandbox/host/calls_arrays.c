/* Arrays: their items as handles. `length` is with the other fields. */
#include "host.h"

static COLD u32 no_array(void)
{
    poison(R_CALL);
    return 0;
}

/* The array of a field; NULL where it isn't one. */
static Array *array_of(const Cell *cell, const Ref *ref)
{
    if (cell->shape != ref->shape || ref->access != A_ARRAY) return NULL;
    if (cell->nulls[ref->field >> 6] >> (ref->field & 63) & 1) {
        /* Null reads as no items; it becomes an array when one is appended. */
        cell->slots[ref->field] = (i64)address_of(new_array(0));
    }
    return (Array *)bytes_at((u32)cell->slots[ref->field]);
}

static u32 hold_item(const Cell *parent, const Ref *ref, Array *array, u32 index)
{
    static u64 no_nulls;
    const Field *field = field_at(shape_at(ref->shape), ref->field);
    Cell cell = {
        .shape = field->item, .kind = C_GROUP, .writable = parent->writable, .work = parent->work,
        .bit = parent->bit ? parent->bit : (u16)(ref->field + 1), .columns = NONE,
    };
    if (field->records) {
        const Group *item = (const Group *)bytes_at((u32)array->entries[index]);
        cell.slots = item->slots;
        cell.nulls = item->nulls;
    } else {
        cell.slots = (i64 *)&array->entries[index];
        cell.nulls = &no_nulls;
    }
    return hold(cell);
}

EXPORT("item") u32 item(u32 h, u32 f, u32 index)
{
    const Cell *cell = cell_of(h);
    const Ref *ref = ref_of(f);
    Array *array = array_of(cell, ref);
    if (UNLIKELY(!array || index >= array->count)) return no_array();
    return hold_item(cell, ref, array, index);
}

static u64 new_item(const Field *field)
{
    if (!field->records) return (u64)begin_slot(field_at(shape_at(field->item), 0));
    Group *item = bump(sizeof(Group));
    group_begin(item, field->item);
    return address_of(item);
}

/* An array has moved while it grew: handles of its scalars follow it. */
static void follow(const u64 *before, const Array *array)
{
    for (u32 i = HANDLES_FIRST; i < call.count; i++) {
        const u64 *slot = (const u64 *)cells[i].slots;
        if (slot >= before && slot < before + array->count) {
            cells[i].slots = (i64 *)(array->entries + (slot - before));
        }
    }
}

EXPORT("append") u32 append_item(u32 h, u32 f)
{
    const Ref *ref = ref_of(f);
    Cell *cell = writable(h, ref, A_ARRAY);
    if (UNLIKELY(!cell)) return 0;
    Array *array = array_of(cell, ref);
    not_null(cell, ref);
    const u64 *before = array->entries;
    array_add(array, new_item(field_at(shape_at(ref->shape), ref->field)));
    if (call.poisoned) return 0;
    if (array->entries != before) follow(before, array);
    return hold_item(cell, ref, array, array->count - 1);
}
