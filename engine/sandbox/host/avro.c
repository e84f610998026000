/* Avro's binary form, as strict as engine/avro.py: what that refuses, this reads as damage. */
#include "host.h"

i64 read_longer(Reader *r)
{
    u64 number = 0;
    for (u32 shift = 0; shift < 70; shift += 7) {
        if (UNLIKELY(r->at >= r->end)) break;
        u8 byte = *r->at++;
        if (UNLIKELY(shift == 63 && byte > 1)) break; /* more than 64 bits */
        number |= (u64)(byte & 0x7f) << shift;
        if (LIKELY(byte < 0x80)) return (i64)(number >> 1) ^ -(i64)(number & 1);
    }
    r->bad = true;
    r->at = r->end;
    return 0;
}

u8 read_boolean(Reader *r)
{
    if (UNLIKELY(r->at >= r->end || *r->at > 1)) {
        r->bad = true;
        r->at = r->end;
        return 0;
    }
    return *r->at++;
}

static Text read_raw(Reader *r, u64 length)
{
    if (UNLIKELY(length > (u64)(r->end - r->at))) {
        r->bad = true;
        r->at = r->end;
        return (Text){0, 0};
    }
    Text found = {address_of(r->at), (u32)length};
    r->at += length;
    return found;
}

Text read_sized(Reader *r) { return read_raw(r, (u64)read_long(r)); }

Text read_string(Reader *r)
{
    Text found = read_sized(r);
    if (UNLIKELY(!is_utf8(bytes_at(found.at), found.length))) r->bad = true;
    return found;
}

/* Tell whether a value follows of what may be null. */
static bool read_branch(Reader *r)
{
    i64 branch = read_long(r);
    if (UNLIKELY(branch < 0 || branch > 1)) r->bad = true;
    return branch == 1 && !r->bad;
}

void write_byte(Writer *w, u8 byte)
{
    if (UNLIKELY(w->at >= w->end)) w->full = true;
    else *w->at++ = byte;
}

void write_long(Writer *w, i64 number)
{
    u64 left = ((u64)number << 1) ^ (u64)(number >> 63);
    if (UNLIKELY(w->end - w->at < 10)) {
        w->full = true;
        return;
    }
    while (left > 0x7f) *w->at++ = (u8)(left | 0x80), left >>= 7;
    *w->at++ = (u8)left;
}

void write_raw(Writer *w, const void *data, u32 length)
{
    if (UNLIKELY(length > (u64)(w->end - w->at))) {
        w->full = true;
        return;
    }
    copy(w->at, data, length);
    w->at += length;
}

void write_sized(Writer *w, const void *data, u32 length)
{
    write_long(w, length);
    write_raw(w, data, length);
}
