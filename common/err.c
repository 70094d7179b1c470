/*
 * err.c owns the words and sentences of QUERN_ERR_LIST.
 * It must not know who failed.
 * Start reading at quern/err.h.
 */
#include "quern/err.h"

const char *quern_err_word(enum quern_err err)
{
    switch (err) {
#define X(code, name, word, text)                                                                                      \
    case QUERN_##name:                                                                                                 \
        return word;
        QUERN_ERR_LIST(X)
#undef X
    }
    return "unknown_code";
}

const char *quern_err_text(enum quern_err err)
{
    switch (err) {
#define X(code, name, word, text)                                                                                      \
    case QUERN_##name:                                                                                                 \
        return text;
        QUERN_ERR_LIST(X)
#undef X
    }
    return "an error this version does not know";
}
