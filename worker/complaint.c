/*
 * complaint.c owns how a worker that cannot start says so.
 * It must not know why.
 * Start reading at complain.
 */
#include "worker/complaint.h"

#include "common/check.h"
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void complain(const char *format, ...)
{
    char *text = NULL;
    va_list list;
    va_start(list, format);
    CHECK(vasprintf(&text, format, list) >= 0);
    va_end(list);
    fprintf(stderr, "quern-worker: %s\n", text);
    log_errors_say(text);
    free(text);
}
