/*
 * names.c owns lists of function names: reading, comparing, hashing them.
 * It must not know where they come from.
 * Start reading at names_read.
 */
#include "worker/names.h"

#include "common/bytes.h"
#include "common/check.h"

#include <stdlib.h>
#include <string.h>

bool names_read(const char *text, size_t size, size_t count, char ***names_out, size_t *count_out)
{
    const char *at = text;
    const char *end = text + size;
    /* Each takes a byte at least: no count that was announced is believed. */
    size_t room = count < size ? count : size;
    char **names = xcalloc(room + 1, sizeof(names[0]));
    size_t i = 0;
    while (i < room && at < end && memchr(at, 0, (size_t)(end - at)) != NULL) {
        names[i++] = xstrdup(at);
        at += strlen(at) + 1;
    }
    *names_out = names;
    *count_out = i;
    return i == count && at == end;
}

void names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
}

bool names_equal(char **a, size_t a_count, char **b, size_t b_count)
{
    bool is_equal = a_count == b_count;
    for (size_t i = 0; is_equal && i < a_count; i++) {
        is_equal = strcmp(a[i], b[i]) == 0;
    }
    return is_equal;
}

/* FNV-1a, the end of a name included. */
uint64_t names_hash_add(uint64_t hash, const char *name)
{
    size_t n = strlen(name) + 1;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ (uint8_t)name[i]) * 0x100000001b3u;
    }
    return hash;
}

uint64_t names_hash(char *const *names, size_t count)
{
    uint64_t hash = NAMES_HASH_BEGIN;
    for (size_t i = 0; i < count; i++) {
        hash = names_hash_add(hash, names[i]);
    }
    return hash;
}
