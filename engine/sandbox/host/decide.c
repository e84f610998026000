/* DECIDE for one command, top to bottom: read it, admit it, run it, check it, project it, and make
 * it an outcome. What is out of the ordinary is left to the slow lane before anything is changed. */
#include "host.h"

typedef struct {
    const u8 *id;
    Text name, args, subject, kind, traceparent;
    i64 args_schema, expected, not_after;
    bool has_expected, has_not_after, wants_reply, has_principal, has_traceparent;
} Envelope;

static bool read_is_there(Reader *r)
{
    i64 branch = read_long(r);
    if (branch != 0 && branch != 1) r->bad = true;
    return branch == 1;
}

/* False for what is not a plain command in Avro (schemas/command.avsc). */
bool envelope_read(Envelope *e, const u8 *value, u32 length)
{
    Reader r = {value, value + length, false};
    i64 schema = plan()->command_schema;
    if (length < AVRO_HEADER_BYTES + ID_BYTES || length > COMMAND_BYTES_MAX) return false;
    if (!equal(value, "\xc3\x01", 2) || !equal(value + 2, &schema, 8)) return false;
    e->id = value + AVRO_HEADER_BYTES;
    r.at = e->id + ID_BYTES;
    e->name = read_string(&r);
    e->args_schema = read_long(&r);
    e->args = read_sized(&r);
    if ((e->has_expected = read_is_there(&r))) e->expected = read_long(&r);
    if ((e->has_not_after = read_is_there(&r))) e->not_after = read_long(&r);
    if ((e->wants_reply = read_is_there(&r))) {
        i64 partition = read_long(&r);
        if (partition != (i32)partition) r.bad = true;
        read_sized(&r);
    }
    if ((e->has_principal = read_is_there(&r))) {
        e->subject = read_string(&r);
        e->kind = read_string(&r);
    }
    if (read_is_there(&r)) read_string(&r); /* the token: nobody's business here */
    if ((e->has_traceparent = read_is_there(&r))) e->traceparent = read_string(&r);
    if (read_is_there(&r)) return false; /* a source: it is refused */
    return !r.bad && r.at == r.end && code_points(bytes_at(e->name.at), e->name.length) <= NAME_LENGTH_MAX;
}

/* Is it a workspace, and of this partition? */
static bool is_here(const u8 *key, u32 length)
{
    if (length == 0 || length > WORKSPACE_BYTES_MAX || !is_utf8(key, length)) return false;
    for (u32 i = 0; i < length; i++) {
        if (!key[i]) return false;
    }
    return murmur2(key, length) % plan()->partitions == plan()->partition;
}

