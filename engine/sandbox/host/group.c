/* Groups: the values of one record, read from Avro and written again by its shape. */
#include "host.h"

void group_set_null(Group *g, u32 f, bool null)
{
    u64 bit = 1ull << (f & 63);
    if (null) g->nulls[f >> 6] |= bit;
    else g->nulls[f >> 6] &= ~bit;
}

static void group_room(Group *g, u32 shape)
{
    const Shape *s = shape_at(shape);
    g->shape = shape;
    g->nulls = bump((s->words + s->fields.count) * 8);
    g->slots = (i64 *)(g->nulls + s->words);
    for (u32 i = 0; i < s->words; i++) g->nulls[i] = 0;
}

static Array *new_array(u32 room)
{
    Array *array = bump(sizeof(Array));
    array->count = 0;
    array->room = room;
    array->entries = bump(room * 8);
    return array;
}

static i64 begin_slot(const Field *field)
{
    if (field->kind == ARRAY) return (i64)address_of(new_array(0));
    if (field->access == A_BYTES) {
        Text zero = slot_text(field->zero);
        return text_slot(address_of(image + zero.at), zero.length);
    }
    return field->zero;
}

void group_begin(Group *g, u32 shape)
{
    group_room(g, shape);
    const Shape *s = shape_at(shape);
    for (u32 i = 0; i < s->fields.count; i++) {
        const Field *field = field_at(s, i);
        g->slots[i] = begin_slot(field);
        if (field->null_default) group_set_null(g, i, true);
    }
}

static i64 read_float(Reader *r)
{
    float number = 0;
    if (UNLIKELY(r->end - r->at < 4)) r->bad = true;
    else copy(&number, r->at, 4), r->at += 4;
    f64 wide = number;
    i64 slot;
    copy(&slot, &wide, 8);
    return slot;
}

static i64 read_double(Reader *r)
{
    i64 slot = 0;
    if (UNLIKELY(r->end - r->at < 8)) r->bad = true;
    else copy(&slot, r->at, 8), r->at += 8;
    return slot;
}

static i64 read_array(Reader *r, const Field *field, bool trusted);

static i64 read_slot(Reader *r, const Field *field, bool trusted)
{
    i64 number;
    Text text;
    switch (field->kind) {
    case LONG: return read_long(r);
    case BOOLEAN: return read_boolean(r);
    case INT:
        number = read_long(r);
        if (UNLIKELY(number != (i32)number)) r->bad = true;
        return number;
    case ENUM:
        number = read_long(r);
        if (UNLIKELY((u64)number >= field->size)) r->bad = true;
        return number;
    case FLOAT: return read_float(r);
    case DOUBLE: return read_double(r);
    case STRING: text = trusted ? read_sized(r) : read_string(r); break;
    case BYTES: text = read_sized(r); break;
    case FIXED: text = read_raw(r, field->size); break;
    case ARRAY: return read_array(r, field, trusted);
    default: r->bad = true; return 0;
    }
    return text_slot(text.at, text.length);
}

static bool read_fields(Group *g, Reader *r, bool trusted)
{
    const Shape *s = shape_at(g->shape);
    const Field *field = field_at(s, 0);
    for (u32 i = 0, n = s->fields.count; i < n; i++, field++) {
        if (field->nullable && !read_branch(r)) {
            g->slots[i] = field->kind == ARRAY ? (i64)address_of(new_array(0)) : 0;
            group_set_null(g, i, true);
        } else {
            g->slots[i] = read_slot(r, field, trusted);
        }
        if (UNLIKELY(r->bad)) return false;
    }
    return true;
}

static u64 read_item(Reader *r, const Field *field, bool trusted)
{
    if (!field->records) return (u64)read_slot(r, field_at(shape_at(field->item), 0), trusted);
    Group *item = bump(sizeof(Group));
    group_room(item, field->item);
    read_fields(item, r, trusted);
    return address_of(item);
}

static void array_add(Array *array, u64 entry)
{
    if (array->count == array->room) {
        u32 room = array->room ? array->room * 2 : 4;
        u64 *wider = bump(room * 8);
        if (call.poisoned) return;
        copy(wider, array->entries, array->count * 8);
        array->entries = wider;
        array->room = room;
    }
    array->entries[array->count++] = entry;
}

static i64 read_array(Reader *r, const Field *field, bool trusted)
{
    Array *array = new_array(0);
    for (;;) {
        i64 count = read_long(r);
        const u8 *end = NULL;
        if (count < 0) {
            i64 length = read_long(r);
            if (length < 0 || length > r->end - r->at) r->bad = true;
            else end = r->at + length;
            count = -count;
        }
        if (r->bad || count == 0) break;
        /* Every entry takes a byte, so a count that lies ends where the data does. */
        for (; count && !r->bad && !call.poisoned; count--) {
            array_add(array, read_item(r, field, trusted));
        }
        if (end && end != r->at) r->bad = true;
        if (call.poisoned) r->bad = true;
    }
    return (i64)address_of(array);
}

bool group_read(Group *g, u32 shape, Reader *r, bool trusted)
{
    group_room(g, shape);
    return read_fields(g, r, trusted) && r->at == r->end && !call.poisoned;
}

static void write_slot(Writer *w, const Field *field, i64 slot)
{
    Text text = slot_text(slot);
    f64 wide;
    float number;
    switch (field->kind) {
    case BOOLEAN: write_byte(w, (u8)slot); return;
    case INT: case LONG: case ENUM: write_long(w, slot); return;
    case FLOAT:
        copy(&wide, &slot, 8);
        number = (float)wide;
        if (wide != wide) write_raw(w, "\x00\x00\xc0\x7f", 4);
        else write_raw(w, &number, 4);
        return;
    case DOUBLE:
        copy(&wide, &slot, 8);
        if (wide != wide) write_raw(w, "\x00\x00\x00\x00\x00\x00\xf8\x7f", 8);
        else write_raw(w, &slot, 8);
        return;
    case STRING: case BYTES: write_text(w, text); return;
    case FIXED: write_raw(w, bytes_at(text.at), text.length); return;
    }
    const Array *array = (const Array *)bytes_at((u32)slot);
    if (array->count) write_long(w, array->count);
    for (u32 i = 0; i < array->count; i++) {
        if (field->records) group_write((const Group *)bytes_at((u32)array->entries[i]), w);
        else write_slot(w, field_at(shape_at(field->item), 0), (i64)array->entries[i]);
    }
    write_byte(w, 0);
}

void group_write(const Group *g, Writer *w)
{
    const Shape *s = shape_at(g->shape);
    const Field *field = field_at(s, 0);
    for (u32 i = 0, n = s->fields.count; i < n; i++, field++) {
        if (field->nullable) {
            bool null = group_null(g, i);
            write_byte(w, null ? 0 : 2);
            if (null) continue;
        }
        write_slot(w, field, g->slots[i]);
    }
}
