/*
 * golden.c owns the frames of tests/golden/frames.txt: every message of the protocol at least once, and what is easily
 * got wrong. It must not know how they are compared.
 * Start reading at golden_vectors.
 */
#include "support/golden.h"

#include "common/codec.h"
#include "common/message.h"

#define BYTES(text) bytes_of(text, sizeof(text) - 1)

/* ---- who talks ---- */

#define ID16(byte)                                                                                                     \
    {                                                                                                                  \
        {                                                                                                              \
            byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte             \
        }                                                                                                              \
    }
static const struct uuid client_instance = ID16(0xc1);
static const struct uuid worker_instance = ID16(0x3a);
static const struct uuid operator_instance = ID16(0x0f);
static const struct uuid store = ID16(0x5e);
static const struct uuid nonce = ID16(0x77);
static const uint8_t digest[DIGEST_SIZE];

#define TASK ((uint64_t)7 << 32 | 1) /* id_make(7, 1), as a constant */
#define WALL_MS 1767225600000        /* 2026-01-01 */

/* ---- helpers for lists ---- */

static struct list ranges_put(struct buf *buf, const struct item_range *ranges, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        item_range_put(buf, &ranges[i]);
    }
    return (struct list){.count = count, .items = buf_bytes(buf)};
}

static struct list names_put(struct buf *buf, const char *const *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        item_name_put(buf, &(struct item_name){.name = bytes_text(names[i])});
    }
    return (struct list){.count = count, .items = buf_bytes(buf)};
}

/* A run of one kind: each item in braces. */
#define RUN(frame, message, item, ...)                                                                                 \
    do {                                                                                                               \
        static const struct item_##item items_[] = {__VA_ARGS__};                                                      \
        struct run run_;                                                                                               \
                                                                                                                       \
        run_open(&run_, frame, message);                                                                               \
        for (size_t i_ = 0; i_ < sizeof items_ / sizeof *items_; i_++) {                                               \
            item_##item##_put(run_.out, &items_[i_]);                                                                  \
            run_.count++;                                                                                              \
        }                                                                                                              \
        run_close(&run_);                                                                                              \
    } while (0)

#define LITERAL(text)                                                                                                  \
    {                                                                                                                  \
        .p = (const uint8_t *)(text), .n = sizeof(text) - 1                                                            \
    }

/* ---- the frames, each by what it shows ---- */

static void hello_client(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_HELLO_CLIENT_put(frame, &(struct msg_HELLO_CLIENT){
                                    .instance = client_instance,
                                    .host = bytes_text("mill"),
                                    .pid = 4711,
                                    .program = bytes_text("demo"),
                                    .credit_count = 10000,
                                    .credit_bytes = 64 * MIB,
                                });
}

static void challenge(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_CHALLENGE_put(frame, &(struct msg_CHALLENGE){.nonce = nonce});
}

static void echo(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_ECHO_put(frame, &(struct msg_ECHO){.nonce = nonce});
}

static void welcome_client(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_WELCOME_CLIENT_put(frame, &(struct msg_WELCOME_CLIENT){
                                      .store = store,
                                      .epoch = 3,
                                      .session = 12,
                                      .series = 7,
                                      .digest = bytes_of(digest, sizeof digest),
                                      .is_new = true,
                                      .heartbeat_ms = 3000,
                                      .dead_ms = 10000,
                                      .credit_count = 20000,
                                      .credit_bytes = 32 * MIB,
                                  });
}

static void submit(struct buf *frame)
{
    struct message head = {.kind = MSG_SUBMIT,
                           .SUBMIT = {.series = 7, .sequence = 1, .function = bytes_text("square")}};

    frame_begin(frame, 1);
    RUN(frame, &head, submit, {.args = LITERAL("\x91\x07")});
}

static void accepted(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_ACCEPTED_put(frame, &(struct msg_ACCEPTED){.series = 7, .sequence = 1, .count = 1});
}

static void outcome(struct buf *frame)
{
    struct message head = {.kind = MSG_OUTCOME};

    frame_begin(frame, 1);
    RUN(frame, &head, outcome,
        {.task = TASK,
         .completion = 1,
         .state = TASK_DONE,
         .result = LITERAL("\x31"),
         .attempts = 1,
         .worker = LITERAL("stone:815"),
         .created = WALL_MS,
         .started = WALL_MS + 1,
         .finished = WALL_MS + 2,
         .run_us = 3,
         .attempt = 1,
         .cpu_us = 2,
         .peak = 2048});
}

