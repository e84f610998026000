/* Runs the projectors: for each change of an outcome in order, then for the command itself. */
#include "host.h"

enum { /* the fields of CONTEXT (host_values.py) */
    X_WORKSPACE, X_COMMAND_ID, X_NAME, X_COMMAND_TIME, X_REGISTERED_AT, X_SEQUENCE,
    X_WORKSPACE_SEQUENCE, X_SUBJECT, X_KIND, X_CODE, X_OP, X_TYPE, X_ID, X_ROOT, X_PARENT, X_FIELDS,
};
enum { EVENT_EXECUTE = 4, EVENT_REJECTED = 5 }; /* behind the four kinds of changes */

static i64 text_of(Text t) { return text_slot(t.at, t.length); }

void context_begin(const Outcome *o, Text name)
{
    Group *g = &call.context;
    g->shape = plan()->context;
    g->nulls = bump((1 + X_FIELDS) * 8);
    g->slots = (i64 *)(g->nulls + 1);
    fill(g->nulls, 0, (1 + X_FIELDS) * 8);
    i64 *slot = g->slots;
    slot[X_WORKSPACE] = text_of(o->workspace);
    slot[X_COMMAND_ID] = text_slot(address_of(o->command_id), ID_BYTES);
    slot[X_NAME] = text_of(name);
    slot[X_COMMAND_TIME] = o->command_time;
    slot[X_REGISTERED_AT] = o->registered_at;
    slot[X_SEQUENCE] = o->sequence;
    slot[X_WORKSPACE_SEQUENCE] = o->workspace_sequence;
    slot[X_SUBJECT] = text_of(o->subject);
    slot[X_KIND] = text_of(o->kind);
    slot[X_CODE] = text_of(o->code);
    u64 absent = o->has_principal ? 0 : 1u << X_SUBJECT | 1u << X_KIND;
    *g->nulls = absent | 1u << X_OP | 1u << X_TYPE | 1u << X_ID | 1u << X_ROOT | 1u << X_PARENT;
}

static void context_event(Span type, u32 op, const Change *change)
{
    Group *g = &call.context;
    g->slots[X_OP] = op;
    g->slots[X_TYPE] = text_slot(address_of(image + type.at), type.count);
    *g->nulls &= ~(u64)(1u << X_OP | 1u << X_TYPE);
    if (change) {
        g->slots[X_ID] = change->id;
        g->slots[X_ROOT] = change->root;
        g->slots[X_PARENT] = change->parent;
        *g->nulls &= ~(u64)(1u << X_ID | 1u << X_ROOT | 1u << X_PARENT);
    } else {
        g->slots[X_ID] = g->slots[X_ROOT] = g->slots[X_PARENT] = 0;
        *g->nulls |= 1u << X_ID | 1u << X_ROOT | 1u << X_PARENT;
    }
}

Cell group_cell(const Group *g, Work *work)
{
    return (Cell){
        .shape = g->shape, .kind = C_GROUP, .slots = g->slots, .nulls = g->nulls, .work = work,
        .columns = NONE,
    };
}

/* The arguments, read when the first projector wants them: a fold has none before. */
static bool args_ready(const Outcome *o, const CommandType *command)
{
    if (call.args_ready) return true;
    Reader r = {bytes_at(o->args.at), bytes_at(o->args.at) + o->args.length, false};
    if (o->args_schema != command->fingerprint || !group_read(&call.args, command->args, &r, false)) {
        poison(R_ARGUMENTS);
        return false;
    }
    call.args_ready = true;
    return true;
}

/* The changed record as it is now. Deciding has it at work; folding reads it. */
static Work *after_image(Change *change)
{
    if (change->work) return change->work;
    Work *work = bump(sizeof(Work));
    *work = (Work){.record = change->type, .id = change->id, .root = change->root,
        .parent = change->parent};
    Reader r = {bytes_at(change->body.at), bytes_at(change->body.at) + change->body.length, false};
    if (!group_read(&work->group, change->type->shape, &r, true)) {
        poison(R_PROJECTOR);
        return NULL;
    }
    change->work = work;
    return work;
}

static bool shows(const Projector *projector)
{
    if (!call.kind) return true;
    for (u32 i = 0; i < projector->writes.count; i++) {
        u32 view = *FROM(projector->writes, u32, i);
        if (!(FROM(call.kind->views, u8, 0)[view >> 3] >> (view & 7) & 1)) return false;
    }
    return true;
}

static void run_event(const Outcome *o, const CommandType *command, Span projectors, Span type,
    u32 op, Change *change)
{
    for (u32 i = 0; i < projectors.count && !call.poisoned; i++) {
        const Projector *projector =
            FROM(plan()->projectors, Projector, *FROM(projectors, u32, i));
        if (!shows(projector)) continue;
        Work *event = change ? after_image(change) : NULL;
        if (!args_ready(o, command)) return;
        context_event(type, op, change);
        call_begin(o->sequence * 8 + 1, true);
        call.projector = projector;
        cells[H_ARGS] = group_cell(&call.args, NULL);
        cells[H_CONTEXT] = group_cell(&call.context, NULL);
        if (event) cells[H_EVENT] = group_cell(&event->group, event);
        run_entry(projector->guest, projector->entry);
    }
}

/* A view's changed row as it will be stored; the same as before is no change. */
static void view_effect(Work *work)
{
    const ViewType *view = work->view;
    u64 before = work->before ? value_hash(work->row) : 0;
    if (!work->present) {
        if (work->before) {
            effect_put(view->table, view->digest, work->key, work->key_length, work->key_hash,
                NULL, 0, false, before);
        }
        return;
    }
    Writer w;
    arena_writer(&w);
    u8 *from = w.at;
    u8 head[VALUE_HEADER_BYTES];
    value_header(head, view->table, false);
    write_raw(&w, head, sizeof head);
    group_write(&work->group, &w);
    Text value = arena_take(&w, from);
    if (value.length > VALUE_HEADER_BYTES + ROW_BYTES_MAX) poison(R_SIZE);
    if (call.poisoned) return;
    if (work->before && work->before->length == value.length &&
        equal(work->before->bytes, from, value.length)) {
        return;
    }
    effect_put(view->table, view->digest, work->key, work->key_length, work->key_hash, from,
        value.length, true, before);
}

void project(Outcome *o, const CommandType *command)
{
    bool accepted = o->code.length == 0;
    if (!command || (!accepted && (o->workspace_sequence == 0 || !command->rejected.count))) return;
    if (o->workspace_sequence == 0) call.kind = NULL;
    call.context.slots[X_CODE] = text_of(o->code); /* a command that was rejected had none yet */
    call.context.slots[X_WORKSPACE_SEQUENCE] = o->workspace_sequence;
    for (u32 i = 0; i < o->change_count && !call.poisoned; i++) {
        Change *change = &o->changes[i];
        Span projectors = change->type->events[change->op];
        run_event(o, command, projectors, change->type->name, change->op, change);
    }
    Span closing = accepted ? command->execute : command->rejected;
    u32 op = accepted ? EVENT_EXECUTE : EVENT_REJECTED;
    if (!call.poisoned) run_event(o, command, closing, command->name, op, NULL);
    for (Work *work = call.views_changed; work && !call.poisoned; work = work->next_changed) {
        view_effect(work);
    }
}
