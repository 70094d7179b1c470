/*
 * Reading what the broker answered to a query: msgpack maps with text keys, looked at by name. A missing field reads as
 * none, 0 or false: an older broker may not send it. Must not know queries.
 */
#ifndef QUERN_CLI_ANSWER_H
#define QUERN_CLI_ANSWER_H

#include "client/cli/cli.h"

/* The encoded value of a key in a map; none if it is not there. */
struct bytes answer_get(struct bytes map, struct bytes key);
struct bytes answer_field(struct bytes map, const char *name);

uint64_t answer_u64(struct bytes map, const char *name);
int64_t answer_i64(struct bytes map, const char *name);
double answer_f64(struct bytes map, const char *name);
bool answer_flag(struct bytes map, const char *name);
/* The bytes of a str or bin; none if it is something else. */
struct bytes answer_bytes(struct bytes map, const char *name);
/* Malloc'd and NUL-terminated; NULL if it is no str. */
char *answer_text(struct bytes map, const char *name);
/* The same as a view into one of a few static buffers, "" if it is no str: for one printf. */
const char *answer_shown(struct bytes map, const char *name);
bool answer_is_nil(struct bytes map, const char *name);

/* The same of a value itself. */
struct bytes answer_scalar_bytes(struct bytes value);

struct answer_walk {
    const uint8_t *p;
    const uint8_t *end;
    uint32_t left;
};
/* Elements of an array, pairs of a map; nothing if value is none of that. */
void answer_walk_array(struct answer_walk *walk, struct bytes value);
void answer_walk_map(struct answer_walk *walk, struct bytes value);
bool answer_walk_next(struct answer_walk *walk, struct bytes *value_out);
bool answer_walk_pair(struct answer_walk *walk, struct bytes *key_out, struct bytes *value_out);
uint32_t answer_count(struct bytes value);

/* Ask, waiting as long as it takes. STATUS_OK, with the malloc'd answer in p; or the exit status, said. */
int query(struct quern_client *client, const char *what, const struct buf *params, const char *about,
          struct bytes *answer_out);
/* The same with {"id": id}, for the words of the command line that are ids. */
int query_id(struct quern_client *client, const char *what, uint64_t id, struct bytes *answer_out);

#endif
