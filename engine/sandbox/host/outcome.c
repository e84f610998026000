/* The outcome's record (schemas/outcome.avsc), written and read field by field in its order. */
#include "host.h"

static void write_optional(Writer *w, bool there, Text text)
{
    write_byte(w, there ? 2 : 0);
    if (there) write_text(w, text);
}

static void write_change(Writer *w, const Change *change)
{
    write_long(w, change->table);
    write_long(w, change->root);
    write_long(w, change->parent);
    write_long(w, change->id);
    write_long(w, change->op);
    write_text(w, change->set);
    write_long(w, change->before);
    write_text(w, change->body);
}

void outcome_write(const Outcome *o, Writer *w)
{
    i64 schema = plan()->outcome_schema;
    write_raw(w, "\xc3\x01", 2);
    write_raw(w, &schema, 8);
    write_long(w, o->epoch);
    write_long(w, o->sequence);
    write_long(w, o->previous);
    write_byte(w, 0); /* skippable */
    write_text(w, o->workspace);
    write_long(w, o->workspace_sequence);
    write_raw(w, o->command_id, ID_BYTES);
    write_long(w, 0); /* input: commands */
    write_long(w, o->input_offset);
    write_long(w, o->command_time);
    write_long(w, o->registered_at);
    write_text(w, o->name);
    write_long(w, o->application);
    write_long(w, o->args_schema);
    write_text(w, o->args);
    write_text(w, o->code);
    write_text(w, o->message);
    write_optional(w, o->has_field, o->field);
    if (o->change_count) write_long(w, o->change_count);
    for (u32 i = 0; i < o->change_count; i++) write_change(w, &o->changes[i]);
    write_byte(w, 0);
    write_byte(w, 0); /* emits */
    write_byte(w, 0); /* timers */
    write_optional(w, o->has_result, o->result);
    write_byte(w, o->has_principal ? 2 : 0);
    if (o->has_principal) write_text(w, o->subject), write_text(w, o->kind);
    write_byte(w, 0); /* source */
    write_optional(w, o->has_traceparent, o->traceparent);
}

static Text read_optional(Reader *r, bool *there)
{
    i64 branch = read_long(r);
    if (branch != 0 && branch != 1) r->bad = true;
    *there = branch == 1;
    return *there ? read_sized(r) : (Text){0, 0};
}

static void read_change(Reader *r, Change *change)
{
    change->table = (u32)read_long(r);
    change->root = read_long(r);
    change->parent = read_long(r);
    change->id = read_long(r);
    change->op = (u32)read_long(r);
    change->set = read_sized(r);
    change->before = read_long(r);
    change->body = read_sized(r);
    if (change->table > 0xffff || change->op > 3) r->bad = true;
}

static bool read_changes(Reader *r, Outcome *o)
{
    i64 count = read_long(r);
    o->change_count = 0;
    if (count == 0) return true;
    /* One block, as `outcome_write` makes it; each change has 8 bytes at least. */
    if (r->bad || count < 0 || count > (r->end - r->at) / 8) return false;
    o->changes = bump((u32)count * sizeof(Change));
    if (call.poisoned) return false;
    for (; o->change_count < count && !r->bad; o->change_count++) {
        read_change(r, &o->changes[o->change_count]);
    }
    return read_long(r) == 0 && !r->bad;
}

/* False for whatever this engine's own outcomes don't look like; the slow lane knows what it is.
 * Texts are not looked at again: they were UTF-8 when the outcome was made. */
bool outcome_read(Outcome *o, const u8 *value, u32 length)
{
    Reader r = {value, value + length, false};
    i64 schema = plan()->outcome_schema;
    if (length < AVRO_HEADER_BYTES || !equal(value, "\xc3\x01", 2) || !equal(value + 2, &schema, 8)) {
        return false;
    }
    r.at += AVRO_HEADER_BYTES;
    o->epoch = read_long(&r);
    o->sequence = read_long(&r);
    o->previous = read_long(&r);
    read_boolean(&r);
    o->workspace = read_sized(&r);
    o->workspace_sequence = read_long(&r);
    if (r.end - r.at < ID_BYTES) return false;
    o->command_id = r.at;
    r.at += ID_BYTES;
    if (read_long(&r) != 0) return false; /* from emits or timers */
    o->input_offset = read_long(&r);
    o->command_time = read_long(&r);
    o->registered_at = read_long(&r);
    o->name = read_sized(&r);
    o->application = read_long(&r);
    o->args_schema = read_long(&r);
    o->args = read_sized(&r);
    o->code = read_sized(&r);
    o->message = read_sized(&r);
    o->field = read_optional(&r, &o->has_field);
    if (!read_changes(&r, o)) return false;
    if (read_long(&r) != 0 || read_long(&r) != 0) return false; /* emits, timers */
    o->result = read_optional(&r, &o->has_result);
    i64 branch = read_long(&r);
    o->has_principal = branch == 1;
    if (o->has_principal) o->subject = read_sized(&r), o->kind = read_sized(&r);
    if (branch < 0 || branch > 1 || read_long(&r) != 0) return false; /* source */
    o->traceparent = read_optional(&r, &o->has_traceparent);
    return !r.bad && r.at == r.end && o->workspace.length <= WORKSPACE_BYTES_MAX;
}
