/*
 * ids.c owns the text form of task ids, identities of 16 bytes and the order of attempt tokens.
 * It must not know what a task is.
 * Start reading at ids.h.
 */
#include "common/ids.h"

#include "common/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

char *id_text(uint64_t id, char text[ID_TEXT_SIZE])
{
    snprintf(text, ID_TEXT_SIZE, "%" PRIu32 "-%" PRIu32, id_series(id), id_sequence(id));
    return text;
}

/* One number 1..max without sign, blanks or leading zeros; *text then stands behind it. */
static bool number_parse(const char **text, uint32_t max, uint32_t *number_out)
{
    const char *at = *text;
    uint64_t number = 0;

    if (*at < '1' || *at > '9') {
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint64_t)(*at - '0');
        if (number > max) {
            return false;
        }
    }
    *text = at;
    *number_out = (uint32_t)number;
    return true;
}

bool id_is_sound(uint64_t id)
{
    return id_series(id) != 0 && id_series(id) <= SERIES_MAX && id_sequence(id) != 0 && id_sequence(id) <= SEQUENCE_MAX;
}

bool id_parse(const char *text, uint64_t *id_out)
{
    uint32_t series;
    uint32_t sequence;

    if (!number_parse(&text, SERIES_MAX, &series) || *text != '-') {
        return false;
    }
    text++;
    if (!number_parse(&text, SEQUENCE_MAX, &sequence) || *text != '\0') {
        return false;
    }
    *id_out = id_make(series, sequence);
    return true;
}

struct uuid uuid_random(void)
{
    struct uuid uuid;

    do {
        random_fill(uuid.b, sizeof uuid.b);
    } while (uuid_is_zero(&uuid)); /* zeros mean "none" */
    return uuid;
}

bool uuid_is_zero(const struct uuid *uuid)
{
    static const struct uuid zero;

    return uuid_equal(uuid, &zero);
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

char *uuid_text(const struct uuid *uuid, char text[2 * UUID_SIZE + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < UUID_SIZE; i++) {
        text[2 * i] = digits[uuid->b[i] >> 4];
        text[2 * i + 1] = digits[uuid->b[i] & 15];
    }
    text[2 * UUID_SIZE] = '\0';
    return text;
}

static int number_compare(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

int token_compare(struct token a, struct token b)
{
    int order = number_compare(a.epoch, b.epoch);

    return order != 0 ? order : number_compare(a.attempt, b.attempt);
}