static void taken(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_TAKEN_put(frame, &(struct msg_TAKEN){.prefix = 1});
}

static void bye(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_BYE_put(frame, &(struct msg_BYE){.code = QUERN_OK});
}

static void hello_worker(struct buf *frame)
{
    static const char *const functions[] = {"cube", "square"};
    struct buf names = {0};
    struct msg_HELLO_WORKER hello = {
        .instance = worker_instance,
        .host = bytes_text("stone"),
        .pid = 814,
        .name = bytes_text("stone-1"),
        .slots = 2,
        .capacity_count = 64,
        .capacity_bytes = 16 * MIB,
        .functions = names_put(&names, functions, 2),
    };

    frame_begin(frame, 1);
    msg_HELLO_WORKER_put(frame, &hello);
    buf_fini(&names);
}

static void welcome_worker(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_WELCOME_WORKER_put(frame,
                           &(struct msg_WELCOME_WORKER){
                               .store = store, .epoch = 3, .lease_ms = 15000, .heartbeat_ms = 3000, .dead_ms = 10000});
}

static void dispatch(struct buf *frame)
{
    struct message head = {.kind = MSG_DISPATCH, .DISPATCH = {.function = bytes_text("square")}};

    frame_begin(frame, 1);
    RUN(frame, &head, dispatch, {.task = TASK, .attempt = 1, .args = LITERAL("\x91\x07")});
}

static void started(struct buf *frame)
{
    struct message head = {.kind = MSG_STARTED};

    frame_begin(frame, 1);
    RUN(frame, &head, started, {.task = TASK, .epoch = 3, .attempt = 1, .pid = 815});
}

static void finished(struct buf *frame)
{
    struct message head = {.kind = MSG_FINISHED};

    frame_begin(frame, 1);
    RUN(frame, &head, finished,
        {.task = TASK,
         .epoch = 3,
         .attempt = 1,
         .state = FINISHED_DONE,
         .result = LITERAL("\x31"),
         .pid = 815,
         .started = WALL_MS + 1,
         .run_us = 3,
         .cpu_us = 2,
         .peak = 2048});
}

static void receipt(struct buf *frame)
{
    struct message head = {.kind = MSG_RECEIPT};

    frame_begin(frame, 1);
    RUN(frame, &head, receipt, {.task = TASK, .epoch = 3, .attempt = 1, .verdict = RECEIPT_RECORDED});
}

static void ping(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_PING_put(frame, &(struct msg_PING){.number = 5});
}

static void pong(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_PONG_put(frame, &(struct msg_PONG){.number = 5});
}

/* ---- more than the conversation ---- */

static void hello_client_resumes(struct buf *frame)
{
    static const struct item_range ranges[] = {{.first = 43, .last = 43}, {.first = 50, .last = 61}};
    struct buf taken_items = {0};
    struct msg_HELLO_CLIENT hello = {
        .instance = client_instance,
        .host = bytes_text("mill"),
        .pid = 4711,
        .program = bytes_text("demo"),
        .session = 12,
        .series = 7,
        .taken_prefix = 41,
        .taken = ranges_put(&taken_items, ranges, 2),
        .credit_count = 10000,
        .credit_bytes = 64 * MIB,
    };

    frame_begin(frame, 2);
    msg_HELLO_CLIENT_put(frame, &hello);
    buf_fini(&taken_items);
}

static void hello_client_named(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_HELLO_CLIENT_put(frame, &(struct msg_HELLO_CLIENT){
                                    .instance = client_instance,
                                    .host = bytes_text("mill"),
                                    .pid = 4711,
                                    .program = bytes_text("quern map"),
                                    .name = bytes_text("M\xc3\xbchle"),
                                    .description = BYTES("\x81\xa8"
                                                         "function\xa6square"),
                                    .take_over = true,
                                    .want_args = true,
                                    .credit_count = 1,
                                });
}

