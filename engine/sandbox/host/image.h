/* The image: one application's tables, as plans.py writes them. All little-endian, 8-byte aligned.
 * Part of host.h, whose types it uses. */
#ifndef IMAGE_H
#define IMAGE_H

typedef struct { u32 at, count; } Span; /* entries in the image */

enum Kind {
    BOOLEAN, INT, LONG, FLOAT, DOUBLE, STRING, BYTES, FIXED, ENUM, ARRAY, RECORD,
};
enum Access { A_I64, A_F64, A_BYTES, A_ARRAY, A_NONE };

typedef struct {
    u8 kind, access, nullable, null_default;
    u32 size;    /* of a fixed: bytes; of an enum: symbols */
    u32 item;    /* of an array: the shape of its items; scalars have one of a single field */
    u32 records; /* of an array: 1 = its items are records */
    i64 zero;    /* what it begins as: a number, a double's bits, or a Text in the image */
} Field;

typedef struct { Span fields; u32 words, reserved; } Shape; /* words of nulls */

/* What a guest's ordinal means: a field of a shape. `typed` is shape << 2 | access, so that one
 * comparison with a cell's shape finds both right. */
typedef struct {
    u32 typed, shape;
    u16 field;
    u8 access, kind, nullable, is_column;
    u16 reserved;
} Ref;
typedef struct { Span refs; u32 shape, size; } Plan; /* fields (as Ref) of a whole-record call */

typedef struct {
    Span refs, plans, records, views, uniques; /* by the guest's ordinals: Ref, Plan, u32 each */
    u32 time_ms, reserved;
} GuestPlan;

typedef struct { /* a check of a field's value; DFA tables in rules.c's own form */
    u32 field, flags; i64 minimum, maximum; u32 shortest, longest; Span one_of; u32 pattern, reserved;
} Check;
enum { CHECK_MIN = 1, CHECK_MAX = 2, CHECK_LENGTH = 4, CHECK_ONE_OF = 8, CHECK_PATTERN = 16 };

typedef struct { u32 field; Span targets; } Reference;
/* Numbers are i64 (a double's bits), choices of a string Spans of text; `symbols` are Spans of text,
 * of a fixed its count is the size. */
typedef struct { u32 number, record; Span fields; } Unique;
typedef struct { u32 field, column; Span symbols; } UniqueField;
enum Column { U_LONG, U_DOUBLE, U_TEXT, U_FIXED, U_SYMBOL };
typedef struct { Span bounds, classes, steps, accepting; u32 width, reserved; } Pattern; /* u32 all */

enum RecordKind { DOCUMENT, SINGLETON, OPERATION };
enum { NONE = 0xffffffff };
typedef struct {
    u32 table, shape, kind, parent, root, digest; /* parent, root: of `records`, or NONE */
    u32 least, most, slow, reserved;
    Span name, checks, required, references, uniques, children, readable;
    Span events[4]; /* projectors of create, update, activate, deactivate */
} RecordType;
/* `readable`: applications (by index, u32) whose rows of this table are of this very shape. */

typedef struct { u32 table, shape, key, digest; Span name, readable; } ViewType; /* key: a shape */

typedef struct {
    Span name, errors, execute, rejected; /* errors: ErrorCode; the others: projectors */
    Span creates; /* the kind of workspace it makes, or nothing */
    i64 fingerprint;
    u32 args, result, guest, entry, changes_max, slow, deactivates, reserved;
} CommandType;
typedef struct { Span code, message; } ErrorCode;
typedef struct { Span name, records, commands, views; } WorkspaceKind; /* the last three: bits */
typedef struct { u32 guest, entry; Span writes; } Projector; /* views by number */

typedef struct {
    u32 magic, size, application, partition, partitions, context, tables, slow;
    i64 command_schema, outcome_schema;
    Span shapes, records, views, commands, projectors, guests, uniques, patterns, kinds;
    Span names;    /* Named: commands by name, sorted as bytes */
    Span by_table; /* u32: the record type of table TABLE_RECORDS_FIRST + i, or NONE */
    Span refusals; /* Span: codes that no extension may give as they are */
} Image;
typedef struct { Span name; u32 command, is_old; } Named;
enum { TABLE_RECORDS_FIRST = 0x0100, TABLE_VIEWS_FIRST = 0x8000 };
enum { DIGEST_WORKSPACE, DIGEST_LOG, DIGEST_UNIQUE, DIGESTS_OWN, DIGESTS_MAX = 4096 };
enum { IMAGE_MAGIC = 0x31544150 };

extern const u8 *image;
#define FROM(span, type, i) ((const type *)(image + (span).at) + (i))
static inline const Image *plan(void) { return (const Image *)image; }
static inline const Shape *shape_at(u32 i) { return FROM(plan()->shapes, Shape, i); }
static inline const Field *field_at(const Shape *s, u32 i) { return FROM(s->fields, Field, i); }

#endif
