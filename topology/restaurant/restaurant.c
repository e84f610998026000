/* The restaurant: what the manifest's rules don't say by themselves. Each function is one command,
 * or the projector of a view; the header is generated from application.toml and the schemas beside
 * this file (`partita extension build topology/restaurant`).
 *
 * A rule that is broken rejects the command by itself, after its function has returned. */
#define PARTITA_ROW_TEXT 0 /* rows are read and written whole where they have no text */
#include "restaurant.h"

#define DAY_MS 86400000

static char text[1024];

/* A text that doesn't fit is longer than the rules allow: these are left to reject it. */
static uint32_t bounded(uint32_t length) { return length < sizeof text ? length : sizeof text; }

/* Tells one PIN from another (FNV-1a). It hides none: there are too few to hide among. */
static int64_t hash_of_pin(uint32_t length)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (uint32_t at = 0; at < length; at++) hash = (hash ^ (uint8_t)text[at]) * 0x100000001b3;
    return (int64_t)hash;
}

void found(void)
{
    house_t house = house_create();
    house_set_name(house, text, bounded(found_args_name(text, sizeof text)));
    house_set_day(house, context_command_time() / DAY_MS);
    uint32_t length = found_args_pin(text, sizeof text);
    if (length < 4 || length > 12) reject_bad_pin("pin");
    else house_set_pin_hash(house, hash_of_pin(length));
}

/* Add a line to an order, at the price of today's menu; its note is in `text`. */
static bool take(order_t order, item_id_t dish, int64_t quantity, uint32_t note_length)
{
    line_t line = line_create(order);
    line_set_item(line, dish);
    item_t item = line_item_get(line);
    if (!item_exists(item) || !item_is_active(item)) {
        reject_no_item("lines.dish");
        return false;
    }
    line_set_quantity(line, quantity);
    line_set_price(line, item_price(item));
    line_set_day(line, order_day(order));
    line_set_note(line, text, bounded(note_length));
    order_set_total(order, order_total(order) + quantity * item_price(item));
    return true;
}

void order(void)
{
    if (order_by_table(order_args_table())) {
        reject_table_taken("table");
        return;
    }
    house_t house = house_get();
    house_set_orders(house, house_orders(house) + 1);
    house_set_open(house, house_open(house) + 1);
    order_t order = order_create();
    order_set_table(order, order_args_table());
    order_set_day(order, house_day(house));
    order_set_number(order, house_orders(house));
    order_set_guests(order, order_args_guests());
    order_set_opened_at(order, context_command_time());
    table_t table = order_table_get(order);
    if (table_exists(table) && table_seats(table) < order_guests(order)) {
        reject_no_seat("guests");
        return;
    }
    for (uint32_t at = 0; at < order_args_lines_length(); at++) {
        order_args_lines_t one = order_args_lines_item(at);
        uint32_t note = order_args_lines_note(one, text, sizeof text);
        if (!take(order, order_args_lines_dish(one), order_args_lines_quantity(one), note)) return;
    }
    order_result_set_order(order_id(order));
    order_result_set_number(order_number(order));
    order_result_set_total(order_total(order));
}

/* Look up an order that is open; reject the command where there is none. */
static bool find_open(order_id_t id, order_t *order)
{
    *order = order_get(id);
    if (order_exists(*order) && order_is_active(*order)) return true;
    reject_no_order("order");
    return false;
}

void add(void)
{
    order_t order;
    if (!find_open(add_args_order(), &order)) return;
    for (uint32_t at = 0; at < add_args_lines_length(); at++) {
        add_args_lines_t one = add_args_lines_item(at);
        uint32_t note = add_args_lines_note(one, text, sizeof text);
        if (!take(order, add_args_lines_dish(one), add_args_lines_quantity(one), note)) return;
    }
    add_result_set_order(order_id(order));
    add_result_set_number(order_number(order));
    add_result_set_total(order_total(order));
}

/* The last line stays, says the manifest: cancel the order instead. */
void take_back(void)
{
    order_t order;
    if (!find_open(take_back_args_order(), &order)) return;
    line_t line = line_get(order, take_back_args_line());
    if (!line_exists(line) || !line_is_active(line)) {
        reject_no_line("line");
        return;
    }
    order_set_total(order, order_total(order) - line_quantity(line) * line_price(line));
    line_set_active(line, false);
}

static void end(order_t order, int64_t state)
{
    house_t house = house_get();
    house_set_open(house, house_open(house) - 1);
    order_set_state(order, state);
    order_set_active(order, false);
}

