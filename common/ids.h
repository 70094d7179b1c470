/*
 * Task ids (series << 32 | sequence, shown "7-42"), attempt tokens and 16-byte identities. Knows bytes.h.
 */
#ifndef QUERN_COMMON_IDS_H
#define QUERN_COMMON_IDS_H

#include "common/bytes.h"
#include "common/limits.h"

#define ID_TEXT_SIZE 24u /* "2147483647-2147483647" and its NUL */

struct uuid {
    uint8_t b[UUID_SIZE];
};

/* The right to report on one attempt. The store uuid is agreed in WELCOME and holds for the connection. */
struct token {
    uint64_t task;
    uint32_t epoch;   /* of the dispatch */
    uint32_t attempt; /* rises with every dispatch */
};

static inline uint64_t id_make(uint32_t series, uint32_t sequence)
{
    return (uint64_t)series << 32 | sequence;
}

static inline uint32_t id_series(uint64_t id)
{
    return (uint32_t)(id >> 32);
}

static inline uint32_t id_sequence(uint64_t id)
{
    return (uint32_t)id;
}

/* Can it be one? Both parts are 1..2147483647. */
bool id_is_sound(uint64_t id);
/* Writes "SERIES-SEQUENCE" into text and returns it. */
char *id_text(uint64_t id, char text[ID_TEXT_SIZE]);
/* False unless text is exactly SERIES-SEQUENCE, both 1..2147483647 in plain decimal. */
bool id_parse(const char *text, uint64_t *id_out);

struct uuid uuid_random(void);
bool uuid_is_zero(const struct uuid *uuid);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
/* 32 hex digits. */
char *uuid_text(const struct uuid *uuid, char text[2 * UUID_SIZE + 1]);

/* <0, 0, >0 by (epoch, attempt); both tokens are of the same task. */
int token_compare(struct token a, struct token b);

#endif
