/* The rules of records: whether what a command has changed may become an outcome (host_rules.py).
 *
 * They are asked once, at the end of a command, for each changed row in the order of its first
 * change. What breaks one is left to the slow lane, which says why. A row that is needed and not
 * known is missed, and taken to keep the rules. */
#include "host.h"

static f64 as_double(i64 slot)
{
    f64 number;
    copy(&number, &slot, 8);
    return number;
}

/* Written so that a NaN, which compares with nothing, is refused. */
static bool in_bounds(const Check *check, u32 kind, i64 slot)
{
    if (kind == FLOAT || kind == DOUBLE) {
        f64 value = as_double(slot);
        if (check->flags & CHECK_MIN && !(value >= as_double(check->minimum))) return false;
        return !(check->flags & CHECK_MAX) || value <= as_double(check->maximum);
    }
    if (check->flags & CHECK_MIN && slot < check->minimum) return false;
    return !(check->flags & CHECK_MAX) || slot <= check->maximum;
}

static u32 length_of(u32 kind, i64 slot)
{
    if (kind == ARRAY) return ((const Array *)bytes_at((u32)slot))->count;
    Text text = slot_text(slot);
    return kind == STRING ? code_points(bytes_at(text.at), text.length) : text.length;
}

static bool is_choice(const Check *check, u32 kind, i64 slot)
{
    for (u32 i = 0; i < check->one_of.count; i++) {
        if (kind == STRING) {
            if (same(slot_text(slot), *FROM(check->one_of, Span, i))) return true;
        } else if (*FROM(check->one_of, i64, i) == slot) {
            return true;
        }
    }
    return false;
}

/* The next code point of valid UTF-8. */
static u32 code_point(const u8 **at)
{
    const u8 *p = *at;
    u32 point = *p++, more = point < 0x80 ? 0 : point < 0xE0 ? 1 : point < 0xF0 ? 2 : 3;
    if (more) point &= 0x3Fu >> more;
    while (more--) point = point << 6 | (*p++ & 0x3F);
    *at = p;
    return point;
}

/* patterns.matches: a step of the automaton for each character; state 0 is dead, 1 the start. */
static bool matches(const Pattern *pattern, Text text)
{
    const u32 *bounds = FROM(pattern->bounds, u32, 0);
    const u32 *classes = FROM(pattern->classes, u32, 0), *steps = FROM(pattern->steps, u32, 0);
    const u8 *at = bytes_at(text.at), *end = at + text.length;
    u32 state = 1;
    while (at < end) {
        u32 point = code_point(&at), low = 0, high = pattern->bounds.count;
        while (high - low > 1) { /* bounds[low] <= point < bounds[high] */
            u32 middle = (low + high) / 2;
            if (bounds[middle] <= point) low = middle;
            else high = middle;
        }
        state = steps[state * pattern->width + classes[low]];
        if (!state) return false;
    }
    return *FROM(pattern->accepting, u32, state);
}

static bool passes(const Check *check, const Work *work)
{
    const Group *g = &work->group;
    if (group_null(g, check->field)) return true;
    u32 kind = field_at(shape_at(work->record->shape), check->field)->kind;
    i64 slot = g->slots[check->field];
    if (!in_bounds(check, kind, slot)) return false;
    if (check->flags & CHECK_LENGTH) {
        u32 length = length_of(kind, slot);
        if (length < check->shortest || length > check->longest) return false;
    }
    if (check->flags & CHECK_ONE_OF && !is_choice(check, kind, slot)) return false;
    return !(check->flags & CHECK_PATTERN) ||
        matches(FROM(plan()->patterns, Pattern, check->pattern), slot_text(slot));
}

static bool is_touched(const Work *work, u32 field)
{
    return work->touched[field >> 6] >> (field & 63) & 1;
}

/* A required field is set when its record is made, and never to nothing. */
static bool is_filled(const Work *work, u32 f)
{
    if (!is_touched(work, f)) return !work->created;
    if (group_null(&work->group, f)) return false;
    u32 kind = field_at(shape_at(work->record->shape), f)->kind;
    i64 slot = work->group.slots[f];
    if (kind == STRING || kind == BYTES || kind == ARRAY) return length_of(kind, slot) != 0;
    if (slot != 0) return true;
    Span references = work->record->references;
    for (u32 i = 0; i < references.count; i++) {
        if (FROM(references, Reference, i)->field == f) return false;
    }
    return true;
}

/* ---- what a record's fields were ---- */

static bool group_before(const Work *work, Group *before)
{
    u32 head = VALUE_HEADER_BYTES + (work->record->parent != NONE ? 8 : 0);
    const Value *value = work->before;
    Reader r = {value->bytes + head, value->bytes + value->length, false};
    return group_read(before, work->record->shape, &r, true);
}

/* ---- references ---- */

/* What isn't known is taken to be active. */
static bool is_active_document(const RecordType *type, i64 id)
{
    if (id < ID_FIRST) return false;
    u32 length;
    u8 *key = record_key(type, id, id, &length);
    u64 hash = key_hash(key, length);
    const Work *work = work_find(key, length, hash);
    if (work) return work->active;
    const Row *row = row_find(key, length, hash);
    if (!row) {
        miss(key, length, false);
        return true;
    }
    return row->value != ABSENT && !(row->value->bytes[6] & INACTIVE);
}

