/* The chain: which records of a batch plainly count, before any of them is folded. */
#include "host.h"

static u32 chain_at, chain_value; /* the next record to look at, and where its value lies */

void chain_begin(u32 first_value) { chain_at = 0, chain_value = first_value; }

/* Rule R2 for what nearly all records are: an outcome of a command, of this epoch, at the next
 * sequence, that names the one before. False for all else: LogState.judge says what that is. */
static bool chain_one(const u8 *value, u32 length, i64 sequence, i64 previous, i64 *input_offset)
{
    Reader r = {value, value + length, false};
    i64 schema = plan()->outcome_schema;
    if (length < AVRO_HEADER_BYTES || !equal(value, "\xc3\x01", 2) || !equal(value + 2, &schema, 8)) {
        return false;
    }
    r.at += AVRO_HEADER_BYTES;
    if (read_long(&r) != mailbox.epoch || read_long(&r) != sequence || read_long(&r) != previous) {
        return false;
    }
    read_boolean(&r);  /* skippable */
    read_sized(&r);    /* workspace */
    read_long(&r);     /* workspace_sequence */
    if (r.end - r.at < ID_BYTES) return false;
    r.at += ID_BYTES;
    bool from_commands = read_long(&r) == 0;
    *input_offset = read_long(&r);
    return from_commands && !r.bad;
}

/* From record `size` of the batch on, behind outcome `first` whose hash is `second`: return how
 * many plainly count, and in `second` and `first` the last one's hash and where to resume. */
EXPORT("chain") u32 chain(void)
{
    Mailbox *m = &mailbox;
    i64 sequence = m->first, resume = 0;
    u32 count = 0;
    CHECK(chain_at <= m->size && m->size <= m->count);
    for (; chain_at < m->count; chain_at++) {
        Text found = value_of(chain_at, chain_value);
        u32 length = found.length;
        if (chain_at >= m->size) {
            i64 input_offset;
            const u8 *value = bytes_at(found.at);
            if (length == NONE || !chain_one(value, length, sequence + 1, m->second, &input_offset)) {
                break;
            }
            sequence++, count++;
            columns.offsets[chain_at] = m->second = (i64)xxh64(value, length);
            if (input_offset >= resume) resume = input_offset + 1;
        }
        chain_value += length == NONE ? 0 : length;
    }
    m->first = resume;
    return count;
}
