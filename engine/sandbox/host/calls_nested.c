/* What a command may do with nested records, and the cursors over them and over a view's rows. */
#include "host.h"

/* The record that records of a type are nested in; NULL where the handle is none of its parents. */
static Work *above_of(u32 h, u32 ordinal, const RecordType **type)
{
    *type = type_of(ordinal);
    const Cell *cell = cell_of(h);
    const RecordType *records = FROM(plan()->records, RecordType, 0);
    if (UNLIKELY(!*type || !cell->work || !cell->work->record || cell->bit ||
            (*type)->parent != (u32)(cell->work->record - records))) {
        refuse();
        return NULL;
    }
    return cell->work;
}

EXPORT("child") u32 child(u32 h, u32 t)
{
    const RecordType *type;
    const Work *above = above_of(h, t, &type);
    return above ? make(type, above->root, call.next_id++, above->id) : 0;
}

EXPORT("child_of") u32 child_of(u32 h, u32 t, i64 id)
{
    const RecordType *type;
    const Work *above = above_of(h, t, &type);
    if (!above || type->kind == OPERATION || id < ID_FIRST) return 0;
    u32 handle = load(type, above->root, id);
    return handle && cell_of(handle)->work->parent == above->id ? handle : 0;
}

/* The active children among what the command itself has at work, in the order of their ids. */
static u32 own_children(const Work *above, const RecordType *type, i64 *ids)
{
    u32 count = 0;
    for (u32 i = 0; i < WORK_BUCKETS; i++) {
        for (const Work *work = works[i]; work; work = work->next) {
            if (work->record != type || work->root != above->root) continue;
            if (work->parent != above->id || !work->active) continue;
            u32 at = count++;
            if (!ids) continue;
            for (; at && ids[at - 1] > work->id; at--) ids[at] = ids[at - 1];
            ids[at] = work->id;
        }
    }
    return count;
}

/* The active children among the stored rows that the command has not at work. */
static u32 stored_children(const Work *above, Row *const *rows, u32 count, i64 *ids)
{
    u32 found = 0;
    for (u32 i = 0; i < count; i++) {
        const Row *row = rows[i];
        if (work_find(row->key, row->key_length, row->hash)) continue;
        const u8 *value = row->value->bytes;
        if (value[6] & INACTIVE || get_plain(value + VALUE_HEADER_BYTES) != above->id) continue;
        ids[found++] = get_long(row->key + row->key_length - 8);
    }
    return found;
}

/* All rows below the parent's document are read; more than a command may go through are left. */
static bool is_too_wide(const u8 *prefix, u32 length, u32 count)
{
    u32 more = 0;
    for (u32 i = 0; i < WORK_BUCKETS; i++) {
        for (const Work *work = works[i]; work; work = work->next) {
            more += work->key_length >= length && equal(work->key, prefix, length);
        }
    }
    return count + more > SCAN_ROWS_MAX;
}

bool children_of(const Work *above, const RecordType *type, i64 **ids, u32 *count)
{
    Row **rows = NULL;
    u32 stored = 0;
    if (!above->created) { /* else nothing is stored below it yet */
        u32 length;
        u8 *prefix = key_begin(type->table, 8, &length);
        put_long(prefix + length - 8, above->root);
        if (!range_rows(prefix, length, &rows, &stored)) {
            miss(prefix, length, true);
            return false;
        }
        if (is_too_wide(prefix, length, stored)) poison(R_CALL);
    }
    u32 own = own_children(above, type, NULL);
    i64 *list = bump((own + stored + own) * (u32)sizeof(i64)), *mine = list + own + stored;
    if (call.poisoned) return false;
    own_children(above, type, mine);
    stored = stored_children(above, rows, stored, list);
    u32 total = stored + own;
    for (u32 to = total; own;) { /* from the end, so that nothing is overwritten before it is read */
        bool last_is_own = !stored || mine[own - 1] > list[stored - 1];
        list[--to] = last_is_own ? mine[--own] : list[--stored];
    }
    if (ids) *ids = list;
    *count = total;
    return true;
}

EXPORT("children") u32 children(u32 h, u32 t)
{
    const RecordType *type;
    const Work *above = above_of(h, t, &type);
    if (!above) return 0;
    Cursor *cursor = bump(sizeof(Cursor));
    *cursor = (Cursor){.type = type, .root = above->root};
    if (!children_of(above, type, &cursor->ids, &cursor->count)) {
        poison(R_NONE);
        return 0;
    }
    return hold((Cell){.shape = NONE, .columns = NONE, .kind = C_CURSOR, .of = cursor});
}

/* ---- scans of a view ---- */