const CommandType *command_of(Text name)
{
    const Image *p = plan();
    u32 low = 0, high = p->names.count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        const Named *named = FROM(p->names, Named, middle);
        const u8 *known = image + named->name.at;
        int by = compare_keys(bytes_at(name.at), name.length, known, named->name.count);
        if (by == 0) return named->is_old ? NULL : FROM(p->commands, CommandType, named->command);
        if (by < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static i64 id_time(const u8 *id) /* of a UUIDv7; -1 for any other */
{
    if (id[6] >> 4 != 7 || id[8] >> 6 != 2) return -1;
    i64 time = 0;
    for (u32 i = 0; i < 6; i++) time = time << 8 | id[i];
    return time;
}

/* Is it a command that has no outcome yet, and may have one (FORMATS 4)? */
static bool is_new(const u8 *id, i64 time, i64 command_time)
{
    i64 own = id_time(id);
    if (own >= 0 && (own > time + ID_AHEAD_MS_MAX || own <= dedup_floor_at(command_time))) return false;
    return dedup_find(id) == 0 && !dedup_is_full(command_time);
}

/* Does the workspace take this command now? */
static bool is_admitted(const Envelope *e, const CommandType *command, i64 registered_at)
{
    if (e->has_not_after && e->not_after < registered_at) return false;
    if (!space.known) return true;
    if (e->has_expected && e->expected != space.accepted) return false;
    const Image *p = plan();
    if (!space.begun) return p->kinds.count == 0 || command->creates.count;
    if (space.status != 0 || command->creates.count) return false;
    if (p->kinds.count == 0 || space.kind.length == 0) return true;
    u32 number = (u32)(command - FROM(p->commands, CommandType, 0));
    return call.kind && FROM(call.kind->commands, u8, 0)[number >> 3] >> (number & 7) & 1;
}

static void run_command(const Outcome *o, const CommandType *command)
{
    context_begin(o, (Text){address_of(image + command->name.at), command->name.count});
    call_begin(o->sequence * 8, false);
    cells[H_ARGS] = group_cell(&call.args, NULL);
    cells[H_CONTEXT] = group_cell(&call.context, NULL);
    if (command->result != NONE) {
        Work *result = bump(sizeof(Work));
        *result = (Work){.next = NULL};
        group_begin(&result->group, command->result);
        work_touched(result, command->result);
        call.result = result;
        cells[H_RESULT] = row_cell(result, true);
    }
    run_entry(command->guest, command->entry);
}

void value_header(u8 *value, u32 table, bool inactive)
{
    u32 application = plan()->application;
    value[0] = (u8)(application >> 24), value[1] = (u8)(application >> 16);
    value[2] = (u8)(application >> 8), value[3] = (u8)application;
    value[4] = (u8)(table >> 8), value[5] = (u8)table;
    value[6] = inactive ? INACTIVE : 0;
}

static u32 op_of(const Work *work)
{
    if (work->created) return OP_CREATE;
    if (work->active == work->was_active) return OP_UPDATE;
    return work->active ? OP_ACTIVATE : OP_DEACTIVATE;
}

/* Write the row that a record has become; the body is its end. */
static void body_of(Change *change)
{
    Work *work = change->work;
    const RecordType *type = change->type;
    u8 head[VALUE_HEADER_BYTES + 8];
    u32 head_length = VALUE_HEADER_BYTES;
    value_header(head, type->table, change->op == OP_DEACTIVATE);
    if (type->parent != NONE) {
        put_plain(head + VALUE_HEADER_BYTES, work->parent);
        head_length += 8;
    }
    Writer w;
    arena_writer(&w);
    u8 *from = w.at;
    write_raw(&w, head, head_length);
    group_write(&work->group, &w);
    change->value = arena_take(&w, from);
    if (call.poisoned) return;
    change->body = (Text){change->value.at + head_length, change->value.length - head_length};
    if (change->body.length > ROW_BYTES_MAX) poison(R_SIZE);
}

static void changes_of(Outcome *o)
{
    o->changes = bump(call.changes * sizeof(Change));
    for (Work *work = call.changed; work && !call.poisoned; work = work->next_changed) {
        const RecordType *type = work->record;
        Change *change = &o->changes[o->change_count++];
        *change = (Change){
            .table = type->table, .root = work->root, .parent = work->parent, .id = work->id,
            .op = op_of(work), .type = type, .work = work,
            .set = {address_of(work->touched), (shape_at(type->shape)->fields.count + 7) / 8},
            .before = work->before ? (i64)value_hash(work->row) : 0,
        };
        body_of(change);
    }
    Work *result = call.result;
    if (result && result->changed && !call.poisoned) {
        Writer w;
        arena_writer(&w);
        u8 *from = w.at;
        group_write(&result->group, &w);
        o->result = arena_take(&w, from);
        o->has_result = true;
    }
}

/* What the command came to: changes, or a rejection by the extension itself. */
static void conclude(Outcome *o)
{
    if (call.rejected) {
        o->workspace_sequence = space.begun ? space.last + 1 : 0;
        o->code = call.code, o->message = call.message;
        o->field = call.field, o->has_field = call.has_field;
    } else if (rules_hold()) {
        changes_of(o);
    }
}

/* From the first row that is missing on, all is guessed. Returns whether it is. */
bool publish_miss(void)
{
    if (call.missed && !mailbox.guessing) {
        mailbox.before = mailbox.state;
        mailbox.guessing = 1;
        guess_begin();
    }
    return mailbox.guessing;
}

static enum Status left(enum Reason reason)
{
    mailbox.reason = reason;
    mailbox.counters[reason]++;
    return LEFT;
}

/* The decided outcome becomes the state. */
static enum Status publish(const Outcome *o, const Item *item, bool wants_reply)
{
    bool guessed = publish_miss();
    Mailbox *m = &mailbox;
    State *state = &m->state;
    u32 n = m->outcomes;
    if (!guessed) {
        u8 *from = bytes_at(m->out + m->out_used);
        Writer w = {from, bytes_at(m->out + m->out_room), false};
        outcome_write(o, &w);
        u32 length = (u32)(w.at - from);
        if (w.full || length > OUTCOME_BYTES_MAX) return left(R_SIZE);
        state->previous = (i64)xxh64(from, length);
        m->out_used += length;
        out_ends[n] = m->out_used;
        out_indexes[n] = item->at;
        copy(out_ids[n], o->command_id, ID_BYTES);
        out_times[n] = o->command_time;
        if (wants_reply) out_replies[m->replies++] = n;
        m->outcomes++;
        m->done++;
        m->rejected += o->code.length != 0;
    }
    state->sequence = o->sequence;
    if (o->registered_at > state->registered_at) state->registered_at = o->registered_at;
    state->newest_command_time = o->command_time;
    dedup_add(o->sequence, o->command_id, o->command_time);
    state->dedup_floor = dedup_floor;
    effects_publish(state, false, !guessed);
    return FINISHED;
}

enum Status decide_one(const Item *item)
{
    call_reset();
    Envelope e;
    if (!item->value || !envelope_read(&e, item->value, item->value_length)) return left(R_ENVELOPE);
    if (!item->key || !is_here(item->key, item->key_length)) return left(R_WORKSPACE);
    const CommandType *command = command_of(e.name);
    if (!command) return left(R_COMMAND);
    if (command->slow) return left(R_SLOW);
    const State *state = &mailbox.state;
    i64 command_time = item->time > state->newest_command_time ? item->time : state->newest_command_time;
    if (!is_new(e.id, item->time, command_time)) return left(R_ANSWER);
    i64 registered_at = mailbox.now_ms > state->registered_at ? mailbox.now_ms : state->registered_at;
    Text workspace = {address_of(item->key), item->key_length};
    call.command = command;
    space_load(workspace);
    space_kind(command);
    if (!is_admitted(&e, command, registered_at)) return left(R_ADMISSION);
    Reader args = {bytes_at(e.args.at), bytes_at(e.args.at) + e.args.length, false};
    if (e.args_schema != command->fingerprint || !group_read(&call.args, command->args, &args, false)) {
        return left(R_ARGUMENTS);
    }
    call.args_ready = true;
    call.next_id = space.next_id;
    Outcome o = {
        .epoch = mailbox.epoch, .sequence = state->sequence + 1, .previous = state->previous,
        .workspace = workspace, .workspace_sequence = space.begun ? space.last + 1 : 1,
        .command_id = e.id, .input_offset = item->offset, .command_time = command_time,
        .registered_at = registered_at, .name = e.name, .application = plan()->application,
        .args_schema = e.args_schema, .args = e.args, .subject = e.subject, .kind = e.kind,
        .has_principal = e.has_principal, .traceparent = e.traceparent,
        .has_traceparent = e.has_traceparent,
    };
    run_command(&o, command);
    if (!call.poisoned) conclude(&o);
    if (call.poisoned && call.reason == R_NONE) { /* a row is missing that it can't go on without */
        publish_miss();
        return FINISHED;
    }
    if (call.poisoned) return left(call.reason);
    effects_begin();
    effects_of(&o, command);
    if (call.poisoned) return left(call.reason);
    return publish(&o, item, e.wants_reply);
}
