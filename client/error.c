/*
 * error: the last error of each thread in words; copying of structs that carry their size.
 * Knows nobody.
 * Start at error_set.
 */
#include "client/inside.h"

#include "common/ids.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[ERROR_TEXT_SIZE_MAX];

enum quern_err error_set(enum quern_err code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error_text, sizeof(error_text), format, arguments);
    va_end(arguments);
    return code;
}

enum quern_err error_memory(const char *what)
{
    return error_set(QUERN_NO_MEMORY, "there is no memory for %s; nothing was changed, ask again when there is some",
                     what);
}

enum quern_err out_check(const char *function, const char *name, const void *out)
{
    return out == NULL ? error_set(QUERN_INVALID, "%s: %s is NULL", function, name) : QUERN_OK;
}

const char *quern_last_error(void)
{
    return error_text;
}

static bool is_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

enum quern_err sized_copy(void *to, size_t to_size, const void *from, const char *what)
{
    size_t from_size = *(const size_t *)from;
    if (from_size < sizeof(size_t)) {
        return error_set(QUERN_INVALID, "%s: its size is not set; begin with the INIT macro", what);
    }
    size_t common = from_size < to_size ? from_size : to_size;
    if (from_size > to_size && !is_zero((const unsigned char *)from + to_size, from_size - to_size)) {
        return error_set(QUERN_UNSUPPORTED, "%s: made for a newer quern, with a field set that this one does not know",
                         what);
    }
    memcpy(to, from, common);
    *(size_t *)to = to_size;
    return QUERN_OK;
}

/* The numbers of the header are those of the wire. */
_Static_assert((int)QUERN_STATE_DELAYED == (int)TASK_DELAYED && (int)QUERN_STATE_CANCELLED == (int)TASK_CANCELLED,
               "states");
_Static_assert((int)QUERN_CAUSE_ERROR == (int)CAUSE_ERROR && (int)QUERN_CAUSE_UNENCODABLE == (int)CAUSE_UNENCODABLE,
               "causes");
_Static_assert(QUERN_PAYLOAD_SIZE_MAX == PAYLOAD_SIZE_MAX, "payload limit");

_Static_assert(QUERN_ID_TEXT_SIZE == ID_TEXT_SIZE, "text of an id");

char *quern_id_text(uint64_t id, char text[QUERN_ID_TEXT_SIZE])
{
    return id_text(id, text);
}

enum quern_err quern_id_parse(const char *text, uint64_t *id_out)
{
    if (text == NULL || id_out == NULL || !id_parse(text, id_out)) {
        return error_set(QUERN_INVALID, "quern_id_parse: '%.40s' is no task id such as 8-42",
                         text == NULL ? "NULL" : text);
    }
    return QUERN_OK;
}

const char *quern_state_word(enum quern_state state)
{
    return task_state_word((unsigned)state);
}

const char *quern_cause_word(enum quern_cause cause)
{
    return cause_word((unsigned)cause);
}
