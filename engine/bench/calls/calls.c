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
    int64_t sum = 0;
    box_t box = box_get();
    for (int64_t left = get_int64_args_times(); left > 0; left--)
        sum += box_number(box);
    seen = sum;
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
    int64_t sum = 0;
    box_t box = box_get();
    for (int64_t left = get_string16_args_times(); left > 0; left--) {
        sum += box_text(box, text, sizeof text);
        sum += text[left & 15];
    }
    seen = sum;
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
    int64_t sum = 0;
    box_t box = box_get();
    for (int64_t left = is_null_args_times(); left > 0; left--)
        sum += box_maybe_is_null(box);
    seen = sum;
}

void nested_item(void)
{
    int64_t sum = 0;
    box_t box = box_get();
    for (int64_t left = nested_item_args_times(); left > 0; left--)
        sum += box_items_item(box, left & (ITEMS - 1)).handle;
    seen = sum;
}

void read_record(void)
{
    box_row row;
    int64_t sum = 0;
    box_t box = box_get();
    for (int64_t left = read_record_args_times(); left > 0; left--) {
        sum += box_read(box, &row);
        sum += row.number;
    }
    seen = sum;
}

void null_call(void)
{
    int64_t sum = 0;
    box_t box = box_get();
    for (int64_t left = null_call_args_times(); left > 0; left--)
        sum += partita_is_active(box.handle);
    seen = sum;
}