static void hello_worker_holds(struct buf *frame)
{
    static const struct item_held held[] = {
        {.task = TASK, .epoch = 3, .attempt = 1, .state = HELD_FINISHED},
        {.task = TASK + 1, .epoch = 3, .attempt = 4, .state = HELD_RUNNING},
        {.task = TASK + 2, .epoch = 2, .attempt = 1, .state = HELD_LEASED},
    };
    static const char *const functions[] = {"square"};
    static const char *const queues[] = {"default", "night"};
    struct buf memory[3] = {{0}};
    struct msg_HELLO_WORKER hello = {
        .instance = worker_instance,
        .host = bytes_text("stone"),
        .pid = 814,
        .name = bytes_text("stone-1"),
        .store = store,
        .slots = 2,
        .functions = names_put(&memory[0], functions, 1),
        .queues = names_put(&memory[1], queues, 2),
    };

    for (size_t i = 0; i < 3; i++) {
        item_held_put(&memory[2], &held[i]);
    }
    hello.held = (struct list){.count = 3, .items = buf_bytes(&memory[2])};
    frame_begin(frame, 4);
    msg_HELLO_WORKER_put(frame, &hello);
    for (size_t i = 0; i < 3; i++) {
        buf_fini(&memory[i]);
    }
}

static void hello_operator(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_HELLO_OPERATOR_put(frame, &(struct msg_HELLO_OPERATOR){.instance = operator_instance,
                                                               .host = bytes_text("mill"),
                                                               .pid = 4712,
                                                               .program = bytes_text("quern status")});
}

static void welcome_operator(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_WELCOME_OPERATOR_put(
        frame, &(struct msg_WELCOME_OPERATOR){.store = store, .epoch = 3, .heartbeat_ms = 3000, .dead_ms = 10000});
}

static void denied(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_DENIED_put(frame, &(struct msg_DENIED){.code = QUERN_IN_USE,
                                               .text = bytes_text("session 'M\xc3\xbchle' is in use by mill:4711"),
                                               .owner = bytes_text("mill:4711")});
}

static void error(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_ERROR_put(frame, &(struct msg_ERROR){.code = QUERN_PROTOCOL,
                                             .kind = MSG_SUBMIT,
                                             .text = bytes_text("field 'sequence': not an unsigned integer")});
}

static void submit_map(struct buf *frame)
{
    struct task_options options = task_options_default();
    struct message head = {.kind = MSG_SUBMIT,
                           .SUBMIT = {.series = 7,
                                      .sequence = 2,
                                      .function = bytes_text("divide"),
                                      .queue = bytes_text("night"),
                                      .delay_ms = 1500,
                                      .predecessor = 10}};
    struct buf memory = {0};

    options.priority = -5;
    options.timeout_ms = 60000;
    options.attempts = 3;
    options.backoff_ms = 1000;
    task_options_put(&memory, &options);
    head.SUBMIT.options = buf_bytes(&memory);
    frame_begin(frame, 1);
    RUN(frame, &head, submit, {.args = LITERAL("\x91\x00"), .ordinal = 11},
        {.args = LITERAL("\x91\xcd\x03\xe8"), .ordinal = 12}, {.args = LITERAL("\x92\x01\x02"), .ordinal = 14});
    buf_fini(&memory);
}

static void submit_command(struct buf *frame)
{
    static const char args[] = "\x92"
                               "\x92\xa4"
                               "echo\xa2"
                               "hi"
                               "\x82\xa3"
                               "cwd\xa4/tmp\xa3"
                               "env\x81\xab"
                               "QUERN_INPUT\xa2"
                               "hi";
    struct task_options options = {.at_most_once = true};
    struct message head = {.kind = MSG_SUBMIT,
                           .SUBMIT = {.series = 7, .sequence = 5, .function = bytes_text(FUNCTION_COMMAND)}};
    struct buf memory = {0};

    task_options_put(&memory, &options);
    head.SUBMIT.options = buf_bytes(&memory);
    frame_begin(frame, 1);
    RUN(frame, &head, submit, {.args = LITERAL(args)});
    buf_fini(&memory);
}

static void refused(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_REFUSED_put(frame, &(struct msg_REFUSED){.series = 7,
                                                 .sequence = 2,
                                                 .count = 3,
                                                 .code = QUERN_PREDECESSOR,
                                                 .ordinal_high = 9,
                                                 .text = bytes_text("ordinal 10 is not the highest accepted")});
}

