/* FOLD for one record of the event log: an outcome's rows, and its views by the projectors. */
#include "host.h"

static enum Status leave(enum Reason reason)
{
    mailbox.reason = reason;
    mailbox.counters[reason]++;
    return LEFT;
}

/* Name the type of each change; false where one is not plain. */
static bool types_of(Outcome *o)
{
    const Image *p = plan();
    for (u32 i = 0; i < o->change_count; i++) {
        Change *change = &o->changes[i];
        u32 at = change->table - TABLE_RECORDS_FIRST;
        if (at >= p->by_table.count) return false;
        u32 number = *FROM(p->by_table, u32, at);
        if (number == NONE) return false;
        change->type = FROM(p->records, RecordType, number);
        change->work = NULL;
    }
    return true;
}

static void publish_folded(const Outcome *o, const Item *item)
{
    Mailbox *m = &mailbox;
    State *state = &m->state;
    bool guessed = publish_miss();
    state->sequence = o->sequence;
    state->previous = item->hash ? item->hash : (i64)xxh64(item->value, item->value_length);
    if (o->registered_at > state->registered_at) state->registered_at = o->registered_at;
    state->newest_command_time = o->command_time;
    dedup_add(o->sequence, o->command_id, o->command_time);
    state->dedup_floor = dedup_floor;
    effects_publish(state, !guessed, !guessed);
    if (guessed) return;
    u32 n = m->outcomes++;
    copy(out_ids[n], o->command_id, ID_BYTES);
    out_times[n] = o->command_time;
    m->done++;
    m->rejected += o->code.length != 0;
}

enum Status fold_one(const Item *item)
{
    call_reset();
    Outcome o;
    if (!item->value || !outcome_read(&o, item->value, item->value_length)) return leave(R_KIND);
    if (o.application != plan()->application) return leave(R_SLOW);
    if (o.sequence != mailbox.state.sequence + 1 || !types_of(&o)) return leave(R_SLOW);
    const CommandType *command = command_of(o.name);
    if (!command && (o.code.length == 0 || o.name.length)) return leave(R_COMMAND);
    if (command && command->slow) return leave(R_SLOW);
    call.command = command;
    call.workspace = o.workspace;
    if (o.workspace_sequence) {
        space_load(o.workspace);
        space_kind(command);
    }
    if (command) context_begin(&o, o.name);
    effects_begin();
    effects_of(&o, command);
    if (call.poisoned) return leave(call.reason);
    publish_folded(&o, item);
    return FINISHED;
}
