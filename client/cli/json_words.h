/* The keys that begin with `$`: one list for both directions. */
#ifndef QUERN_CLI_JSON_WORDS_H
#define QUERN_CLI_JSON_WORDS_H

#include "common/bytes.h"

#define WORD_BIN "$bin"     /* base64: binary */
#define WORD_STR "$str"     /* base64: a str that is not UTF-8 */
#define WORD_EXT "$ext"     /* [type, base64]: extension type */
#define WORD_MAP "$map"     /* [[key, value], ...]: a map that no object can say */
#define WORD_FLOAT "$float" /* NaN, Infinity, -Infinity, NaN:BITS */
#define WORD_INT "$int"     /* decimal text of an integer up to 64 bits */

#define NAN_BITS 0x7ff8000000000000u

enum json_word {
    JSON_WORD_NONE,
    JSON_WORD_BIN,
    JSON_WORD_STR,
    JSON_WORD_EXT,
    JSON_WORD_MAP,
    JSON_WORD_FLOAT,
    JSON_WORD_INT,
};

enum json_word json_word_of(struct bytes key);

#endif
