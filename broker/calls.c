/*
 * calls.c: queue, function and options, interned: a million tasks of one map share one call. Must not know of tasks
 * beyond counting references. A call stays in memory while something refers to it, or while there is room; its row
 * stays in the store until a start finds that nothing refers to it.
 */
#include "broker/state.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Keyed by the store's uuid: the same in every replay of a seed, unknown to whoever chooses names from outside. */
uint64_t name_hash(const struct core *core, struct bytes name)
{
    _Static_assert(crypto_shorthash_KEYBYTES == UUID_SIZE, "the store's uuid is the key");
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, name.p, name.n, core->store.b);
    return hash;
}

static uint64_t call_hash(const struct core *core, struct bytes queue, struct bytes function, struct bytes options)
{
    return name_hash(core, queue) * 31 + name_hash(core, function) * 17 + name_hash(core, options);
}

static void buckets_grow(struct core *core)
{
    size_t count = core->call_bucket_count ? core->call_bucket_count * 2 : 64;
    struct call **buckets = xcalloc(count, sizeof *buckets);
    for (size_t i = 0; i < core->call_bucket_count; i++) {
        struct call *call = core->call_buckets[i];
        while (call != NULL) {
            struct call *next = call->next;
            struct call **bucket = &buckets[call->hash & (count - 1)];
            call->next = *bucket;
            *bucket = call;
            call = next;
        }
    }
    free(core->call_buckets);
    core->call_buckets = buckets;
    core->call_bucket_count = count;
}

static struct bytes copy_behind(uint8_t **at, struct bytes from)
{
    struct bytes copy = bytes_of(from.n ? *at : NULL, from.n);
    if (from.n > 0) {
        memcpy(*at, from.p, from.n);
        *at += from.n;
    }
    return copy;
}

static struct call *call_add(struct core *core, uint64_t id, struct bytes queue, struct bytes function,
                             struct bytes options, const struct task_options *option)
{
    struct lane *lane = lane_of(core, queue, function);
    if (lane == NULL) {
        return NULL;
    }
    if (core->call_count >= core->call_bucket_count) {
        buckets_grow(core);
    }
    struct call *call = xmalloc(sizeof *call + queue.n + function.n + options.n);
    uint8_t *at = (uint8_t *)(call + 1);
    *call = (struct call){.id = id, .option = *option, .lane = lane, .hash = call_hash(core, queue, function, options)};
    call->queue = copy_behind(&at, queue);
    call->function = copy_behind(&at, function);
    call->options = copy_behind(&at, options);
    struct call **bucket = &core->call_buckets[call->hash & (core->call_bucket_count - 1)];
    call->next = *bucket;
    *bucket = call;
    core->call_count++;
    lane->calls++;
    map_put(&core->calls, id, call);
    return call;
}

static void call_forget(struct core *core, struct call *call)
{
    struct call **at = &core->call_buckets[call->hash & (core->call_bucket_count - 1)];
    while (*at != call) {
        at = &(*at)->next;
    }
    *at = call->next;
    map_remove(&core->calls, call->id);
    core->call_count--;
    call->lane->calls--;
    free(call);
}

/* Room for new calls: those that nothing in memory refers to go. Their rows stay. */
static void calls_shed(struct core *core)
{
    for (size_t i = 0; i < core->call_bucket_count; i++) {
        struct call *call = core->call_buckets[i];
        while (call != NULL) {
            struct call *next = call->next;
            if (call->refs == 0) {
                call_forget(core, call);
            }
            call = next;
        }
    }
}

static struct call *call_lookup(struct core *core, struct bytes queue, struct bytes function, struct bytes options)
{
    if (core->call_bucket_count == 0) {
        return NULL;
    }
    uint64_t hash = call_hash(core, queue, function, options);
    for (struct call *call = core->call_buckets[hash & (core->call_bucket_count - 1)]; call != NULL;
         call = call->next) {
        if (call->hash == hash && bytes_equal(call->function, function) && bytes_equal(call->queue, queue) &&
            bytes_equal(call->options, options)) {
            return call;
        }
    }
    return NULL;
}

/* Its row goes with the first task that is written; the number it has by then was given to no other. */
static void call_store(struct core *core, struct call *call)
{
    if (call->is_stored) {
        return;
    }
    struct change *change = batch_single(core, CHANGE_CALL);
    change->call = (struct call_row){.id = call->id,
                                     .queue = arena_copy(&core->open.arena, call->queue),
                                     .function = arena_copy(&core->open.arena, call->function),
                                     .options = arena_copy(&core->open.arena, call->options)};
    core->open.meta_changed = true;
    call->is_stored = true;
}

struct call *call_intern(struct core *core, struct bytes queue, struct bytes function, struct bytes options,
                         const struct task_options *option, bool is_volatile)
{
    struct call *call = call_lookup(core, queue, function, options);
    if (call == NULL) {
        if (core->call_count >= CALL_COUNT_MAX || core->lane_count >= core->lane_shed_at) {
            calls_shed(core);
            lanes_shed(core);
        }
        if (core->call_count >= CALL_COUNT_MAX) {
            return NULL;
        }
        call = call_add(core, core->meta.call_next, queue, function, options, option);
        if (call == NULL) {
            return NULL;
        }
        core->meta.call_next++;
    }
    if (!is_volatile) {
        call_store(core, call);
    }
    call->refs++;
    return call;
}

struct call *call_restore(struct core *core, const struct call_row *row)
{
    struct task_options option;
    const char *why;
    if (task_options_read(row->options, &option, &why) != QUERN_OK) {
        option = task_options_default();
    }
    struct call *call = call_add(core, row->id, row->queue, row->function, row->options, &option);
    if (call != NULL) {
        call->is_stored = true;
    }
    return call;
}

void call_release(struct core *core, struct call *call)
{
    (void)core;
    CHECK(call->refs > 0);
    call->refs--;
}

void calls_fini(struct core *core)
{
    for (size_t i = 0; i < core->call_bucket_count; i++) {
        struct call *call = core->call_buckets[i];
        while (call != NULL) {
            struct call *next = call->next;
            free(call);
            call = next;
        }
    }
    free(core->call_buckets);
    map_fini(&core->calls);
}