static void forgotten(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_FORGOTTEN_put(frame, &(struct msg_FORGOTTEN){.series = 7, .sequence = 1, .count = 1});
}

/* {"stderr": "b is 0\n"} */
#define REPORT_OF_ERROR                                                                                                \
    LITERAL("\x81\xa6stderr\xa7"                                                                                       \
            "b is 0\n")
/* {"core_dumped": true, "backtrace": "#0 divide+0x12\n"} */
#define REPORT_OF_CRASH                                                                                                \
    LITERAL("\x82\xab"                                                                                                 \
            "core_dumped\xc3\xa9"                                                                                      \
            "backtrace\xaf"                                                                                            \
            "#0 divide+0x12\n")

static void outcome_failed(struct buf *frame)
{
    struct message head = {.kind = MSG_OUTCOME};

    frame_begin(frame, 2);
    RUN(frame, &head, outcome,
        {.task = TASK + 1,
         .completion = 2,
         .ordinal = 11,
         .state = TASK_FAILED,
         .cause = CAUSE_ERROR,
         .kind = LITERAL("DivisionByZero"),
         .message = LITERAL("100 / 0"),
         .detail = LITERAL("in divide()"),
         .attempts = 3,
         .worker = LITERAL("stone:815"),
         .created = WALL_MS,
         .started = WALL_MS + 5000,
         .finished = WALL_MS + 5001,
         .run_us = 12,
         .args = LITERAL("\x91\x00"),
         .attempt = 4,
         .cpu_us = 11,
         .peak = 2048,
         .report = REPORT_OF_ERROR},
        {.task = TASK + 2,
         .completion = 3,
         .ordinal = 12,
         .state = TASK_CANCELLED,
         .created = WALL_MS,
         .finished = WALL_MS + 1});
}

static void finished_crashed(struct buf *frame)
{
    struct message head = {.kind = MSG_FINISHED};

    frame_begin(frame, 1);
    RUN(frame, &head, finished,
        {.task = TASK + 1,
         .epoch = 3,
         .attempt = 2,
         .state = FINISHED_FAILED,
         .cause = CAUSE_CRASHED,
         .kind = LITERAL("Signal"),
         .message = LITERAL("killed by signal 11 (SIGSEGV)"),
         .pid = 815,
         .started = WALL_MS,
         .run_us = 1000000,
         .signal = 11,
         .cpu_us = 900000,
         .peak = 131072,
         .report = REPORT_OF_CRASH},
        {.task = TASK + 2,
         .epoch = 3,
         .attempt = 1,
         .state = FINISHED_KILLED,
         .pid = 816,
         .started = WALL_MS,
         .signal = 9});
}

static void taken_ranges(struct buf *frame)
{
    static const struct item_range ranges[] = {{.first = 3, .last = 3}, {.first = 6, .last = 9}};
    struct buf memory = {0};
    struct msg_TAKEN message = {.prefix = 1, .ranges = ranges_put(&memory, ranges, 2)};

    frame_begin(frame, 1);
    msg_TAKEN_put(frame, &message);
    buf_fini(&memory);
}

static void credit(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_CREDIT_put(frame, &(struct msg_CREDIT){.count = 20100, .bytes = 40 * MIB});
}

static void requests(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_CANCEL_put(frame, &(struct msg_CANCEL){.request = 1, .task = TASK, .force = true});
    msg_RETRY_put(frame, &(struct msg_RETRY){.request = 2, .task = TASK + 1});
    msg_CLOSE_put(frame, &(struct msg_CLOSE){.request = 3, .name = bytes_text("M\xc3\xbchle"), .cancel = true});
    msg_QUERY_put(frame, &(struct msg_QUERY){.request = 4, .what = bytes_text("status")});
    msg_QUERY_put(frame, &(struct msg_QUERY){.request = 5,
                                             .what = bytes_text("show"),
                                             .params = BYTES("\x81\xa2id\xcf\x00\x00\x00\x07\x00\x00\x00\x01")});
}

