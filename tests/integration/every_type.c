/* Copies a record of every type, field by field and as a whole; test_extensions.py compares. */
#define PARTITA_ROW_TEXT 512
#include "guest.h"

static char buffer[256];

void by_field(void)
{
    kept_t kept = kept_create();
    kept_set_flag(kept, by_field_args_flag());
    kept_set_small(kept, by_field_args_small());
    kept_set_large(kept, by_field_args_large());
    kept_set_ratio(kept, by_field_args_ratio());
    kept_set_exact(kept, by_field_args_exact());
    kept_set_text(kept, buffer, by_field_args_text(buffer, sizeof buffer));
    kept_set_raw(kept, buffer, by_field_args_raw(buffer, sizeof buffer));
    kept_set_four(kept, buffer, by_field_args_four(buffer, sizeof buffer));
    kept_set_colour(kept, by_field_args_colour());
    kept_set_day(kept, by_field_args_day());
    kept_set_at(kept, by_field_args_at());
    kept_set_price(kept, buffer, by_field_args_price(buffer, sizeof buffer));
    if (by_field_args_maybe_is_null()) kept_set_maybe_null(kept);
    else kept_set_maybe(kept, by_field_args_maybe());
    if (by_field_args_word_is_null()) kept_set_word_null(kept);
    else kept_set_word(kept, buffer, by_field_args_word(buffer, sizeof buffer));
    for (uint32_t at = 0; at < by_field_args_tags_length(); at++) {
        uint32_t length = by_field_args_tags_value(by_field_args_tags_item(at), buffer, sizeof buffer);
        kept_tags_set_value(kept_tags_append(kept), buffer, length);
    }
    for (uint32_t at = 0; at < by_field_args_lines_length(); at++) {
        by_field_args_lines_t line = by_field_args_lines_item(at);
        kept_lines_t copy = kept_lines_append(kept);
        kept_lines_set_amount(copy, by_field_args_lines_amount(line));
        kept_lines_set_what(copy, buffer, by_field_args_lines_what(line, buffer, sizeof buffer));
    }
}

void by_row(void)
{
    by_row_args_row row;
    if (!by_row_args_read(&row)) {
        partita_reject("too_long", "the texts don't fit into a row");
        return;
    }
    kept_t kept = kept_create();
    kept_write(kept, (kept_row *)&row); /* the same fields, so the same layout */
    for (uint32_t at = 0; at < by_row_args_tags_length(); at++) {
        uint32_t length = by_row_args_tags_value(by_row_args_tags_item(at), buffer, sizeof buffer);
        kept_tags_set_value(kept_tags_append(kept), buffer, length);
    }
    for (uint32_t at = 0; at < by_row_args_lines_length(); at++) {
        by_row_args_lines_row line;
        by_row_args_lines_read(by_row_args_lines_item(at), &line);
        kept_lines_write(kept_lines_append(kept), (kept_lines_row *)&line);
    }
}

