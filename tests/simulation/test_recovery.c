/*
 * test_recovery: reads the decision tables of broker/RECOVERY.md and walks every cell of them: makes the disk that the
 * row says, starts a core on it, lets the column happen, and compares what came out with the word in the cell. Start
 * reading at the columns of the tables (claim_words, say_words, who_words).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/check.h"
#include "memstore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECOVERY_FILE TESTS_DIR "/../broker/RECOVERY.md"
#define TASK ((uint64_t)1 << 32 | 1)
#define STORED_EPOCH 2u
#define STORED_ATTEMPT 2u
#define CELL_COUNT_MAX 16u
#define CELL_SIZE 64u
#define WALL_START 1700000000000

/* ---- the tables in the document ---- */

struct table_row {
    char cells[CELL_COUNT_MAX][CELL_SIZE];
    size_t count;
};

static bool row_parse(const char *line, struct table_row *row)
{
    row->count = 0;
    if (line[0] != '|') {
        return false;
    }
    const char *at = line + 1;
    for (const char *end; (end = strchr(at, '|')) != NULL && row->count < CELL_COUNT_MAX; at = end + 1) {
        while (*at == ' ') {
            at++;
        }
        size_t size = (size_t)(end - at);
        while (size > 0 && at[size - 1] == ' ') {
            size--;
        }
        snprintf(row->cells[row->count++], CELL_SIZE, "%.*s", (int)size, at);
    }
    return row->count > 1;
}

typedef void walk_cell(const char *stored, const char *column, char *word_out);

/* Walks the table whose first heading is that word; returns how many cells it had. */
static unsigned table_walk(const char *first_heading, walk_cell *walk)
{
    FILE *file = fopen(RECOVERY_FILE, "r");
    char line[1024];
    struct table_row head = {.count = 0};
    unsigned cells = 0;
    unsigned wrong = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        struct table_row row;
        if (!row_parse(line, &row)) {
            head.count = 0;
        } else if (head.count == 0 && strcmp(row.cells[0], first_heading) == 0) {
            head = row;
        } else if (head.count > 0 && strncmp(row.cells[0], "---", 3) != 0) {
            assert_int_equal(row.count, head.count);
            for (size_t i = 1; i < row.count; i++, cells++) {
                char word[CELL_SIZE] = "?";
                walk(row.cells[0], head.cells[i], word);
                if (strcmp(word, row.cells[i]) != 0) {
                    print_error("%s × %s: the table says \"%s\", the core does \"%s\"\n", row.cells[0], head.cells[i],
                                row.cells[i], word);
                    wrong++;
                }
            }
        }
    }
    fclose(file);
    assert_int_equal(wrong, 0);
    return cells;
}

/* ---- the disk that a row of a table says ---- */

static struct uuid instance(uint8_t number)
{
    struct uuid uuid = {{0}};
    uuid.b[0] = number;
    return uuid;
}
enum { OWNER = 1, FORMER_OWNER = 2, STRANGER = 3, OLD_OWNER = 4, PROCESS_P = 11, NEW_PROCESS = 12, OTHER_WORKER = 13 };

static struct bytes args(void)
{
    return bytes_text("\xa4"
                      "work");
}

static void apply_one(struct memstore *disk, struct change change)
{
    assert_null(memstore_apply(disk, &change, 1, false));
}

static void put_session(struct memstore *disk, bool has_outcome, bool is_acked)
{
    apply_one(disk,
              (struct change){.kind = CHANGE_META,
                              .meta = {.series_next = 10, .session_next = 10, .worker_next = 10, .call_next = 10}});
    apply_one(disk, (struct change){.kind = CHANGE_SESSION,
                                    .session = {.id = 1,
                                                .name = bytes_text("s"),
                                                .owner = instance(OWNER),
                                                .owner_text = bytes_text("host:1"),
                                                .completion_last = has_outcome ? 1 : 0,
                                                .acked_prefix = is_acked ? 1 : 0,
                                                .created = WALL_START,
                                                .used = WALL_START}});
    apply_one(disk, (struct change){.kind = CHANGE_WORKER,
                                    .worker = {.id = 1,
                                               .name = bytes_text("W"),
                                               .instance = instance(PROCESS_P),
                                               .host = bytes_text("host"),
                                               .pid = 11}});
}