/* What a record newly refers to must be active; what it referred to before may have gone since. */
static bool refers_well(const Work *work, const Reference *reference, const Group *before)
{
    u32 f = reference->field;
    const Group *g = &work->group;
    if (!work->active || group_null(g, f) || g->slots[f] == 0) return true;
    bool same_as_before = before && work->was_active && !group_null(before, f) &&
        before->slots[f] == g->slots[f];
    if (same_as_before) return true;
    bool found = false; /* every target is asked, so that all that is missing is missed at once */
    for (u32 i = 0; i < reference->targets.count; i++) {
        u32 number = *FROM(reference->targets, u32, i);
        found |= is_active_document(FROM(plan()->records, RecordType, number), g->slots[f]);
    }
    return found;
}

/* ---- nesting ---- */

static const Work *work_of(u32 type, i64 root, i64 id)
{
    u32 length;
    u8 *key = record_key(FROM(plan()->records, RecordType, type), root, id, &length);
    return work_find(key, length, key_hash(key, length));
}

/* Nothing above a nested record is inactive, but for what this command closes. */
static bool lies_well(const Work *work)
{
    u32 type = work->record->parent;
    while (type != NONE) {
        const Work *above = work_of(type, work->root, work->parent);
        CHECK(above); /* a nested record is only reached through the ones above it */
        if (!above->active && !above->was_active) return false;
        work = above;
        type = work->record->parent;
    }
    return true;
}

typedef struct Counted {
    struct Counted *next;
    u32 type;
    i64 root, parent;
} Counted;

/* How many active records of a type lie directly below another. */
static bool occurs_well(u32 type, i64 root, i64 parent, Counted **done)
{
    for (const Counted *c = *done; c; c = c->next) {
        if (c->type == type && c->root == root && c->parent == parent) return true;
    }
    Counted *counted = bump(sizeof(Counted));
    *counted = (Counted){*done, type, root, parent};
    *done = counted;
    const RecordType *below = FROM(plan()->records, RecordType, type);
    const Work *above = work_of(below->parent, root, parent);
    CHECK(above);
    if (!above->active) return true;
    u32 count;
    if (!children_of(above, below, NULL, &count)) return true; /* missed, or left */
    return count >= below->least && count <= below->most;
}

static bool all_occur_well(void)
{
    Counted *done = NULL;
    for (const Work *work = call.changed; work && !call.poisoned; work = work->next_changed) {
        if (!work->created && work->active == work->was_active) continue;
        const RecordType *type = work->record;
        u32 number = (u32)(type - FROM(plan()->records, RecordType, 0));
        if (type->parent != NONE && !occurs_well(number, work->root, work->parent, &done)) return false;
        for (u32 i = 0; work->active && i < type->children.count; i++) {
            if (!occurs_well(*FROM(type->children, u32, i), work->root, work->id, &done)) return false;
        }
    }
    return !call.poisoned;
}

/* ---- a changed row, rule by rule ---- */

static bool fields_hold(const Work *work)
{
    const RecordType *type = work->record;
    for (u32 i = 0; i < type->required.count; i++) {
        if (!is_filled(work, *FROM(type->required, u32, i))) return false;
    }
    /* An older application may have allowed what stands in a field that is left as it is. */
    bool whole = work->created || !work->was_active;
    for (u32 i = 0; i < type->checks.count; i++) {
        const Check *check = FROM(type->checks, Check, i);
        if ((whole || is_touched(work, check->field)) && !passes(check, work)) return false;
    }
    return true;
}

static bool others_hold(const Work *work)
{
    const RecordType *type = work->record;
    if (!type->references.count && !type->uniques.count) return true;
    Group kept, *before = NULL;
    if (work->before) {
        if (!group_before(work, &kept)) return false;
        before = &kept;
    }
    for (u32 i = 0; i < type->references.count; i++) {
        if (!refers_well(work, FROM(type->references, Reference, i), before)) return false;
    }
    for (u32 i = 0; i < type->uniques.count; i++) {
        const Unique *unique = FROM(plan()->uniques, Unique, *FROM(type->uniques, u32, i));
        if (!unique_holds(work, unique, before)) return false;
    }
    return true;
}

static bool row_holds(const Work *work)
{
    const RecordType *type = work->record;
    if (type->slow || (!work->active && !work->was_active)) return false;
    if (type->parent != NONE && !lies_well(work)) return false;
    return fields_hold(work) && others_hold(work);
}

bool rules_hold(void)
{
    bool nests = false;
    unique_begin();
    for (const Work *work = call.changed; work; work = work->next_changed) {
        if (!row_holds(work)) {
            poison(R_RULE);
            return false;
        }
        nests |= work->record->parent != NONE || work->record->children.count;
    }
    if (nests && !all_occur_well()) {
        poison(R_RULE);
        return false;
    }
    return !call.poisoned;
}
