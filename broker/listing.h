/* listing.h: the rows of a list, those of the store and those in memory. Inside the core only. */
#ifndef QUERN_BROKER_LISTING_H
#define QUERN_BROKER_LISTING_H

#include "broker/state.h"

/* Tasks and outcomes of volatile sessions that one list looks at: looking is done between two steps. */
#define LISTING_LOOK_COUNT_MAX 100000u

/* Newest id first, at most limit rows; the caller frees the array (not what it points to). */
struct list_row *listing_merge(const struct core *core, const struct list_query *query, size_t limit,
                               const struct loaded *loaded, size_t *count_out);

#endif
