/*
 * names.h: the functions of a worker as a list of names by index, as the zygote tells them. Pure.
 */
#ifndef QUERN_WORKER_NAMES_H
#define QUERN_WORKER_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* text: count names, each with its NUL. False: it is something else; what was read is given out all the same. */
bool names_read(const char *text, size_t size, size_t count, char ***names_out, size_t *count_out);
void names_free(char **names, size_t count);
bool names_equal(char **a, size_t a_count, char **b, size_t b_count);

/* Lists of one hash mean the same functions by the same indexes. */
#define NAMES_HASH_BEGIN 0xcbf29ce484222325u
uint64_t names_hash_add(uint64_t hash, const char *name);
uint64_t names_hash(char *const *names, size_t count);

#endif
