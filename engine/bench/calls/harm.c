/* Commands that end badly: what `partita bench harm` puts between good ones. */
#include "harm.h"

void trap(void) { __builtin_trap(); }

void endless(void)
{
    for (volatile int64_t turns = 0;; turns++) {}
}
