/* The unique index: which key a record's values have there, who has it, and what a change does to
 * it (host_unique.py). Fields of a unique never change while their record is active. */
#include "host.h"

typedef struct Taken { /* by the command at hand: an entry of the index, or its end */
    struct Taken *next;
    const u8 *key;
    u32 length;
    bool there;
} Taken;

static Taken *taken;

void unique_begin(void) { taken = NULL; }

/* A null is its type's zero; an enum stands there by its symbol's text. */
static Text column_text(const UniqueField *column, const Group *g)
{
    bool null = group_null(g, column->field);
    if (column->column == U_SYMBOL) {
        Span symbol = *FROM(column->symbols, Span, null ? 0 : (u32)g->slots[column->field]);
        return (Text){address_of(image + symbol.at), symbol.count};
    }
    if (!null) return slot_text(g->slots[column->field]);
    if (column->column != U_FIXED) return (Text){0, 0};
    u8 *zeros = bump(column->symbols.count); /* of a fixed: its size */
    if (!call.poisoned) fill(zeros, 0, column->symbols.count);
    return (Text){address_of(zeros), column->symbols.count};
}

/* Return the key of a record's values in the index; NULL where it is too long for a key. */
static u8 *index_key(const Unique *unique, const Group *g, u32 *length)
{
    u32 count = unique->fields.count, extra = 8;
    Text *texts = bump(count * (u32)sizeof(Text));
    for (u32 i = 0; i < count; i++) {
        const UniqueField *column = FROM(unique->fields, UniqueField, i);
        if (column->column >= U_TEXT) {
            texts[i] = column_text(column, g);
            extra += escaped_length(texts[i]);
        } else {
            extra += 8;
        }
        if (call.poisoned || extra > 4 * FIELD_BYTES_MAX) return NULL;
    }
    u8 *key = key_begin(TABLE_UNIQUE, extra, length), *to = key + *length - extra;
    put_long(to, unique->number);
    to += 8;
    for (u32 i = 0; i < count; i++) {
        const UniqueField *column = FROM(unique->fields, UniqueField, i);
        i64 slot = group_null(g, column->field) ? 0 : g->slots[column->field];
        if (column->column >= U_TEXT) {
            to = put_escaped(to, texts[i]);
        } else {
            if (column->column == U_DOUBLE) put_double(to, slot);
            else put_long(to, slot);
            to += 8;
        }
    }
    return *length > FIELD_BYTES_MAX ? NULL : key;
}

static bool is_taken(const u8 *key, u32 length)
{
    for (const Taken *t = taken; t; t = t->next) {
        if (t->length == length && equal(t->key, key, length)) return t->there;
    }
    u64 hash = key_hash(key, length);
    const Row *row = row_find(key, length, hash);
    if (!row) miss(key, length, false);
    return row && row->value != ABSENT;
}

static void take(const u8 *key, u32 length, bool there)
{
    Taken *t = bump(sizeof(Taken));
    *t = (Taken){taken, key, length, there};
    taken = t;
}

bool unique_holds(const Work *work, const Unique *unique, const Group *before)
{
    u32 length, length_before;
    u8 *key = index_key(unique, &work->group, &length);
    if (!key) return false;
    if (before && work->was_active) {
        u8 *key_before = index_key(unique, before, &length_before);
        if (!key_before || length != length_before || !equal(key, key_before, length)) return false;
        if (!work->active) take(key, length, false);
        return !call.poisoned;
    }
    if (is_taken(key, length)) return false;
    take(key, length, true);
    return !call.poisoned;
}

/* The rows of the index that a change writes. They follow from the change alone, so a fold needs
 * no rule and no other row. */
void unique_effects(const Change *change)
{
    const RecordType *type = change->type;
    if (change->op == OP_UPDATE || !type->uniques.count) return;
    Group read;
    const Group *g = &read;
    if (change->work) {
        g = &change->work->group;
    } else {
        Reader r = {bytes_at(change->body.at), bytes_at(change->body.at) + change->body.length, false};
        if (!group_read(&read, type->shape, &r, true)) {
            poison(R_ROW);
            return;
        }
    }
    bool there = change->op != OP_DEACTIVATE;
    u8 *holder = bump(8);
    if (!call.poisoned) put_plain(holder, change->id);
    for (u32 i = 0; i < type->uniques.count && !call.poisoned; i++) {
        u32 length;
        const Unique *unique = FROM(plan()->uniques, Unique, *FROM(type->uniques, u32, i));
        u8 *key = index_key(unique, g, &length);
        if (!key) {
            poison(R_SIZE);
            return;
        }
        u64 before = there ? 0 : row_hash(key, length, holder, 8);
        effect_put(TABLE_UNIQUE, DIGEST_UNIQUE, key, length, key_hash(key, length), holder,
            there ? 8 : 0, there, before);
    }
}

/* ---- what an extension asks of it ---- */

EXPORT("unique_key") u32 unique_key(u32 ordinal)
{
    if (UNLIKELY(call.poisoned || call.projecting || ordinal >= call.guest->uniques.count)) {
        return refuse();
    }
    u32 number = *FROM(call.guest->uniques, u32, ordinal);
    const Unique *unique = FROM(plan()->uniques, Unique, number);
    u32 shape = FROM(plan()->records, RecordType, unique->record)->shape;
    Group group;
    group_begin(&group, shape);
    for (u32 i = 0; i < shape_at(shape)->words; i++) group.nulls[i] = ~0ull;
    return hold((Cell){
        .shape = shape, .kind = C_UNIQUE, .writable = 1, .slots = group.slots,
        .nulls = group.nulls, .of = unique, .columns = NONE,
    });
}

/* The id of the active record that has the key's values, or 0. What this command made counts. */
EXPORT("unique") i64 unique_id(u32 k)
{
    const Cell *cell = cell_of(k);
    if (UNLIKELY(call.projecting || cell->kind != C_UNIQUE)) return refuse();
    const Unique *unique = cell->of;
    const RecordType *type = FROM(plan()->records, RecordType, unique->record);
    const Group asked = {.shape = type->shape, .nulls = cell->nulls, .slots = cell->slots};
    u32 length;
    u8 *key = index_key(unique, &asked, &length);
    if (!key) return refuse();
    for (const Work *work = call.changed; work; work = work->next_changed) {
        u32 own_length;
        if (work->record != type || !work->active) continue;
        u8 *own = index_key(unique, &work->group, &own_length);
        if (own && own_length == length && equal(own, key, length)) return work->id;
    }
    const Row *row = row_find(key, length, key_hash(key, length));
    if (UNLIKELY(!row)) {
        miss(key, length, false);
        poison(R_NONE);
        return 0;
    }
    if (row->value == ABSENT) return 0;
    i64 id = get_plain(row->value->bytes);
    for (const Work *work = call.changed; work; work = work->next_changed) {
        if (work->record == type && work->id == id && !work->active) return 0;
    }
    return id;
}
