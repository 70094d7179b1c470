/*
 * JSON text to msgpack and back, for every value of either: README.md has the rules. What one side cannot say becomes
 * an object with one key that begins with `$`, both ways; a genuine map of that shape is written as {"$map": [[k, v]]}.
 * Nothing changes silently: what cannot be represented is an error. Must not know tasks.
 */
#ifndef QUERN_CLI_JSON_H
#define QUERN_CLI_JSON_H

#include "common/bytes.h"
#include "quern/err.h"

#define JSON_ERROR_SIZE 256u

/* Appends one msgpack value of at most depth levels. False, with the reason in words, if the text is not one JSON value
 * or cannot be represented; to is as before then. */
bool json_to_msgpack(struct bytes text, uint32_t depth, struct buf *to, char error[JSON_ERROR_SIZE]);

/* Appends the JSON of one msgpack value on one line. QUERN_MALFORMED, QUERN_TOO_BIG (deeper than VALUE_DEPTH_MAX): to
 * is as before then. */
QUERN_MUST_USE enum quern_err json_from_msgpack(struct bytes value, struct buf *to);

/* A JSON string, or {"$str": base64} if the text is not UTF-8. */
void json_put_str(struct buf *to, struct bytes text);
/* A JSON string if the bytes are UTF-8, else {"$bin": base64}: for output of commands and lines of input. */
void json_put_text_or_bin(struct buf *to, struct bytes bytes);
void json_put_f64(struct buf *to, double value);

#endif