static void put_series(struct memstore *disk, uint64_t id, uint8_t owner, uint64_t high, bool is_refused)
{
    struct buf refused = {0};
    if (is_refused) {
        put_array(&refused, 1);
        put_array(&refused, 3);
        put_u64(&refused, 1);
        put_u64(&refused, 1);
        put_u64(&refused, QUERN_DISK);
    }
    apply_one(disk, (struct change){.kind = CHANGE_SERIES,
                                    .series = {.id = id,
                                               .session = 1,
                                               .instance = instance(owner),
                                               .submitted_high = high,
                                               .refused = is_refused ? buf_bytes(&refused) : bytes_of(NULL, 0)}});
    buf_fini(&refused);
}

static void put_call(struct memstore *disk, bool at_most_once)
{
    struct task_options options = task_options_default();
    struct buf encoded = {0};
    options.at_most_once = at_most_once;
    task_options_put(&encoded, &options);
    apply_one(disk, (struct change){.kind = CHANGE_CALL,
                                    .call = {.id = 1,
                                             .queue = bytes_text("default"),
                                             .function = bytes_text("work"),
                                             .options = buf_bytes(&encoded)}});
    buf_fini(&encoded);
}

static void put_task(struct memstore *disk, enum task_state state)
{
    apply_one(disk, (struct change){.kind = CHANGE_TASK,
                                    .task = {.id = TASK,
                                             .session = 1,
                                             .call = 1,
                                             .state = state,
                                             .attempt = STORED_ATTEMPT,
                                             .epoch = STORED_EPOCH,
                                             .worker = 1,
                                             .due = state == TASK_BACKOFF ? WALL_START + 86400000 : 0,
                                             .created = WALL_START,
                                             .args = args()}});
}

static void put_outcome(struct memstore *disk)
{
    apply_one(disk, (struct change){.kind = CHANGE_OUTCOME,
                                    .outcome = {.id = TASK,
                                                .session = 1,
                                                .completion = 1,
                                                .call = 1,
                                                .state = TASK_DONE,
                                                .attempt = STORED_ATTEMPT,
                                                .attempts = 2,
                                                .created = WALL_START,
                                                .finished = WALL_START,
                                                .result = args()}});
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static struct memstore *disk_of(const char *stored)
{
    struct memstore *disk = memstore_open(7);
    struct store_facts facts;
    memstore_start(disk, &facts);
    memstore_start(disk, &facts);
    bool has_outcome = begins(stored, "outcome");
    put_session(disk, has_outcome, strstr(stored, "acknowledged") != NULL || strstr(stored, "deleted") != NULL);
    put_series(disk, 1, OWNER, strcmp(stored, "nothing") == 0 ? 0 : 1, strstr(stored, "refused") != NULL);
    put_series(disk, 2, FORMER_OWNER, 0, false);
    put_call(disk, strstr(stored, "at_most_once") != NULL);
    if (begins(stored, "ready")) {
        put_task(disk, TASK_READY);
    } else if (begins(stored, "backoff")) {
        put_task(disk, TASK_BACKOFF);
    } else if (begins(stored, "leased")) {
        put_task(disk, TASK_LEASED);
    } else if (begins(stored, "running")) {
        put_task(disk, TASK_RUNNING);
    } else if (has_outcome && strstr(stored, "deleted") == NULL) {
        put_outcome(disk);
    }
    memstore_start(disk, &facts); /* a life that changed nothing */
    return disk;
}

/* ---- a core on that disk ---- */

struct bench {
    struct memstore *disk;
    struct core *core;
    struct update update;
    struct limits limits;
    int64_t now;
    struct buf heard; /* every frame that left, as [size, frame] */
    uint64_t random;
};

static void hear(struct bench *bench, struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        size_t size = outbox->frames[i].frame.n;
        buf_put(&bench->heard, &size, sizeof size);
        buf_put(&bench->heard, outbox->frames[i].frame.p, size);
        buf_fini(&outbox->frames[i].frame);
    }
    outbox->count = 0;
}

