/* partita.h: what an extension in C may ask of the engine (ABI v1).
 *
 * An extension is a set of functions `void name(void)`. A command's function reads its arguments
 * and the workspace's records, then changes records or rejects the command. A projector's function
 * reads one change and writes view rows. There is no clock, no randomness, no file, no network and
 * no state that outlives a call: globals and memory are put back after each one.
 *
 * You rarely call what is declared here. `partita extension build FOLDER` generates a header with
 * typed accessors from the application's manifest and schemas (build/<extension>.h); include that
 * one, in exactly one .c file. It includes this one.
 *
 * What goes wrong ends the call: a wrong handle, field or type, too long a text or an endless loop
 * rejects the command, undoes what it did, and leaves the next command untouched.
 */
#ifndef PARTITA_H
#define PARTITA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARTITA_IMPORT(name) __attribute__((import_module("partita1"), import_name(name)))
#define PARTITA_EXPORT(name) __attribute__((export_name(name)))

/* A handle stands for arguments, a record or a view's key or row during one call. 0 is none. */
typedef uint32_t partita_handle;

enum { PARTITA_ARGS = 1, PARTITA_CONTEXT = 2, PARTITA_EVENT = 3, PARTITA_RESULT = 4 };
enum { PARTITA_FORWARD = 0, PARTITA_BACKWARD = 1 };
enum { PARTITA_DEBUG = 0, PARTITA_INFO = 1, PARTITA_WARNING = 2, PARTITA_ERROR = 3 };

/* One field. `field` is an ordinal that the generated header knows. `get_bytes` returns the length
 * there is; when that is more than `capacity`, nothing is copied. */
PARTITA_IMPORT("get_i64") int64_t partita_get_i64(partita_handle, uint32_t field);
PARTITA_IMPORT("get_f64") double partita_get_f64(partita_handle, uint32_t field);
PARTITA_IMPORT("get_bytes")
uint32_t partita_get_bytes(partita_handle, uint32_t field, void *data, uint32_t capacity);
PARTITA_IMPORT("is_null") bool partita_is_null(partita_handle, uint32_t field);
PARTITA_IMPORT("set_i64") void partita_set_i64(partita_handle, uint32_t field, int64_t value);
PARTITA_IMPORT("set_f64") void partita_set_f64(partita_handle, uint32_t field, double value);
PARTITA_IMPORT("set_bytes")
void partita_set_bytes(partita_handle, uint32_t field, const void *data, uint32_t length);
PARTITA_IMPORT("set_null") void partita_set_null(partita_handle, uint32_t field);

/* An array of records. */
PARTITA_IMPORT("length") uint32_t partita_length(partita_handle, uint32_t field);
PARTITA_IMPORT("item")
partita_handle partita_item(partita_handle, uint32_t field, uint32_t index);
PARTITA_IMPORT("append") partita_handle partita_append(partita_handle, uint32_t field);

/* Many fields in one call: the same meaning, one crossing. The generated row structures have the
 * layout of the buffer: null bits, one 8-byte slot per field, texts behind. */
PARTITA_IMPORT("read")
uint32_t partita_read(partita_handle, uint32_t plan, void *row, uint32_t capacity);
PARTITA_IMPORT("write")
void partita_write(partita_handle, uint32_t plan, const void *row, uint32_t length);

/* Records of the workspace. `record` returns 0 where there is none. */
PARTITA_IMPORT("record") partita_handle partita_record(uint32_t type, int64_t id);
PARTITA_IMPORT("create") partita_handle partita_create(uint32_t type);
PARTITA_IMPORT("id") int64_t partita_id(partita_handle);
PARTITA_IMPORT("is_active") bool partita_is_active(partita_handle);
PARTITA_IMPORT("set_active") void partita_set_active(partita_handle, bool active);

/* Records nested in another: a new one, the one of an id (0 where there is none), and a cursor over
 * the active ones in the order of their ids. */
