/* What a command may do with records: find, make, activate, reject. */
#include "host.h"

static Cell row_cell(Work *work, bool writable)
{
    return (Cell){
        .shape = work->group.shape, .kind = C_GROUP, .writable = writable, .work = work,
        .slots = work->group.slots, .nulls = work->group.nulls, .columns = NONE,
    };
}

static COLD u32 refuse(void)
{
    poison(R_CALL);
    return 0;
}

/* The record type of a guest's ordinal; NULL where a command has none such. */
static const RecordType *type_of(u32 ordinal)
{
    if (call.poisoned || call.projecting || ordinal >= call.guest->records.count) return NULL;
    u32 number = *FROM(call.guest->records, u32, ordinal);
    return FROM(plan()->records, RecordType, number);
}

static u32 hold_row(Work *work)
{
    work->handle = hold(row_cell(work, true));
    return work->handle;
}

bool is_one_of(u32 number, Span list)
{
    for (u32 i = 0; i < list.count; i++) {
        if (*FROM(list, u32, i) == number) return true;
    }
    return false;
}

/* Read a stored value's fields; false where another application's schema is needed for that. */
bool work_load(Work *work, Row *row, const RecordType *record, const ViewType *view)
{
    const Value *value = row->value;
    u32 application = (u32)value->bytes[0] << 24 | (u32)value->bytes[1] << 16 |
        (u32)value->bytes[2] << 8 | value->bytes[3];
    u32 table = (u32)value->bytes[4] << 8 | value->bytes[5];
    CHECK(value->length >= VALUE_HEADER_BYTES);
    if (table != (record ? record->table : view->table)) return false;
    if (application != plan()->application &&
        !is_one_of(application, record ? record->readable : view->readable)) {
        return false;
    }
    Reader r = {value->bytes + VALUE_HEADER_BYTES, value->bytes + value->length, false};
    if (record && record->parent != NONE) {
        work->parent = get_plain(r.at);
        r.at += 8;
    }
    work->row = row;
    work->before = row->value;
    work->active = work->was_active = !(value->bytes[6] & INACTIVE);
    return group_read(&work->group, record ? record->shape : view->shape, &r, true);
}

u8 *record_key(const RecordType *type, i64 root, i64 id, u32 *length)
{
    u8 *key = key_begin(type->table, 16, length);
    put_long(key + *length - 16, root);
    put_long(key + *length - 8, id);
    return key;
}

/* Return a record's handle, 0 where there is none; one that is not known ends the run. */
static u32 load(const RecordType *type, i64 root, i64 id)
{
    u32 length;
    u8 *key = record_key(type, root, id, &length);
    u64 hash = key_hash(key, length);
    Work *work = work_find(key, length, hash);
    if (work) return work->handle;
    Row *row = row_find(key, length, hash);
    if (UNLIKELY(!row)) {
        miss(key, length, false);
        poison(R_NONE);
        return 0;
    }
    if (row->value == ABSENT) return 0;
    work = work_new(key, length, hash);
    work->record = type;
    work->id = id;
    work->root = root;
    work_touched(work, type->shape);
    if (UNLIKELY(!work_load(work, row, type, NULL))) {
        poison(R_ROW);
        return 0;
    }
    return hold_row(work);
}

EXPORT("record") u32 record(u32 ordinal, i64 id)
{
    const RecordType *type = type_of(ordinal);
    if (UNLIKELY(!type || type->parent != NONE)) return refuse();
    if (type->kind == SINGLETON) {
        if (UNLIKELY(id != 0)) return refuse();
    } else if (id < ID_FIRST || type->kind == OPERATION) {
        return 0;
    }
    return load(type, id, id);
}

static u32 make(const RecordType *type, i64 root, i64 id, i64 parent)
{
    u32 length;
    u8 *key = record_key(type, root, id, &length);
    Work *work = work_new(key, length, key_hash(key, length));
    work->record = type;
    work->id = id;
    work->root = root;
    work->parent = parent;
    work->created = true;
    work_touched(work, type->shape);
    group_begin(&work->group, type->shape);
    work_changing(work);
    return hold_row(work);
}