static void bench_step(struct bench *bench, struct event event);

static void answer_loads(struct bench *bench)
{
    while (bench->update.load_count > 0) {
        struct load *load = bench->update.loads[--bench->update.load_count];
        struct loaded *loaded = memstore_answer(bench->disk, load);
        free(load);
        bench_step(bench, (struct event){.kind = EVENT_LOADED, .loaded = loaded});
        memstore_loaded_free(&loaded);
    }
}

static void bench_step(struct bench *bench, struct event event)
{
    event.mono_ms = bench->now;
    event.wall_ms = bench->now + WALL_START;
    event.random[0] = ++bench->random;
    event.random[1] = ++bench->random;
    event.peer = "test";
    core_step(bench->core, &event, &bench->update);
    hear(bench, &bench->update.now);
    answer_loads(bench);
    update_clear(&bench->update);
    core_check(bench->core);
}

static void bench_commit(struct bench *bench)
{
    while (core_wants_commit(bench->core, INT64_MAX)) {
        struct batch *batch = core_seal(bench->core);
        assert_null(memstore_apply(bench->disk, batch->changes, batch->count, false));
        bench_step(bench, (struct event){.kind = EVENT_COMMITTED, .batch = batch->number});
        hear(bench, &batch->gated);
        batch_free(bench->core, &batch);
    }
}

static void bench_open(struct bench *bench, const char *stored)
{
    struct store_facts facts;
    struct store_visitor visitor;
    *bench = (struct bench){.disk = disk_of(stored), .limits = limits_default(), .now = 5000};
    memstore_start(bench->disk, &facts);
    assert_int_equal(facts.epoch, 4);
    bench->core = core_open(&bench->limits, &facts);
    core_visitor(bench->core, &visitor);
    memstore_load(bench->disk, &visitor);
    core_begin(bench->core, bench->now, bench->now + WALL_START);
    update_init(&bench->update);
    bench_step(bench, (struct event){.kind = EVENT_TICK});
    bench_commit(bench);
}

static void bench_close(struct bench *bench)
{
    update_fini(&bench->update);
    core_close(&bench->core);
    memstore_close(&bench->disk);
    buf_fini(&bench->heard);
}

static void say(struct bench *bench, uint64_t conn, struct buf *frame)
{
    bench_step(bench, (struct event){.kind = EVENT_FRAME, .conn = conn, .frame = buf_bytes(frame)});
    bench_commit(bench);
    buf_fini(frame);
}

/* The first message of a kind that was heard. */
static bool heard(const struct bench *bench, enum message_kind kind, struct message *message_out)
{
    for (size_t at = 0; at < bench->heard.n;) {
        size_t size;
        uint32_t generation;
        struct cursor cursor;
        uint64_t unknown;
        const char *why;
        memcpy(&size, bench->heard.p + at, sizeof size);
        assert_int_equal(frame_open(bytes_of(bench->heard.p + at + sizeof size, size), &generation, &cursor), QUERN_OK);
        while (message_next(&cursor, message_out, &unknown, &why) == QUERN_OK) {
            if (message_out->kind == kind) {
                return true;
            }
        }
        at += sizeof size + size;
    }
    return false;
}

/* ---- a client that resumes ---- */

static struct msg_HELLO_CLIENT hello_client(uint8_t process)
{
    return (struct msg_HELLO_CLIENT){.instance = instance(process),
                                     .host = bytes_text("host"),
                                     .pid = process,
                                     .program = bytes_text("test"),
                                     .credit_count = 100,
                                     .credit_bytes = 1u << 20};
}