PARTITA_IMPORT("child") partita_handle partita_child(partita_handle, uint32_t type);
PARTITA_IMPORT("child_of")
partita_handle partita_child_of(partita_handle, uint32_t type, int64_t id);
PARTITA_IMPORT("children") partita_handle partita_children(partita_handle, uint32_t type);

/* The active record with the values of a unique's key, which are set like fields: its id, or 0. */
PARTITA_IMPORT("unique_key") partita_handle partita_unique_key(uint32_t unique);
PARTITA_IMPORT("unique") int64_t partita_unique(partita_handle key);

/* Views. Build a key, set its columns, then look up, put or remove the row. Only a projector has
 * views. `view` returns 0 where there is no row. `scan` returns a cursor over the rows whose first
 * `columns` key columns are those of the key, in the order of their keys; only such a row has the
 * columns of its key. */
PARTITA_IMPORT("key") partita_handle partita_key(uint32_t view);
PARTITA_IMPORT("view") partita_handle partita_view(partita_handle key);
PARTITA_IMPORT("put") partita_handle partita_put(partita_handle key);
PARTITA_IMPORT("remove") void partita_remove(partita_handle key);
PARTITA_IMPORT("scan")
partita_handle partita_scan(partita_handle key, uint32_t columns, uint32_t direction);

/* The next row of a cursor, 0 behind the last one. */
PARTITA_IMPORT("next") partita_handle partita_next(partita_handle cursor);

/* The end of a command that may not be: return after it. The code is yours: lowercase and `_`; of a
 * command that declares its errors, one of these, and an empty text stands for the manifest's. The
 * second form names the field that is to blame. */
PARTITA_IMPORT("reject")
void partita_reject_text(const char *code, uint32_t code_length, const char *text, uint32_t length);
PARTITA_IMPORT("reject_field")
void partita_reject_field_text(const char *code, uint32_t code_length, const char *text,
    uint32_t length, const char *field, uint32_t field_length);
PARTITA_IMPORT("log") void partita_log_text(uint32_t level, const char *text, uint32_t length);

/* With string literals. */
#define partita_reject(code, text) \
    partita_reject_text("" code, sizeof(code) - 1, "" text, sizeof(text) - 1)
#define partita_reject_field(code, text, field) \
    partita_reject_field_text("" code, sizeof(code) - 1, "" text, sizeof(text) - 1, "" field, \
        sizeof(field) - 1)
#define partita_log(level, text) partita_log_text((level), "" text, sizeof(text) - 1)
#define PARTITA_TEXT(literal) ("" literal), (sizeof(literal) - 1)

/* Each row of a generated cursor; `break` and `continue` mean what they mean in any loop:
 *
 *     partita_each (line, dish, line_children(order)) {
 *         total += line_quantity(dish) * line_price(dish);
 *     }
 */
#define partita_each(type, row, cursor) \
    for (type##_cursor_t row##_cursor = (cursor), *row##_left = &row##_cursor; row##_left; \
         row##_left = 0) \
        for (type##_t row = type##_next(row##_cursor); row.handle; row = type##_next(row##_cursor))

/* A text in a row structure: where it begins, counted from the row's own begin, and its length. */
typedef struct {
    uint32_t offset, length;
} partita_text;

/* How many bytes of text a row structure holds; define another number before the include. */
#ifndef PARTITA_ROW_TEXT
#define PARTITA_ROW_TEXT 256
#endif

void *memcpy(void *restrict target, const void *restrict source, size_t count);
void *memmove(void *target, const void *source, size_t count);
void *memset(void *target, int byte, size_t count);
int memcmp(const void *left, const void *right, size_t count);

/* Where the texts of a row end, seen from one of them. */
static inline uint32_t partita_row_end(uint32_t end, partita_text text)
{
    return text.offset + text.length > end ? text.offset + text.length : end;
}

/* Put a text behind the `end` bytes of a row of `size` bytes; false where it doesn't fit. */
static inline bool partita_row_append(
    void *row, uint32_t end, uint32_t size, partita_text *slot, const void *text, uint32_t length)
{
    if (length > size - end) return false;
    memcpy((char *)row + end, text, length);
    *slot = (partita_text){end, length};
    return true;
}

#endif