EXPORT("create") u32 create(u32 ordinal)
{
    const RecordType *type = type_of(ordinal);
    if (UNLIKELY(!type || type->parent != NONE)) return refuse();
    if (type->kind == SINGLETON) {
        if (UNLIKELY(load(type, 0, 0) != 0)) return refuse();
        return call.poisoned ? 0 : make(type, 0, 0, 0);
    }
    i64 id = call.next_id++;
    return make(type, id, id, 0);
}

/* The record that a handle stands for, not an item of one of its arrays. */
static Work *record_of(u32 h)
{
    const Cell *cell = cell_of(h);
    if (call.projecting || !cell->work || !cell->work->record || cell->bit) {
        refuse();
        return NULL;
    }
    return cell->work;
}

EXPORT("id") i64 record_id(u32 h)
{
    const Cell *cell = cell_of(h);
    if (UNLIKELY(!cell->work || !cell->work->record)) return refuse();
    return cell->work->id;
}

EXPORT("is_active") u32 is_active(u32 h)
{
    const Work *work = record_of(h);
    return work && work->active;
}

EXPORT("set_active") void set_active(u32 h, u32 active)
{
    Work *work = record_of(h);
    if (!work) return;
    if (work->created && !active) {
        refuse();
    } else if (work->active != (active != 0)) {
        work->active = active != 0;
        if (!work->changed) work_changing(work);
    }
}

/* ---- the end of a command that may not be ---- */

enum { TEXT_BYTES_MAX = 4 * MESSAGE_LENGTH_MAX };

static bool take_text(Text *text, u32 from, u32 length)
{
    if (length > TEXT_BYTES_MAX) return false;
    u8 *data = bump(length);
    from_guest(data, from, length);
    *text = (Text){address_of(data), length};
    return is_utf8(data, length) && code_points(data, length) <= MESSAGE_LENGTH_MAX;
}

static bool is_code(const u8 *code, u32 length)
{
    if (!length || length > CODE_LENGTH_MAX || code[0] < 'a' || code[0] > 'z') return false;
    for (u32 i = 1; i < length; i++) {
        u8 c = code[i];
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_') return false;
    }
    return true;
}

static bool same(Text text, Span known)
{
    return text.length == known.count && equal(bytes_at(text.at), image + known.at, known.count);
}

/* Find the message that goes with a code; false where it may not be said. */
static bool allowed(Text code, Text *message)
{
    const Image *p = plan();
    for (u32 i = 0; i < p->refusals.count; i++) {
        if (same(code, *FROM(p->refusals, Span, i))) return false;
    }
    Span errors = call.command->errors;
    for (u32 i = 0; i < errors.count; i++) {
        const ErrorCode *known = FROM(errors, ErrorCode, i);
        if (!same(code, known->code)) continue;
        if (!message->length) {
            *message = (Text){address_of(image + known->message.at), known->message.count};
        }
        return code_points(bytes_at(message->at), message->length) <= MESSAGE_LENGTH_MAX;
    }
    return errors.count == 0;
}

static void reject_text(u32 from, u32 length, u32 text, u32 text_length, u32 field, u32 field_length)
{
    Text code, message, name = {0, 0};
    if (call.poisoned || call.projecting || !take_text(&code, from, length) ||
        !take_text(&message, text, text_length) ||
        (field_length && !take_text(&name, field, field_length)) ||
        !is_code(bytes_at(code.at), code.length) || !allowed(code, &message)) {
        refuse();
        return;
    }
    if (call.rejected) return;
    call.rejected = true;
    call.code = code;
    call.message = message;
    call.field = name;
    call.has_field = name.length > 0;
}

EXPORT("reject") void reject(u32 code, u32 code_length, u32 text, u32 length)
{
    reject_text(code, code_length, text, length, 0, 0);
}

EXPORT("reject_field")
void reject_field(u32 code, u32 code_length, u32 text, u32 length, u32 field, u32 field_length)
{
    reject_text(code, code_length, text, length, field, field_length);
}

/* Logs are written by the slow lane. */
EXPORT("log") void log_text(u32 level, u32 text, u32 length)
{
    (void)level, (void)text, (void)length;
    refuse();
}
