/*
 * disk_model.h: what a disk may hold if the power goes now. Writes, truncations and names are kept aside until a sync
 * of the file, or of its directory; at a power loss any part of them is there, missing, torn by sectors or garbled.
 * Must not know who writes. One per process.
 */
#ifndef QUERN_TESTS_DISK_MODEL_H
#define QUERN_TESTS_DISK_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model_file;

/* Forget everything. */
void model_clear(void);

/* The file of that name, as it is opened now: made known if it is not, its name too (durable only if it was there
 * before). A file that has come by a rename that nobody told of counts as synced. */
struct model_file *model_open(const char *path, bool was_there);
void model_write(struct model_file *file, size_t at, const void *p, size_t n);
void model_truncate(struct model_file *file, size_t size);
void model_sync(struct model_file *file);
/* What was written since the last sync goes nowhere, though whoever reads sees it: a sync has failed. */
void model_forget_writes(struct model_file *file);

/* Files that are not written through model_write: their content is looked at when they are synced. */
void model_sync_fd(int fd); /* a file, or a directory */

/* Names. They are durable, in their order, when their directory was synced. */
void model_delete(const char *path);
void model_rename(const char *from, const char *to);
void model_sync_names(void);

/* Write what the disk might hold into a directory. Seed 0: nothing that was not synced, 1: all of it. */
void model_power_loss(const char *directory, uint64_t seed);

#endif
