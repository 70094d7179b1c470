/*
 * store_world: a directory, a workload and a dump. Must not know SQL.
 * Start at world_batch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/store_world.h"

#include "common/check.h"
#include "common/message.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATTERN_SIZE (64u * 1024u)
#define TASKS_PER_BATCH 4u

/* ---- directories ---- */

char *world_directory(void)
{
    /* In memory where possible: what is tested is what we ask of a disk, not how long it takes. */
    const char *base = getenv("TMPDIR");
    if (base == NULL) {
        base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    char *path = NULL;
    CHECK(asprintf(&path, "%s/quern-test-XXXXXX", base) > 0);
    CHECK(mkdtemp(path) != NULL);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void world_remove(char **directory)
{
    nftw(*directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*directory);
    *directory = NULL;
}

struct limits world_limits(void)
{
    struct limits limits = limits_default();
    limits.ballast_bytes = 0;
    limits.disk_reserve_bytes = 0;
    limits.wal_bytes_max = 4 * MIB;
    return limits;
}

struct store *world_open(const char *directory, struct store_facts *facts)
{
    char path[4096];
    char *why = NULL;
    struct store *store = NULL;
    struct store_facts mine;
    struct limits limits = world_limits();
    snprintf(path, sizeof path, "%s/quern.db", directory);
    enum quern_err err = store_open(path, &limits, &store, facts != NULL ? facts : &mine, &why);
    if (err != QUERN_OK) {
        fail_msg("%s: %s", quern_err_word(err), why);
    }
    return store;
}

/* ---- the workload ---- */

static struct bytes pattern(uint32_t seed, size_t n)
{
    static uint8_t bytes[PATTERN_SIZE];
    if (bytes[1] == 0) {
        for (size_t i = 0; i < PATTERN_SIZE; i++) {
            bytes[i] = (uint8_t)(i * 131 + (i >> 8) * 7);
        }
    }
    return bytes_of(bytes + seed % 1000, n);
}

static size_t payload_size(uint32_t seed)
{
    return seed % 13 == 0 ? 20000 : seed % 7 == 0 ? 3000 : seed % 5 * 40;
}

static struct change change_task(uint32_t number, uint32_t index)
{
    uint32_t sequence = number * TASKS_PER_BATCH + index;
    return (struct change){
        .kind = CHANGE_TASK,
        .task = {.id = id_make(3, sequence),
                 .session = 1,
                 .call = 1 + number / 5,
                 .state = index == 0 ? TASK_DELAYED : TASK_READY,
                 .priority = (int32_t)(sequence % 7) - 3,
                 .due = index == 0 ? 1700000000000 : 0,
                 .created = 1600000000000 + number,
                 .ordinal = sequence,
                 .args = pattern(sequence, payload_size(sequence))},
    };
}

static struct change change_state(uint32_t number, uint32_t index)
{
    uint32_t sequence = number * TASKS_PER_BATCH + index;
    return (struct change){
        .kind = CHANGE_TASK_STATE,
        .task = {.id = id_make(3, sequence),
                 .state = index == 1 ? TASK_LEASED : TASK_BACKOFF,
                 .attempt = 1 + number,
                 .epoch = 1,
                 .worker = 1,
                 .attempts = index,
                 .crashes = number % 3,
                 .losses = number % 2,
                 .due = index == 1 ? 0 : 1700000000000 + number},
    };
}

static struct change change_outcome(uint32_t number, uint32_t index, uint32_t series)
{
    uint32_t sequence = number * TASKS_PER_BATCH + index;
    bool is_done = index % 2 == 0;
    return (struct change){
        .kind = CHANGE_OUTCOME,
        .had_task = series == 3,
        .outcome = {.id = id_make(series, sequence),
                    .session = 1,
                    .completion = number * 8 + index + (series == 3 ? 0 : 4),
                    .call = 1 + number / 5,
                    .state = is_done ? TASK_DONE : TASK_FAILED,
                    .cause = is_done ? CAUSE_NONE : CAUSE_ERROR,
                    .attempt = 2,
                    .attempts = 1,
                    .worker = bytes_text("host:77"),
                    .signal = is_done ? 0 : 11,
                    .exit_status = is_done ? 0 : 3,
                    .created = 1600000000000 + number,
                    .started = 1600000000500 + number,
                    .finished = 1600000000900 + number,
                    .run_us = 400000,
                    .cpu_us = 390000,
                    .peak = 70000,
                    .ordinal = sequence,
                    .retry_of = is_done ? 0 : id_make(2, sequence),
                    .kind = is_done ? (struct bytes){0} : bytes_text("DivisionByZero"),
                    .message = is_done ? (struct bytes){0} : bytes_text("division by zero"),
                    .detail = is_done ? (struct bytes){0} : pattern(sequence, 700),
                    .report = is_done ? (struct bytes){0} : pattern(sequence + 2, 300),
                    .result = is_done ? pattern(sequence + 1, payload_size(sequence + 1)) : (struct bytes){0},
                    .args = is_done ? (struct bytes){0} : pattern(sequence, payload_size(sequence)),
                    .output = is_done ? pattern(sequence + 3, 500) : (struct bytes){0},
                    .args_size = payload_size(sequence),
                    .args_hash = UINT64_MAX - sequence},
    };
}

static struct change change_failure(uint32_t number, uint32_t index)
{
    return (struct change){
        .kind = CHANGE_FAILURE,
        .failure = {.task = id_make(3, number * TASKS_PER_BATCH + index),
                    .attempt = 1 + number,
                    .at = 1600000001000 + number,
                    .worker = bytes_text("host:78"),
                    .cause = CAUSE_CRASHED,
                    .signal = 9,
                    .exit_status = 0,
                    .kind = bytes_text("Signal"),
                    .message = bytes_text("killed by signal 9"),
                    .detail = pattern(number, number % 4 * 500),
                    .run_us = 5000 + number,
                    .cpu_us = 4000 + number,
                    .peak = 3000 + number,
                    .report = pattern(number, number % 3 * 400),
                    .output = pattern(number + 1, number % 2 * 600)},
    };
}

static size_t put_shared_rows(uint32_t number, struct change *changes)
{
    size_t n = 0;
    changes[n++] = (struct change){.kind = CHANGE_META,
                                   .meta = {.series_next = 4 + number,
                                            .session_next = 3 + number,
                                            .worker_next = 2 + number,
                                            .call_next = 2 + number / 5}};
    changes[n++] = (struct change){.kind = CHANGE_SESSION,
                                   .had_taken = number % 2 == 0,
                                   .session = {.id = 1,
                                               .name = bytes_text("nightly"),
                                               .description = pattern(5, 900),
                                               .owner = {{1, 2, (uint8_t)number}},
                                               .owner_text = bytes_text("host:4711"),
                                               .completion_last = number * 8,
                                               .acked_prefix = number * 2,
                                               .ordinal_high = number * TASKS_PER_BATCH + 3,
                                               .digest = {9, (uint8_t)number},
                                               .failed = number,
                                               .keep = true,
                                               .is_ending = number % 2 == 0,
                                               .created = 1600000000000,
                                               .used = 1600000000000 + number,
                                               .expire_ms = number * 1000}};
    changes[n++] = (struct change){
        .kind = CHANGE_TAKEN, .taken = {.session = 1, .first = number * 2 + 3, .last = number * 2 + 3 + number % 3}};
    changes[n++] =
        (struct change){.kind = CHANGE_TAKEN, .taken = {.session = 1, .first = number * 8, .last = number * 8}};
    changes[n++] = (struct change){
        .kind = CHANGE_SERIES,
        .series = {.id = 3,
                   .session = 1,
                   .instance = {{7, 7, 7}},
                   .submitted_high = number * TASKS_PER_BATCH + 3,
                   .refused = bytes_text(number % 3 == 0 ? "\x90" : "\x92\x93\x01\x02\x05\x93\x07\x07\x06")}};
    changes[n++] = (struct change){.kind = CHANGE_WORKER,
                                   .worker = {.id = 1,
                                              .name = bytes_text("HOST-0"),
                                              .instance = {{8, (uint8_t)(number / 4)}},
                                              .host = bytes_text("host"),
                                              .pid = 1000 + number / 4}};
    if (number % 5 == 0 || number == 1) {
        changes[n++] = (struct change){.kind = CHANGE_CALL,
                                       .call = {.id = 1 + number / 5,
                                                .queue = bytes_text("default"),
                                                .function = bytes_text("square"),
                                                .options = pattern(number, number % 2 * 20)}};
    }
    if (number % 3 == 0) { /* a session that comes and goes */
        changes[n++] = (struct change){.kind = CHANGE_SESSION, .session = {.id = 2 + number, .completion_last = 5}};
        changes[n++] = (struct change){.kind = CHANGE_TAKEN, .taken = {.session = 2 + number, .first = 3, .last = 4}};
        changes[n++] = (struct change){.kind = CHANGE_SERIES, .series = {.id = 1000 + number, .session = 2 + number}};
    }
    changes[n++] = (struct change){.kind = CHANGE_SERIES, .series = {.id = 2000 + number, .session = 1}};
    if (number > 2) { /* a series that goes before its session */
        changes[n++] = (struct change){.kind = CHANGE_SERIES_DELETE, .series = {.id = 2000 + number - 2, .session = 1}};
    }
    if (number % 3 == 1 && number > 3) {
        changes[n++] = (struct change){.kind = CHANGE_SESSION_DELETE, .number = 2 + number - 1};
    }
    return n;
}

size_t world_batch(uint32_t number, struct change changes[WORLD_CHANGE_COUNT_MAX])
{
    size_t n = put_shared_rows(number, changes);
    for (uint32_t i = 0; i < TASKS_PER_BATCH; i++) {
        changes[n++] = change_task(number, i);
    }
    if (number > 1) {
        changes[n++] = change_state(number - 1, 1);
        changes[n++] = change_state(number - 1, 2);
        changes[n++] = change_failure(number - 1, 2);
    }
    if (number > 2) {
        changes[n++] = change_outcome(number - 2, 1, 3);
        changes[n++] = change_outcome(number - 2, 2, 3);
    }
    changes[n++] = change_outcome(number, 0, 2); /* submitted and finished within this batch */
    if (number > 6) {
        changes[n++] =
            (struct change){.kind = CHANGE_OUTCOME_DELETE, .number = id_make(3, (number - 6) * TASKS_PER_BATCH + 2)};
    }
    CHECK(n <= WORLD_CHANGE_COUNT_MAX);
    return n;
}

enum store_verdict world_apply(struct store *store, uint32_t epoch, uint32_t number)
{
    struct change changes[WORLD_CHANGE_COUNT_MAX];
    size_t count = world_batch(number, changes);
    return store_apply(store, epoch, changes, count);
}

/* ---- the dump ---- */

struct dump {
    struct buf text;
    uint64_t *outcomes;
    size_t outcome_count;
    uint64_t *tasks;
    size_t task_count;
};

static void put_view(struct buf *text, struct bytes view)
{
    if (view.p == NULL) {
        buf_printf(text, " none");
    } else {
        buf_printf(text, " %zu:%016" PRIx64, view.n, bytes_hash(view));
    }
}

static void dump_call(void *context, const struct call_row *row)
{
    struct buf *text = &((struct dump *)context)->text;
    buf_printf(text, "call %" PRIu64, row->id);
    put_view(text, row->queue);
    put_view(text, row->function);
    put_view(text, row->options);
    buf_printf(text, "\n");
}

static void dump_session(void *context, const struct session_row *row)
{
    struct buf *text = &((struct dump *)context)->text;
    buf_printf(text,
               "session %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %d %" PRId64 " %" PRId64
               " %" PRIu64,
               row->id, row->completion_last, row->acked_prefix, row->ordinal_high, row->failed, row->keep,
               row->is_ending, row->created, row->used, row->expire_ms);
    put_view(text, row->name);
    put_view(text, row->description);
    put_view(text, row->owner_text);
    put_view(text, bytes_of(row->owner.b, UUID_SIZE));
    put_view(text, bytes_of(row->digest, DIGEST_SIZE));
    buf_printf(text, "\n");
}

static void dump_taken(void *context, const struct taken_row *row)
{
    struct buf *text = &((struct dump *)context)->text;
    buf_printf(text, "taken %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", row->session, row->first, row->last);
}

static void dump_series(void *context, const struct series_row *row)
{
    struct buf *text = &((struct dump *)context)->text;
    buf_printf(text, "series %" PRIu64 " %" PRIu64 " %" PRIu64, row->id, row->session, row->submitted_high);
    put_view(text, bytes_of(row->instance.b, UUID_SIZE));
    put_view(text, row->refused);
    buf_printf(text, "\n");
}

static void dump_worker(void *context, const struct worker_row *row)
{
    struct buf *text = &((struct dump *)context)->text;
    buf_printf(text, "worker %" PRIu64 " %" PRIu64, row->id, row->pid);
    put_view(text, row->name);
    put_view(text, bytes_of(row->instance.b, UUID_SIZE));
    put_view(text, row->host);
    buf_printf(text, "\n");
}

static void remember(uint64_t **ids, size_t *count, uint64_t id)
{
    *ids = xrealloc(*ids, (*count + 1) * sizeof **ids);
    (*ids)[(*count)++] = id;
}

static void dump_task(void *context, const struct task_row *row)
{
    struct dump *dump = context;
    remember(&dump->tasks, &dump->task_count, row->id);
    buf_printf(&dump->text,
               "task %" PRIx64 " %" PRIu64 " %" PRIu64 " %u %d %u %u %" PRIu64 " %u %u %u %" PRId64 " %" PRId64
               " %" PRIu64 " %" PRIu64,
               row->id, row->session, row->call, row->state, row->priority, row->attempt, row->epoch, row->worker,
               row->attempts, row->crashes, row->losses, row->due, row->created, row->ordinal, row->retry_of);
    put_view(&dump->text, row->args);
    buf_printf(&dump->text, "\n");
}

static void dump_outcome(void *context, uint64_t id, uint64_t session, uint64_t completion, int64_t finished,
                         uint64_t size)
{
    struct dump *dump = context;
    remember(&dump->outcomes, &dump->outcome_count, id);
    buf_printf(&dump->text, "outcome %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRIu64 "\n", id, session,
               completion, finished, size);
}

static void dump_outcome_row(struct buf *text, const struct outcome_row *row)
{
    buf_printf(text,
               "whole %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %u %u %u %u %u %" PRId64 " %" PRId64
               " %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
               row->id, row->session, row->completion, row->call, row->state, row->cause, row->attempt, row->attempts,
               row->signal, row->exit_status, row->created, row->started, row->finished, row->run_us, row->cpu_us,
               row->peak, row->ordinal, row->retry_of, row->args_size, row->args_hash);
    put_view(text, row->worker);
    put_view(text, row->kind);
    put_view(text, row->message);
    put_view(text, row->detail);
    put_view(text, row->report);
    put_view(text, row->result);
    put_view(text, row->args);
    buf_printf(text, "\n");
}

static void dump_failure(void *context, const struct failure_row *row)
{
    struct buf *text = context;
    buf_printf(text, "failure %" PRIx64 " %u %" PRId64 " %u %u %u %" PRIu64 " %" PRIu64 " %" PRIu64, row->task,
               row->attempt, row->at, row->cause, row->signal, row->exit_status, row->run_us, row->cpu_us, row->peak);
    put_view(text, row->worker);
    put_view(text, row->kind);
    put_view(text, row->message);
    put_view(text, row->detail);
    put_view(text, row->report);
    buf_printf(text, "\n");
}

/* Of a task's last attempt, and of the first. */
static void dump_output(struct store *store, uint64_t task, struct buf *text)
{
    for (uint32_t asked = 0; asked < 2; asked++) {
        uint32_t attempt = asked;
        struct bytes output;
        assert_int_equal(store_output(store, task, &attempt, &output), QUERN_OK);
        buf_printf(text, "output %" PRIx64 " %u", task, attempt);
        put_view(text, output);
        buf_printf(text, "\n");
    }
}

char *world_dump(struct store *store)
{
    struct dump dump = {0};
    struct store_visitor visitor = {.context = &dump,
                                    .call = dump_call,
                                    .session = dump_session,
                                    .taken = dump_taken,
                                    .series = dump_series,
                                    .worker = dump_worker,
                                    .task = dump_task,
                                    .outcome = dump_outcome};
    char *why = NULL;
    if (store_load(store, &visitor, &why) != QUERN_OK) {
        fail_msg("%s", why);
    }
    for (size_t i = 0; i < dump.outcome_count; i++) {
        struct outcome_row row;
        assert_int_equal(store_outcome(store, dump.outcomes[i], &row), QUERN_OK);
        dump_outcome_row(&dump.text, &row);
        assert_int_equal(store_failures(store, dump.outcomes[i], 100, &dump.text, dump_failure), QUERN_OK);
        dump_output(store, dump.outcomes[i], &dump.text);
    }
    for (size_t i = 0; i < dump.task_count; i++) {
        assert_int_equal(store_failures(store, dump.tasks[i], 100, &dump.text, dump_failure), QUERN_OK);
        dump_output(store, dump.tasks[i], &dump.text);
    }
    free(dump.outcomes);
    free(dump.tasks);
    buf_put_u8(&dump.text, 0);
    size_t n;
    return (char *)buf_release(&dump.text, &n);
}

char **world_expected(uint32_t count)
{
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    char **expected = xcalloc(count + 1, sizeof *expected);
    expected[0] = world_dump(store);
    for (uint32_t i = 1; i <= count; i++) {
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
        expected[i] = world_dump(store);
    }
    store_close(&store, true);
    world_remove(&directory);
    return expected;
}

void world_expected_free(char ***expected, uint32_t count)
{
    for (uint32_t i = 0; i <= count; i++) {
        free((*expected)[i]);
    }
    free(*expected);
    *expected = NULL;
}