static void resume(struct bench *bench, uint8_t process, uint64_t series)
{
    struct buf frame = {0};
    struct msg_HELLO_CLIENT hello = hello_client(process);
    hello.session = 1;
    hello.series = series;
    frame_begin(&frame, 1);
    msg_HELLO_CLIENT_put(&frame, &hello);
    say(bench, 200u + process, &frame);
}

static void submit_again(struct bench *bench, char *word)
{
    struct buf frame = {0};
    struct message head = {.kind = MSG_SUBMIT};
    struct message message;
    struct item_submit item = {.args = args()};
    struct run run;
    bool was_there = memstore_task(bench->disk, TASK) != NULL || memstore_outcome(bench->disk, TASK) != NULL;
    head.SUBMIT = (struct msg_SUBMIT){.series = 1, .sequence = 1, .function = bytes_text("work")};
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    item_submit_put(run.out, &item);
    run.count++;
    run_close(&run);
    say(bench, 200u + OWNER, &frame);
    bool is_there = memstore_task(bench->disk, TASK) != NULL || memstore_outcome(bench->disk, TASK) != NULL;
    const char *answer = heard(bench, MSG_ACCEPTED, &message)    ? "accepted"
                         : heard(bench, MSG_REFUSED, &message)   ? "refused"
                         : heard(bench, MSG_FORGOTTEN, &message) ? "forgotten"
                                                                 : "silent";
    snprintf(word, CELL_SIZE, "%s%s", answer, is_there && !was_there ? ", new" : "");
}

/* ---- what a worker claims ---- */

static void hello_worker(struct bench *bench, uint8_t process, const char *name, const struct item_held *held)
{
    struct buf frame = {0};
    struct buf items = {0};
    struct buf functions = {0};
    struct item_name function = {.name = bytes_text("work")};
    struct uuid store = memstore_uuid(bench->disk);
    item_name_put(&functions, &function);
    if (held != NULL) {
        item_held_put(&items, held);
    }
    struct msg_HELLO_WORKER hello = {.instance = instance(process),
                                     .host = bytes_text("host"),
                                     .pid = process,
                                     .name = bytes_text(name),
                                     .store = store,
                                     .slots = 1,
                                     .functions = {.count = 1, .items = buf_bytes(&functions)},
                                     .held = {.count = held != NULL, .items = buf_bytes(&items)}};
    frame_begin(&frame, 1);
    msg_HELLO_WORKER_put(&frame, &hello);
    say(bench, 100u + process, &frame);
    buf_fini(&items);
    buf_fini(&functions);
}

static void hand_in(struct bench *bench, const struct item_held *held)
{
    struct buf frame = {0};
    struct message head = {.kind = MSG_FINISHED};
    struct item_finished item = {.task = held->task,
                                 .epoch = held->epoch,
                                 .attempt = held->attempt,
                                 .state = FINISHED_DONE,
                                 .result = args(),
                                 .started = WALL_START};
    struct run run;
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    item_finished_put(run.out, &item);
    run.count++;
    run_close(&run);
    say(bench, 100u + PROCESS_P, &frame);
}

static struct item_held held_of(const char *column, enum held_state state)
{
    struct item_held held = {.task = TASK, .epoch = STORED_EPOCH, .attempt = STORED_ATTEMPT, .state = state};
    if (strstr(column, "older") != NULL) {
        held.attempt = STORED_ATTEMPT - 1;
    } else if (strstr(column, "newer") != NULL) {
        held.epoch = STORED_EPOCH + 1;
        held.attempt = 1;
    }
    return held;
}