static void replies(struct buf *frame)
{
    frame_begin(frame, 1);
    msg_REPLY_put(frame, &(struct msg_REPLY){.request = 1, .code = QUERN_OK});
    msg_REPLY_put(frame,
                  &(struct msg_REPLY){.request = 2,
                                      .code = QUERN_OK,
                                      .body = BYTES("\x84\xa2id\xa3"
                                                    "8-1\xa7session\x0c\xacsession_name\xc0\xabnew_session\xc2")});
    msg_REPLY_put(frame,
                  &(struct msg_REPLY){.request = 5, .code = QUERN_UNKNOWN, .text = bytes_text("there is no task 7-1")});
    msg_REPLY_put(frame, &(struct msg_REPLY){.request = 6, .code = QUERN_OK, .more = true, .body = BYTES("\x90")});
}

static void revoke(struct buf *frame)
{
    struct message head = {.kind = MSG_REVOKE};

    frame_begin(frame, 1);
    RUN(frame, &head, revoke, {.task = TASK, .epoch = 3, .attempt = 1},
        {.task = TASK + 1, .epoch = 3, .attempt = 2, .force = 1});
}

static void drop(struct buf *frame)
{
    struct message head = {.kind = MSG_DROP};

    frame_begin(frame, 4);
    RUN(frame, &head, token, {.task = TASK + 2, .epoch = 2, .attempt = 1});
}

static void returned(struct buf *frame)
{
    struct message head = {.kind = MSG_RETURNED};

    frame_begin(frame, 4);
    RUN(frame, &head, token, {.task = TASK, .epoch = 3, .attempt = 1},
        {.task = INT64_MAX, .epoch = UINT32_MAX, .attempt = UINT32_MAX});
}

static void progress(struct buf *frame)
{
    struct message head = {.kind = MSG_PROGRESS};

    frame_begin(frame, 4);
    RUN(frame, &head, progress,
        {.task = TASK, .epoch = 3, .attempt = 1, .fraction = 0.25, .text = LITERAL("row 250 of 1000")});
}

static void capacity(struct buf *frame)
{
    frame_begin(frame, 4);
    msg_CAPACITY_put(
        frame, &(struct msg_CAPACITY){.count = 8, .bytes = 1 * MIB, .nested = 3, .depth = 2, .scarce = SCARCE_MEMORY});
}

/* stdout "step 2\n", 5 bytes of stderr left out */
#define OUTPUT_OF_TASK                                                                                                 \
    "\x94\x01\xc4\x07"                                                                                                 \
    "step 2\n"                                                                                                         \
    "\x02\x05"

static void look(struct buf *frame)
{
    frame_begin(frame, 4);
    msg_LOOK_put(frame, &(struct msg_LOOK){.request = 3, .task = TASK, .epoch = 3, .attempt = 1, .stdout_known = 15});
}

static void output(struct buf *frame)
{
    frame_begin(frame, 4);
    msg_OUTPUT_put(frame, &(struct msg_OUTPUT){.request = 3, .is_running = true, .output = LITERAL(OUTPUT_OF_TASK)});
    msg_OUTPUT_put(frame, &(struct msg_OUTPUT){.request = 4});
}

static void worker_batch(struct buf *frame)
{
    finished(frame); /* one frame, three messages */
    msg_CAPACITY_put(frame, &(struct msg_CAPACITY){.count = 64, .bytes = 16 * MIB});
    msg_PING_put(frame, &(struct msg_PING){.number = INT64_MAX});
}

static void extremes(struct buf *frame)
{
    struct task_options options = {.priority = PRIORITY_MIN, .timeout_ms = DURATION_MS_MAX, .attempts = ATTEMPTS_MAX};
    struct message head = {.kind = MSG_SUBMIT,
                           .SUBMIT = {.series = SERIES_MAX,
                                      .sequence = SEQUENCE_MAX,
                                      .function = bytes_text(""),
                                      .queue = bytes_text(""),
                                      .delay_ms = DURATION_MS_MAX,
                                      .predecessor = INT64_MAX - 1}};
    struct buf memory = {0};

    task_options_put(&memory, &options);
    head.SUBMIT.options = buf_bytes(&memory);
    frame_begin(frame, UINT32_MAX);
    RUN(frame, &head, submit, {.args = LITERAL(""), .ordinal = INT64_MAX}, {.ordinal = 0});
    buf_fini(&memory);
}

