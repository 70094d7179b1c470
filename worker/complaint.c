/*
 * complaint.c owns how a worker that cannot start says so.
 * It must not know why.
 * Start reading at complain.
 */
#include "worker/complaint.h"

#include <stdarg.h>
#include <stdio.h>

void complain(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("quern-worker: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}