static bool has_columns(const Cell *key, u32 columns)
{
    for (u32 i = 0; i < columns; i++) {
        if (key->nulls[i >> 6] >> (i & 63) & 1) return false;
    }
    return true;
}

/* Lay the rows that this projection has put or removed over the stored ones; all in key order. */
static Work **works_below(const ViewType *view, const u8 *prefix, u32 length, Row *const *rows,
    u32 stored, u32 *count)
{
    u32 most = stored + call.view_changes;
    Work **found = bump(most * (u32)sizeof(Work *));
    *count = 0;
    if (call.poisoned) return found;
    for (u32 i = 0; i < stored; i++) {
        Work *work = view_work(view, rows[i]->key, rows[i]->key_length, rows[i]->hash, rows[i]);
        if (call.poisoned) return found;
        found[(*count)++] = work;
    }
    for (Work *work = call.views_changed; work; work = work->next_changed) {
        if (work->key_length < length || !equal(work->key, prefix, length)) continue;
        u32 at = 0, end = *count; /* where it is, or belongs */
        while (at < end) {
            u32 middle = (at + end) / 2;
            const Work *other = found[middle];
            int by = compare_keys(other->key, other->key_length, work->key, work->key_length);
            if (by < 0) at = middle + 1;
            else end = middle;
        }
        if (at < *count && found[at] == work) continue;
        for (u32 i = (*count)++; i > at; i--) found[i] = found[i - 1];
        found[at] = work;
    }
    u32 kept = 0;
    for (u32 i = 0; i < *count; i++) {
        if (found[i]->present) found[kept++] = found[i];
    }
    *count = kept;
    return found;
}

EXPORT("scan") u32 scan(u32 k, u32 columns, u32 reverse)
{
    const Cell *cell = cell_of(k);
    if (UNLIKELY(!call.projecting || cell->kind != C_KEY)) return wrong();
    const ViewType *view = cell->of;
    const Shape *shape = shape_at(view->key);
    if (UNLIKELY(columns > shape->fields.count || !has_columns(cell, columns))) return wrong();
    u32 length, stored;
    u8 *prefix = columns_key(view->table, shape, cell->slots, columns, &length);
    if (UNLIKELY(!prefix || length > FIELD_BYTES_MAX)) return wrong();
    Row **rows;
    Cursor *cursor = bump(sizeof(Cursor));
    *cursor = (Cursor){.view = view, .reverse = reverse != 0};
    if (!range_rows(prefix, length, &rows, &stored)) { /* it reads as empty, as a missing row does */
        miss(prefix, length, true);
        rows = NULL;
        stored = 0;
    }
    cursor->works = works_below(view, prefix, length, rows, stored, &cursor->count);
    if (call.poisoned) return 0;
    if (call.bounded && cursor->count > SCAN_ROWS_MAX) return wrong();
    return hold((Cell){.shape = NONE, .columns = NONE, .kind = C_CURSOR, .of = cursor});
}

/* Read the columns of a row's key back; false where they are none of the shape. */
static bool columns_of(const Work *work, const Shape *shape, i64 *slots)
{
    const u8 *at = work->key + 2 + call.workspace.length + 1, *end = work->key + work->key_length;
    for (u32 i = 0; i < shape->fields.count; i++) {
        const Field *column = field_at(shape, i);
        if (column->access == A_BYTES) {
            at = get_escaped(at, end, &slots[i]);
        } else if (end - at < 8) {
            at = NULL;
        } else {
            slots[i] = column->access == A_F64 ? get_double(at) : get_long(at);
            if (column->kind == BOOLEAN) slots[i] = slots[i] != 0;
            at += 8;
        }
        if (!at) return false;
    }
    return at == end;
}

static u32 next_row(Cursor *cursor)
{
    while (cursor->next < cursor->count) {
        u32 at = cursor->next++;
        Work *work = cursor->works[cursor->reverse ? cursor->count - 1 - at : at];
        if (!work->present) continue; /* removed since */
        const Shape *shape = shape_at(cursor->view->key);
        i64 *slots = bump(shape->fields.count * 8);
        if (call.poisoned || !columns_of(work, shape, slots)) return wrong();
        Cell cell = row_cell(work, false);
        cell.columns = cursor->view->key;
        cell.column_slots = slots;
        return hold(cell);
    }
    return 0;
}

EXPORT("next") u32 next_of(u32 c)
{
    const Cell *cell = cell_of(c);
    if (UNLIKELY(cell->kind != C_CURSOR)) return call.projecting ? wrong() : refuse();
    Cursor *cursor = (Cursor *)cell->of;
    if (cursor->view) return next_row(cursor);
    if (cursor->next == cursor->count) return 0;
    return load(cursor->type, cursor->root, cursor->ids[cursor->next++]);
}
