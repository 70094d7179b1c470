/*
 * shrink: from a world that breaks a promise to a smaller one that breaks it in the same way. Each is tried in a
 * process of its own. Knows chaos.h. Start at shrink.
 */
#ifndef QUERN_TESTS_SHRINK_H
#define QUERN_TESTS_SHRINK_H

#include "chaos.h"

/* run: returns if nothing fails. The exit status of the program: 0 if the world failed, and was made smaller. */
int shrink(const struct chaos_plan *plan, void (*run)(const struct chaos_plan *plan));

#endif