static void empty_frame(struct buf *frame)
{
    frame_begin(frame, 9);
}

/* ---- the list ---- */

const struct golden_vector golden_vectors[] = {
    {"hello_client", "C>B", "a client opens an unnamed session", hello_client, true},
    {"challenge", "B>C", "the broker wants to know that the client lives", challenge, true},
    {"echo", "C>B", "it does", echo, true},
    {"welcome_client", "B>C", "session 12 is made, the client numbers its tasks in series 7", welcome_client, true},
    {"hello_worker", "W>B", "a worker with two slots and two functions, serving every queue", hello_worker, true},
    {"welcome_worker", "B>W", "epoch 3, a lease of 15 seconds", welcome_worker, true},
    {"submit", "C>B", "square(7) as task 7-1, in queue default, with default options", submit, true},
    {"dispatch", "B>W", "the first attempt of 7-1", dispatch, true},
    {"accepted", "B>C", "7-1 is on disk", accepted, true},
    {"started", "W>B", "process 815 runs it", started, true},
    {"finished", "W>B", "the result is 49", finished, true},
    {"receipt", "B>W", "the outcome is on disk; the worker forgets it", receipt, true},
    {"outcome", "B>C", "the client gets 49, as completion 1 of its session", outcome, true},
    {"taken", "C>B", "the application has taken completion 1", taken, true},
    {"ping", "W>B", "the worker renews its lease", ping, true},
    {"pong", "B>W", "renewed, from the moment the PING was sent", pong, true},
    {"bye", "C>B", "the client leaves", bye, true},
    {"hello_client_resumes", "C>B", "the second connection of the same process: it took 1-41, 43 and 50-61",
     hello_client_resumes, false},
    {"hello_client_named", "C>B", "opens the session 'M\xc3\xbchle' and takes it over", hello_client_named, false},
    {"hello_worker_holds", "W>B", "a worker comes back with one attempt finished, one running and one leased",
     hello_worker_holds, false},
    {"hello_operator", "O>B", "quern status", hello_operator, false},
    {"welcome_operator", "B>O", "the answer to it", welcome_operator, false},
    {"denied", "B>C", "the session's owner is connected", denied, false},
    {"error", "B>C", "a message was not understood", error, false},
    {"submit_map", "C>B", "three tasks in one run, with ordinals and options", submit_map, false},
    {"submit_command", "C>B", "a command, at most once", submit_command, false},
    {"refused", "B>C", "7-2 to 7-4: the ordinal before 11 was not accepted", refused, false},
    {"forgotten", "B>C", "7-1 existed and was deleted by retention", forgotten, false},
    {"outcome_failed", "B>C", "a failure with its arguments, and a cancelled task", outcome_failed, false},
    {"finished_crashed", "W>B", "a slot died of SIGSEGV; another was killed as ordered", finished_crashed, false},
    {"taken_ranges", "C>B", "1, 3 and 6-9 were taken", taken_ranges, false},
    {"credit", "B>C", "20,100 submits and 40 MiB in total on this connection", credit, false},
    {"requests", "C>B", "five requests in one frame", requests, false},
    {"replies", "B>C", "answers to some of them", replies, false},
    {"revoke", "B>W", "one if it has not started, one in any case", revoke, false},
    {"drop", "B>W", "an attempt that no longer counts", drop, false},
    {"returned", "W>B", "held unstarted, given back; and the largest token there is", returned, false},
    {"progress", "W>B", "a quarter is done", progress, false},
    {"capacity", "W>B", "eight attempts, one MiB; three of those held do not count for tasks two deep", capacity,
     false},
    {"look", "B>W", "what has 7-1 written, beyond the first 15 bytes of its stdout?", look, false},
    {"output", "W>B", "one line more, and 5 bytes of stderr; and of an attempt that does not run", output, false},
    {"worker_batch", "W>B", "several messages in one frame", worker_batch, false},
    {"extremes", "C>B", "the largest numbers, empty text (not none), empty and absent arguments", extremes, false},
    {"empty_frame", "both", "no message at all is a frame too", empty_frame, false},
};

const size_t golden_vector_count = sizeof golden_vectors / sizeof *golden_vectors;
