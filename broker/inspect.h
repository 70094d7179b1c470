/*
 * inspect.h: what `quern-broker --check` says of a store that no broker has open, for people and for programs.
 */
#ifndef QUERN_BROKER_INSPECT_H
#define QUERN_BROKER_INSPECT_H

#include "broker/store.h"

void inspect_text(struct buf *to, const char *path, const struct store_report *report);
/* One object, and the end of its line. */
void inspect_json(struct buf *to, const char *path, const struct store_report *report);

#endif
