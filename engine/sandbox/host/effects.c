/* What an outcome does to the rows: records, its workspace, and what projectors made of it.
 *
 * Deciding and folding share this, so that a replay gives the same rows byte for byte. Nothing is
 * changed before `effects_publish`. */
#include "host.h"

enum { EFFECTS_ROOM_FIRST = 64, SPACE_HEAD_BYTES = 27, GONE = 1 };

Space space;
static Effect *effects;
static u32 effect_count, effect_room;
static u64 digest_of[DIGESTS_MAX];
static u8 digest_touched[DIGESTS_MAX];

void effects_begin(void) { effect_count = 0; }

void effect_put(u32 table, u32 digest, const u8 *key, u32 key_length, u64 hash, const u8 *value,
    u32 length, bool there, u64 before)
{
    if (UNLIKELY(effect_count == effect_room)) {
        u32 wider = effect_room ? effect_room * 2 : EFFECTS_ROOM_FIRST;
        Effect *made = keep(wider * sizeof(Effect));
        copy(made, effects, effect_count * sizeof(Effect));
        if (effect_room) drop(effects, effect_room * sizeof(Effect));
        effects = made;
        effect_room = wider;
    }
    u64 after = there ? row_hash(key, key_length, value, length) : 0;
    effects[effect_count++] = (Effect){
        .table = table, .digest = digest, .key = key, .key_length = key_length, .key_hash = hash,
        .value = value, .length = length, .there = there, .before = before, .after = after,
    };
}

/* `counts`: these are no guesses, so the digests move too. */
void effects_publish(const State *state, bool confirmed, bool counts)
{
    change_begin(confirmed);
    for (u32 i = 0; i < effect_count; i++) {
        const Effect *e = &effects[i];
        change_put(e->key, e->key_length, e->key_hash, e->value, e->length, e->there, e->after);
        if (counts) {
            digest_of[e->digest] += e->after - e->before;
            digest_touched[e->digest] = 1;
        }
    }
    change_end(state);
}

void space_load(Text workspace)
{
    call.workspace = workspace;
    u32 length;
    u8 *key = key_begin(TABLE_WORKSPACE, 0, &length);
    Row *row = row_find(key, length, key_hash(key, length));
    space = (Space){.known = row != NULL, .next_id = ID_FIRST};
    if (!row) {
        miss(key, length, false);
        return;
    }
    if (row->value == ABSENT) return;
    const u8 *value = row->value->bytes;
    u32 kind_length = (u32)value[25] << 8 | value[26];
    CHECK(row->value->length >= SPACE_HEAD_BYTES + kind_length);
    space.begun = true;
    space.row = row;
    space.last = get_plain(value);
    space.accepted = get_plain(value + 8);
    space.next_id = get_plain(value + 16);
    space.status = value[24];
    space.kind = (Text){address_of(value + SPACE_HEAD_BYTES), kind_length};
    space.recent = value + SPACE_HEAD_BYTES + kind_length;
    space.recent_count = (row->value->length - SPACE_HEAD_BYTES - kind_length) / 8;
}

/* ---- records ---- */

static Text row_value(const Change *change)
{
    const RecordType *type = change->type;
    u32 head = VALUE_HEADER_BYTES + (type->parent != NONE ? 8 : 0);
    u8 *value = bump(head + change->body.length);
    if (call.poisoned) return (Text){0, 0};
    value_header(value, type->table, change->op == OP_DEACTIVATE);
    if (type->parent != NONE) put_plain(value + VALUE_HEADER_BYTES, change->parent);
    copy(value + head, bytes_at(change->body.at), change->body.length);
    return (Text){address_of(value), head + change->body.length};
}

static void record_effects(Change *change)
{
    const RecordType *type = change->type;
    if (type->kind == OPERATION) return; /* it lives in its outcome only */
    const u8 *key;
    u32 length;
    u64 hash;
    if (change->work) {
        key = change->work->key, length = change->work->key_length, hash = change->work->key_hash;
    } else {
        key = record_key(type, change->root, change->id, &length);
        hash = key_hash(key, length);
        change->value = row_value(change);
    }
    if (call.poisoned) return;
    effect_put(type->table, type->digest, key, length, hash, bytes_at(change->value.at),
        change->value.length, true, (u64)change->before);
    unique_effects(change);
}

/* ---- the workspace ---- */

/* Write the page of a workspace's log that is full with this outcome. */
static void page_effect(const Outcome *o)
{
    u32 length;
    u8 *key = key_begin(TABLE_WORKSPACE_LOG, 8, &length);
    put_long(key + length - 8, (o->workspace_sequence - 1) / WORKSPACE_PAGE);
    u8 *value = bump(WORKSPACE_PAGE * 8);
    copy(value, space.recent, (WORKSPACE_PAGE - 1) * 8);
    put_plain(value + (WORKSPACE_PAGE - 1) * 8, o->sequence);
    effect_put(TABLE_WORKSPACE_LOG, DIGEST_LOG, key, length, key_hash(key, length), value,
        WORKSPACE_PAGE * 8, true, 0);
}

static i64 next_id_behind(const Outcome *o)
{
    i64 next = space.next_id;
    for (u32 i = 0; i < o->change_count; i++) {
        const Change *change = &o->changes[i];
        if (change->op == OP_CREATE && change->id >= next) next = change->id + 1;
    }
    return next;
}

static void space_effects(const Outcome *o, const CommandType *command)
{
    if (o->workspace_sequence == 0 || !space.known) return;
    CHECK(o->workspace_sequence == space.last + 1);
    bool full = space.recent_count + 1 == WORKSPACE_PAGE;
    if (full) page_effect(o);
    u32 length, recent = full ? 0 : space.recent_count + 1;
    u8 *key = key_begin(TABLE_WORKSPACE, 0, &length);
    u32 size = SPACE_HEAD_BYTES + space.kind.length + recent * 8;
    u8 *value = bump(size);
    bool accepted = o->code.length == 0;
    put_plain(value, o->workspace_sequence);
    put_plain(value + 8, accepted ? o->workspace_sequence : space.accepted);
    put_plain(value + 16, next_id_behind(o));
    value[24] = (u8)(accepted && command && command->deactivates ? GONE : space.status);
    value[25] = (u8)(space.kind.length >> 8);
    value[26] = (u8)space.kind.length;
    copy(value + SPACE_HEAD_BYTES, bytes_at(space.kind.at), space.kind.length);
    if (recent) {
        u8 *list = value + SPACE_HEAD_BYTES + space.kind.length;
        copy(list, space.recent, (recent - 1) * 8);
        put_plain(list + (recent - 1) * 8, o->sequence);
    }
    effect_put(TABLE_WORKSPACE, DIGEST_WORKSPACE, key, length, key_hash(key, length), value, size,
        true, space.row ? value_hash(space.row) : 0);
}

/* The kind that a workspace has, or gets from the command that makes it. */
void space_kind(const CommandType *command)
{
    if (space.known && !space.begun && command) {
        space.kind = (Text){address_of(image + command->creates.at), command->creates.count};
    }
    call.kind = NULL;
    const Image *p = plan();
    for (u32 i = 0; i < p->kinds.count; i++) {
        const WorkspaceKind *kind = FROM(p->kinds, WorkspaceKind, i);
        if (same(space.kind, kind->name)) call.kind = kind;
    }
}

void effects_of(Outcome *o, const CommandType *command)
{
    for (u32 i = 0; i < o->change_count && !call.poisoned; i++) record_effects(&o->changes[i]);
    if (!call.poisoned) space_effects(o, command);
    if (!call.poisoned) project(o, command);
}