static void claim(struct bench *bench, const char *column)
{
    if (begins(column, "runs it")) {
        struct item_held held = held_of(column, HELD_RUNNING);
        hello_worker(bench, PROCESS_P, "W", &held);
    } else if (begins(column, "has it finished")) {
        struct item_held held = held_of(column, HELD_FINISHED);
        hello_worker(bench, PROCESS_P, "W", &held);
        hand_in(bench, &held);
    } else if (strcmp(column, "not listed") == 0) {
        hello_worker(bench, PROCESS_P, "W", NULL);
    } else if (strcmp(column, "new process") == 0) {
        hello_worker(bench, NEW_PROCESS, "W", NULL);
    } else if (strcmp(column, "another") == 0) {
        struct item_held held = held_of(column, HELD_RUNNING);
        hello_worker(bench, OTHER_WORKER, "X", &held);
    } else if (strcmp(column, "nobody") == 0) {
        for (int64_t end = bench->now + (int64_t)bench->limits.lease_ms + 1; bench->now < end;) {
            bench->now += end - bench->now < 100 ? end - bench->now : 100;
            bench_step(bench, (struct event){.kind = EVENT_TICK});
        }
        bench_commit(bench);
    } else {
        fail_msg("unknown column: %s", column);
    }
}

/* What became of the task, judged by its rows before and after. */
static const char *change_word(const struct bench *bench, const struct task_row *before, bool had_outcome)
{
    const struct task_row *row = memstore_task(bench->disk, TASK);
    const struct outcome_row *outcome = memstore_outcome(bench->disk, TASK);
    if (outcome != NULL && !had_outcome) {
        return outcome->state == TASK_FAILED && outcome->cause == CAUSE_LOST ? "failed" : "recorded";
    }
    if (row == NULL) {
        return before->id == 0 ? "-" : "gone";
    }
    if (row->losses > before->losses) {
        return row->state == TASK_READY ? "lost" : "lost?";
    }
    if (row->state == before->state && row->epoch == before->epoch && row->attempt == before->attempt) {
        return "-";
    }
    return row->state == TASK_READY ? "back" : row->state == TASK_RUNNING ? "adopted" : "?";
}

/* Nothing was said of it. Does the submit, when it comes again, find what the worker has? */
static bool is_kept(struct bench *bench)
{
    char word[CELL_SIZE];
    resume(bench, OWNER, 1);
    submit_again(bench, word);
    const struct task_row *row = memstore_task(bench->disk, TASK);
    return memstore_outcome(bench->disk, TASK) != NULL || (row != NULL && row->state == TASK_RUNNING);
}

static void walk_claim(const char *stored, const char *column, char *word)
{
    static const char *const verdicts[] = {"recorded", "stale", "unknown"};
    struct bench bench;
    struct message message;
    struct item_receipt receipt;
    bench_open(&bench, stored);
    const struct task_row *row = memstore_task(bench.disk, TASK);
    struct task_row before = row ? *row : (struct task_row){.id = 0};
    bool had_outcome = memstore_outcome(bench.disk, TASK) != NULL;
    claim(&bench, column);
    const char *change = change_word(&bench, &before, had_outcome);
    row = memstore_task(bench.disk, TASK);
    if (heard(&bench, MSG_RECEIPT, &message) && item_receipt_next(&message.RECEIPT.items, &receipt)) {
        /* a verdict and what it did to the task must agree; the copy of a task that goes on is not freed */
        bool agrees =
            receipt.verdict == RECEIPT_RECORDED ? strcmp(change, "recorded") == 0 : strcmp(change, "recorded") != 0;
        snprintf(word, CELL_SIZE, "%s%s", verdicts[receipt.verdict], agrees ? "" : " in words only");
    } else if (heard(&bench, MSG_DROP, &message)) {
        snprintf(word, CELL_SIZE, "dropped%s", row != NULL && row->losses > 0 ? ", and blamed" : "");
    } else if (begins(column, "runs it") && row != NULL && row->state == TASK_RUNNING && strcmp(change, "-") == 0) {
        snprintf(word, CELL_SIZE, "adopted"); /* it was running, and still is */
    } else if (strcmp(stored, "nothing") == 0 && is_kept(&bench)) {
        snprintf(word, CELL_SIZE, "kept");
    } else {
        snprintf(word, CELL_SIZE, "%s", change);
    }
    bench_close(&bench);
}

static void test_every_claim_of_a_worker_is_decided_as_written(void **state)
{
    (void)state;
    /* Twelve rows, ten columns: a table that got lost in the document must not pass. */
    assert_int_equal(table_walk("stored", walk_claim), 120);
}

