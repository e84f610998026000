/* The four functions that a C compiler may call on its own. A guest has no C library. */
#include <stddef.h>

void *memcpy(void *restrict target, const void *restrict source, size_t count)
{
    char *to = target;
    const char *from = source;
    while (count--) *to++ = *from++;
    return target;
}

void *memmove(void *target, const void *source, size_t count)
{
    char *to = target;
    const char *from = source;
    if (to < from) {
        while (count--) *to++ = *from++;
    } else {
        while (count--) to[count] = from[count];
    }
    return target;
}

void *memset(void *target, int byte, size_t count)
{
    char *to = target;
    while (count--) *to++ = (char)byte;
    return target;
}

int memcmp(const void *left, const void *right, size_t count)
{
    const unsigned char *a = left, *b = right;
    for (; count; count--, a++, b++) {
        if (*a != *b) return *a - *b;
    }
    return 0;
}