void pay(void)
{
    order_t order;
    if (!find_open(pay_args_order(), &order)) return;
    if (pay_args_tip() > 0 && pay_args_method() == PAY_ARGS_METHOD_CASH) {
        reject_no_cash("tip");
        return;
    }
    end(order, ORDER_STATE_PAID);
    bill_t bill = bill_create();
    bill_set_order(bill, order_id(order));
    bill_set_number(bill, order_number(order));
    bill_set_total(bill, order_total(order));
    bill_set_tip(bill, pay_args_tip());
    bill_set_method(bill, pay_args_method());
    bill_set_day(bill, order_day(order));
    bill_set_at(bill, context_command_time());
    house_t house = house_get();
    house_set_bills(house, house_bills(house) + 1);
    house_set_sales(house, house_sales(house) + order_total(order));
    house_set_tips(house, house_tips(house) + pay_args_tip());
    pay_result_set_bill(bill_id(bill));
    pay_result_set_total(order_total(order) + pay_args_tip());
}

/* An order without a bill; its dishes are sold to nobody. */
void cancel(void)
{
    order_t order;
    if (!find_open(cancel_args_order(), &order)) return;
    partita_each (line, dish, line_children(order)) line_set_active(dish, false);
    end(order, ORDER_STATE_CANCELLED);
}

/* The next day begins: tomorrow's, or today's where the house was shut for longer. */
void close_day(void)
{
    house_t house = house_get();
    if (house_open(house)) {
        reject_orders_open("");
        return;
    }
    closing_row sums = {
        .day = house_day(house),
        .bills = house_bills(house),
        .sales = house_sales(house),
        .tips = house_tips(house),
    };
    closing_write(closing_create(), &sums);
    close_day_result_write((close_day_result_row *)&sums); /* the same schema */
    int64_t today = context_command_time() / DAY_MS;
    house_set_day(house, today > sums.day ? today : sums.day + 1);
    house_set_orders(house, 0);
    house_set_bills(house, 0);
    house_set_sales(house, 0);
    house_set_tips(house, 0);
}

/* The end of the house; its workspace answers nothing from then on. */
void close(void)
{
    house_t house = house_get();
    int64_t hash = hash_of_pin(bounded(close_args_pin(text, sizeof text)));
    if (house_pin_hash(house) != hash) reject_wrong_pin("pin");
    if (house_open(house)) reject_orders_open("");
}

void open_tables(void)
{
    order_t order = order_event();
    open_tables_key_t key = open_tables_key(order_table(order));
    if (context_op() == CONTEXT_OP_DEACTIVATE) {
        open_tables_remove(key);
        return;
    }
    open_tables_t row = open_tables_put(key);
    open_tables_set_order(row, order_id(order));
    open_tables_set_number(row, order_number(order));
    open_tables_set_guests(row, order_guests(order));
    open_tables_set_total(row, order_total(order));
    open_tables_set_opened_at(row, order_opened_at(order));
}

/* What was sold of each item on each day, and which was sold most; of equals the older item. */
void sales(void)
{
    line_t line = line_event();
    int64_t day = line_day(line), most = 0;
    int64_t sold = context_op() == CONTEXT_OP_CREATE ? line_quantity(line) : -line_quantity(line);
    sales_t sale = sales_put(sales_key(day, line_item(line)));
    sales_set_quantity(sale, sales_quantity(sale) + sold);
    sales_set_amount(sale, sales_amount(sale) + sold * line_price(line));

    item_of_the_day_t first = item_of_the_day_put(item_of_the_day_key(day));
    partita_each (sales, row, sales_scan_by_day(day, PARTITA_FORWARD)) {
        if (sales_quantity(row) <= most) continue;
        most = sales_quantity(row);
        item_of_the_day_set_item(first, sales_item(row));
    }
    item_of_the_day_set_quantity(first, most);
    if (most == 0) item_of_the_day_remove(item_of_the_day_key(day));
}

/* A view with a document's own schema shows it as it is. */
void bills(void)
{
    bill_row row;
    bill_read(bill_event(), &row);
    bills_write(bills_put(bills_key(row.day, context_id())), (bills_row *)&row);
}

void days(void)
{
    closing_row row;
    closing_read(closing_event(), &row);
    days_write(days_put(days_key(row.day)), (days_row *)&row);
}

/* What was refused, and why. */
void refusals(void)
{
    static char name[64];
    uint32_t length = bounded(context_code(text, sizeof text));
    refusals_t row = refusals_put(
        refusals_key(name, context_name(name, sizeof name), text, length));
    refusals_set_count(row, refusals_count(row) + 1);
    refusals_set_last_at(row, context_command_time());
}