/* ---- what a client says of a task ---- */

static void cancel(struct bench *bench, char *word)
{
    struct buf frame = {0};
    struct message message;
    struct msg_CANCEL cancel = {.request = 1, .task = TASK};
    frame_begin(&frame, 1);
    msg_CANCEL_put(&frame, &cancel);
    say(bench, 200u + OWNER, &frame);
    const struct outcome_row *outcome = memstore_outcome(bench->disk, TASK);
    bool is_cancelled = outcome != NULL && outcome->state == TASK_CANCELLED;
    const char *answer = "waits";
    if (heard(bench, MSG_REPLY, &message)) {
        answer = message.REPLY.code == QUERN_OK ? (is_cancelled ? "cancelled" : "cancelled in words only")
                                                : quern_err_word((enum quern_err)message.REPLY.code);
    }
    snprintf(word, CELL_SIZE, "%s", answer);
}

static void walk_say(const char *stored, const char *column, char *word)
{
    struct bench bench;
    bench_open(&bench, stored);
    resume(&bench, OWNER, 1);
    if (strcmp(column, "submitted again") == 0) {
        submit_again(&bench, word);
    } else if (strcmp(column, "cancelled") == 0) {
        cancel(&bench, word);
    } else {
        fail_msg("unknown column: %s", column);
    }
    bench_close(&bench);
}

static void test_every_word_of_a_client_is_answered_as_written(void **state)
{
    (void)state;
    assert_int_equal(table_walk("stored under its number", walk_say), 18);
}

/* ---- who may have the session ---- */

static void open_by_name(struct bench *bench, uint8_t process)
{
    struct buf frame = {0};
    struct message message;
    struct msg_HELLO_CLIENT hello = hello_client(process);
    hello.name = bytes_text("s");
    frame_begin(&frame, 1);
    msg_HELLO_CLIENT_put(&frame, &hello);
    say(bench, 200u + process, &frame);
    assert_true(heard(bench, MSG_CHALLENGE, &message));
    struct msg_ECHO echo = {.nonce = message.CHALLENGE.nonce};
    frame_begin(&frame, 1);
    msg_ECHO_put(&frame, &echo);
    say(bench, 200u + process, &frame);
}

static void walk_who(const char *who, const char *column, char *word)
{
    struct bench bench;
    struct message message;
    uint8_t process = strcmp(who, "the owner") == 0              ? OWNER
                      : strcmp(who, "a former owner") == 0       ? FORMER_OWNER
                      : strcmp(who, "an owner of long ago") == 0 ? OLD_OWNER
                                                                 : STRANGER;
    uint64_t series = process == STRANGER ? 700 : process; /* that of long ago is not stored, but was given */
    bench_open(&bench, "ready");
    if (strcmp(column, "resumes") == 0) {
        resume(&bench, process, series);
    } else {
        open_by_name(&bench, process);
    }
    if (heard(&bench, MSG_WELCOME_CLIENT, &message)) {
        series = message.WELCOME_CLIENT.series;
        struct uuid mine = instance(process);
        assert_true(uuid_equal(&memstore_session(bench.disk, 1)->owner, &mine));
        if (series > 2) {
            snprintf(word, CELL_SIZE, "welcome, new series");
        } else {
            snprintf(word, CELL_SIZE, "welcome, series %u", (unsigned)series);
        }
    } else if (heard(&bench, MSG_DENIED, &message)) {
        snprintf(word, CELL_SIZE, "%s",
                 message.DENIED.code == QUERN_TAKEN_OVER ? "taken over"
                                                         : quern_err_word((enum quern_err)message.DENIED.code));
    }
    bench_close(&bench);
}

static void test_the_session_goes_to_whom_the_table_says(void **state)
{
    (void)state;
    assert_int_equal(table_walk("who", walk_who), 8);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_claim_of_a_worker_is_decided_as_written),
        cmocka_unit_test(test_every_word_of_a_client_is_answered_as_written),
        cmocka_unit_test(test_the_session_goes_to_whom_the_table_says),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
