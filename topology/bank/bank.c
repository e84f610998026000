/* The bank. Each function is one command, or the projector of one view; the header is generated
 * from application.toml and the schemas beside this file (`partita extension build topology/bank`).
 *
 * It reads and writes field by field, which is the simple way: each line is one host call. A credit
 * and a debit make exactly 13 of them, numbered below. */
#include "bank.h"

#define DAY_MS 86400000
#define AMOUNT_MAX 1000000000000
#define BALANCE_MAX 1000000000000000000
#define REFERENCE_BYTES_MAX 64

void open(void)
{
    char owner[128];
    uint32_t length = open_args_owner(owner, sizeof owner);
    if (length == 0 || length > sizeof owner) {
        partita_reject("invalid_owner", "an owner's name has 1 to 128 bytes");
        return;
    }
    if (account_exists(account_get())) {
        partita_reject("already_open", "the account is already open");
        return;
    }
    account_t account = account_create();
    account_set_owner(account, owner, length);
    account_set_opened_at(account, context_command_time());
}

void credit(void)
{
    char reference[REFERENCE_BYTES_MAX];
    account_t account = account_get(); /* 1 */
    if (!account_exists(account)) {
        partita_reject("not_open", "there is no such account");
        return;
    }
    int64_t amount = credit_args_amount(); /* 2 */
    if (amount <= 0 || amount > AMOUNT_MAX) {
        partita_reject("invalid_amount", "an amount is above 0 and at most 10,000,000,000.00");
        return;
    }
    uint32_t length = credit_args_reference(reference, sizeof reference); /* 3 */
    if (length > sizeof reference) {
        partita_reject("invalid_reference", "a reference has at most 64 bytes");
        return;
    }
    int64_t balance = account_balance(account) + amount; /* 4 */
    if (balance > BALANCE_MAX) {
        partita_reject("balance_too_large", "the account can't hold that much");
        return;
    }
    account_set_entries(account, account_entries(account) + 1);         /* 5, 6 */
    account_set_turnover(account, account_turnover(account) + amount);  /* 7, 8 */
    account_set_balance(account, balance);                              /* 9 */
    account_set_last_at(account, context_command_time());               /* 10, 11 */
    account_set_last_amount(account, amount);                           /* 12 */
    account_set_last_reference(account, reference, length);             /* 13 */
}

void debit(void)
{
    char reference[REFERENCE_BYTES_MAX];
    account_t account = account_get(); /* 1 */
    if (!account_exists(account)) {
        partita_reject("not_open", "there is no such account");
        return;
    }
    int64_t amount = debit_args_amount(); /* 2 */
    if (amount <= 0 || amount > AMOUNT_MAX) {
        partita_reject("invalid_amount", "an amount is above 0 and at most 10,000,000,000.00");
        return;
    }
    uint32_t length = debit_args_reference(reference, sizeof reference); /* 3 */
    if (length > sizeof reference) {
        partita_reject("invalid_reference", "a reference has at most 64 bytes");
        return;
    }
    int64_t balance = account_balance(account) - amount; /* 4 */
    if (balance < 0) {
        partita_reject("insufficient_funds", "the account holds less than that");
        return;
    }
    account_set_entries(account, account_entries(account) + 1);         /* 5, 6 */
    account_set_turnover(account, account_turnover(account) + amount);  /* 7, 8 */
    account_set_balance(account, balance);                              /* 9 */
    account_set_last_at(account, context_command_time());               /* 10, 11 */
    account_set_last_amount(account, -amount);                          /* 12 */
    account_set_last_reference(account, reference, length);             /* 13 */
}

/* Runs after each change of an account: one line of its statement. */
void statement(void)
{
    char reference[REFERENCE_BYTES_MAX];
    account_t account = account_event();
    int64_t at = account_last_at(account);
    statement_t line = statement_put(statement_key(at / DAY_MS, account_entries(account)));
    statement_set_at(line, at);
    statement_set_amount(line, account_last_amount(account));
    statement_set_balance(line, account_balance(account));
    uint32_t length = account_last_reference(account, reference, sizeof reference);
    statement_set_reference(line, reference, length);
}
