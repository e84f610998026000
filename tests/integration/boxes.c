/* Boxes with parts in them: nested records, look-ups, references, cursors, results, own errors.
 * test_boxes.py runs it. */
#include "guest.h"

static char name[64];

/* A box, and a part for each number: the numbers are their sizes. */
void make(void)
{
    uint32_t length = make_args_name(name, sizeof name);
    if (box_by_name(name, length)) {
        reject_name_taken("name");
        return;
    }
    box_t box = box_create();
    box_set_name(box, name, length);
    box_set_inside(box, make_args_inside());
    for (uint32_t at = 0; at < make_args_sizes_length(); at++) {
        part_set_size(part_create(box), make_args_sizes_value(make_args_sizes_item(at)));
    }
    make_result_set_id(box_id(box));
}

static box_t named(void)
{
    uint32_t length = look_args_name(name, sizeof name);
    return box_get(box_by_name(name, length));
}

/* What is in a box up to the first part of size 0, and the name of the box that it is inside of. */
void look(void)
{
    box_t box = named();
    if (!box_exists(box)) {
        partita_reject("nobody", "there is no box of this name");
        return;
    }
    int64_t sum = 0, count = 0;
    partita_each (part, one, part_children(box)) {
        if (part_size(one) == 0) break;
        if (part_size(one) < 0) continue;
        sum += part_size(one);
        count++;
    }
    box_t outer = box_inside_get(box);
    if (box_exists(outer)) look_result_set_inside(name, box_name(outer, name, sizeof name));
    look_result_set_sum(sum);
    look_result_set_count(count);
}

void drop(void)
{
    part_t part = part_get(box_get(drop_args_box()), drop_args_part());
    if (!part_exists(part)) {
        partita_reject_field("no_part", "it isn't in there", "part");
        return;
    }
    part_set_active(part, false);
}

/* The parts of each box by size, and of each box its two largest, found by a scan. */
void parts(void)
{
    part_t part = part_event();
    int64_t box = context_parent();
    sizes_key_t key = sizes_key("part", 4, box, part_size(part), part_id(part));
    if (context_op() == CONTEXT_OP_DEACTIVATE) sizes_remove(key);
    else sizes_set_count(sizes_put(key), 1);

    largest_t largest = largest_put(largest_key(box));
    int64_t place = 0;
    largest_set_first(largest, 0);
    largest_set_second(largest, 0);
    partita_each (sizes, row, sizes_scan_by_kind_box("part", 4, box, PARTITA_BACKWARD)) {
        if (place == 0) largest_set_first(largest, sizes_size(row));
        else largest_set_second(largest, sizes_size(row));
        if (++place == 2) break;
    }
    place = 0;
    partita_each (sizes, every, sizes_scan(PARTITA_FORWARD)) {
        uint32_t length = sizes_kind(every, name, sizeof name);
        place += sizes_count(every) + (length == 4 && memcmp(name, "part", 4) == 0 ? 0 : 100);
    }
    largest_set_all(largest, place);
}
