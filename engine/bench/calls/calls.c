/* One host call after the other: what `partita bench host-call` measures. Each function makes its
 * call as often as the command's argument says; everything else it does, it does once. */
#include "calls.h"

#define ITEMS 8
#define TEXT "0123456789abcdef"

static volatile int64_t seen; /* so that no call's result is thought to be unused */

void fill(void)
{
    box_t box = box_create();
    box_set_number(box, 1);
    box_set_text(box, TEXT, sizeof TEXT - 1);
    for (int64_t at = 0; at < ITEMS; at++)
        box_items_set_amount(box_items_append(box), at);
}

void get_int64(void)
{
    box_t box = box_get();
    for (int64_t left = get_int64_args_times(); left > 0; left--)
        seen += box_number(box);
}

void set_int64(void)
{
    box_t box = box_get();
    for (int64_t left = set_int64_args_times(); left > 0; left--)
        box_set_number(box, left);
}

void get_string16(void)
{
    char text[16];
    box_t box = box_get();
    for (int64_t left = get_string16_args_times(); left > 0; left--) {
        seen += box_text(box, text, sizeof text);
        seen += text[left & 15];
    }
}

void set_string16(void)
{
    char text[] = TEXT;
    box_t box = box_get();
    for (int64_t left = set_string16_args_times(); left > 0; left--) {
        text[left & 15] = 'a' + (char)(left & 15);
        box_set_text(box, text, 16);
    }
}

void test_null(void)
{
    box_t box = box_get();
    for (int64_t left = is_null_args_times(); left > 0; left--)
        seen += box_maybe_is_null(box);
}

void nested_item(void)
{
    box_t box = box_get();
    for (int64_t left = nested_item_args_times(); left > 0; left--)
        seen += box_items_item(box, left & (ITEMS - 1)).handle;
}

void read_record(void)
{
    box_row row;
    box_t box = box_get();
    for (int64_t left = read_record_args_times(); left > 0; left--) {
        seen += box_read(box, &row);
        seen += row.number;
    }
}

void null_call(void)
{
    box_t box = box_get();
    for (int64_t left = null_call_args_times(); left > 0; left--)
        seen += partita_is_active(box.handle);
}
