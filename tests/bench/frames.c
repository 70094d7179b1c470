/*
 * Clients and workers whose every frame holds the same number of tasks, so that what the broker spends on a task can be
 * compared between few connections and many: tests/bench/scale. All are connected from the beginning. In each round one
 * client, in turn, submits a frame of tasks; one worker, in turn, asks for as many, gets them in one frame and answers
 * in one; the client gets the outcomes and takes them. Their halves of the protocol are the product's own
 * (client/ledger.h, worker/dialogue.h), without threads and slots. Start at round_run.
 *
 *     bench_frames CLIENTS WORKERS TASKS-IN-A-FRAME ROUNDS [volatile]
 *
 * Says "ready" when all are connected and have had a round, and "done" after the rounds; waits for a line after each.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ledger.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "common/random.h"
#include "worker/dialogue.h"

#define PATIENCE_MS 60000
/* Those who do nothing must not seem dead. */
#define TEND_MS 500

struct client {
    struct dealer *dealer;
    struct client_ledger ledger;
    uint64_t first; /* outcomes that came and are not taken: completion numbers */
    uint64_t last;
    uint64_t size;
};

struct worker {
    struct dealer *dealer;
    struct dialogue dialogue;
    struct ledger ledger;
    char name[32];
    struct dialogue_facts facts;
};

static struct client *clients;
static struct worker *workers;
static size_t client_count;
static size_t worker_count;
static bool is_volatile;

static struct dealer *connect_to_broker(void)
{
    const char *given = getenv("QUERN_URL");
    char *url = given != NULL ? xstrdup(given) : link_default_url();
    const char *const urls[] = {url};
    struct dealer *dealer = NULL;
    char *why = NULL;
    CHECK_THAT(dealer_open(urls, 1, &dealer, &why) == QUERN_OK, "%s", why);
    free(url);
    return dealer;
}

/* ---- a client ---- */

static void on_accepted(void *context, void *owner, uint64_t id)
{
    (void)context;
    (void)owner;
    (void)id;
}

static void on_refused(void *context, void *owner, const struct submit_refusal *refusal)
{
    (void)context;
    (void)owner;
    CHECK_THAT(false, "a submit was refused: %s", quern_err_word(refusal->code));
}

static void on_outcome(void *context, const struct item_outcome *outcome)
{
    struct client *client = context;
    client->first = client->first == 0 ? outcome->completion : client->first;
    client->last = outcome->completion;
    client->size = outcome_payload_size(outcome);
}

static void on_replied(void *context)
{
    (void)context;
}

static void client_open(struct client *client)
{
    struct limits limits = limits_default();
    struct ledger_options options = {.instance = uuid_random(),
                                     .host = "localhost",
                                     .pid = (uint64_t)getpid(),
                                     .program = "bench_frames",
                                     .is_volatile = is_volatile,
                                     .window_count = 100000,
                                     .window_bytes = 64 * MIB,
                                     .submit_count_max = 100000,
                                     .submit_bytes_max = 64 * MIB,
                                     .heartbeat_ms = limits.heartbeat_ms,
                                     .dead_ms = limits.dead_ms};
    struct ledger_sink sink = {.context = client,
                               .submits = {.accepted = on_accepted, .refused = on_refused},
                               .outcome = on_outcome,
                               .replied = on_replied};
    client->dealer = connect_to_broker();
    CHECK(client_ledger_init(&client->ledger, &options, &sink));
}

static void client_take(struct client *client)
{
    for (; client->first != 0 && client->first <= client->last; client->first++) {
        client_ledger_take(&client->ledger, client->first, client->size);
    }
    client->first = 0;
    client_ledger_want(&client->ledger, true);
}

static void client_tend(struct client *client)
{
    struct dealer_event event;
    struct buf frame = {0};
    while (dealer_next(client->dealer, &event)) {
        if (event.kind == DEALER_UP) {
            client_ledger_up(&client->ledger, clock_mono_ms());
        } else {
            CHECK(event.kind == DEALER_FRAME);
            CHECK(client_ledger_frame(&client->ledger, event.frame, clock_mono_ms()) == LEDGER_GO_ON);
        }
    }
    client_take(client);
    CHECK(client_ledger_tick(&client->ledger, clock_mono_ms()) == LEDGER_GO_ON);
    while (client_ledger_write(&client->ledger, clock_mono_ms(), &frame)) {
        CHECK(dealer_send(client->dealer, &frame) == QUERN_OK);
    }
    buf_fini(&frame);
}

static void client_submit(struct client *client, uint64_t count)
{
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    struct task_options options = task_options_default();
    uint64_t id;
    for (uint64_t i = 0; i < count; i++) {
        struct submit *submit = submit_make(bytes_text("\x91\x07"), 0, false, NULL);
        CHECK(submit != NULL && client_ledger_submit(&client->ledger, &head, &options, &submit, &id) == QUERN_OK);
    }
}

/* ---- a worker ---- */

static bool on_revoke(void *self, struct attempt *attempt)
{
    ledger_start(self, attempt);
    return false;
}

static void on_kill(void *self, struct attempt *attempt)
{
    (void)self;
    (void)attempt;
}

static void worker_open(struct worker *worker, size_t index)
{
    static const char *const functions[] = {"square"};
    struct limits limits = limits_default();
    struct dialogue_slots slots = {.self = &worker->ledger, .revoke = on_revoke, .kill = on_kill, .forget = on_kill};
    (void)snprintf(worker->name, sizeof worker->name, "frames-%zu", index);
    worker->facts = (struct dialogue_facts){.instance = uuid_random(),
                                            .host = "localhost",
                                            .name = worker->name,
                                            .pid = (uint32_t)getpid(),
                                            .slot_count = 1,
                                            .functions = functions,
                                            .function_count = 1,
                                            .memory = ""};
    worker->dealer = connect_to_broker();
    ledger_init(&worker->ledger);
    dialogue_init(&worker->dialogue, &worker->facts, &slots, &worker->ledger, &limits);
    dialogue_set_capacity(&worker->dialogue, 0);
}

static void worker_tend(struct worker *worker)
{
    struct dealer_event event;
    struct buf frame = {0};
    while (dealer_next(worker->dealer, &event)) {
        if (event.kind == DEALER_UP) {
            dialogue_up(&worker->dialogue, clock_mono_ms());
        } else {
            CHECK(event.kind == DEALER_FRAME);
            CHECK(dialogue_frame(&worker->dialogue, event.frame, clock_mono_ms()) == DIALOGUE_OK);
        }
    }
    CHECK(dialogue_tick(&worker->dialogue, clock_mono_ms()) == DIALOGUE_OK);
    while (dialogue_next(&worker->dialogue, &frame)) {
        CHECK(dealer_send(worker->dealer, &frame) == QUERN_OK);
    }
    buf_fini(&frame);
}

/* All at once, so that one frame says it. */
static void worker_finish(struct worker *worker)
{
    struct outcome outcome = {
        .state = FINISHED_DONE, .result = bytes_text("\x31"), .pid = 1, .started = 1, .run_us = 1};
    while (worker->ledger.waiting.first != NULL) {
        struct attempt *attempt = worker->ledger.waiting.first;
        ledger_hand(&worker->ledger, attempt);
        ledger_finish(&worker->ledger, attempt, &outcome);
    }
}

/* ---- together ---- */

static void tend_all(void)
{
    for (size_t i = 0; i < client_count; i++) {
        client_tend(&clients[i]);
    }
    for (size_t i = 0; i < worker_count; i++) {
        worker_tend(&workers[i]);
    }
}

static bool is_connected(void)
{
    bool is = true;
    for (size_t i = 0; i < client_count; i++) {
        is = is && clients[i].ledger.phase == LEDGER_UP;
    }
    for (size_t i = 0; i < worker_count; i++) {
        is = is && dialogue_is_welcome(&workers[i].dialogue);
    }
    return is;
}

static void connect_all(void)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!is_connected()) {
        CHECK(clock_mono_ms() < until_ms);
        tend_all();
        (void)poll(NULL, 0, 1);
    }
}

static void wait_for(const struct dealer *dealer)
{
    int fds[DEALER_FD_COUNT_MAX];
    struct pollfd polled[DEALER_FD_COUNT_MAX];
    size_t count = dealer_fds(dealer, fds);
    for (size_t i = 0; i < count; i++) {
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    (void)poll(polled, count, dealer_has_input(dealer) ? 0 : TEND_MS);
}

static void round_run(struct client *client, struct worker *worker, uint64_t count)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    client_submit(client, count);
    client_tend(client);
    dialogue_set_capacity(&worker->dialogue, count);
    worker_tend(worker);
    while (worker->ledger.waiting.count < count) {
        CHECK(clock_mono_ms() < until_ms);
        wait_for(worker->dealer);
        worker_tend(worker);
    }
    dialogue_set_capacity(&worker->dialogue, 0);
    worker_finish(worker);
    worker_tend(worker);
    while (client_ledger_outstanding(&client->ledger) > 0) {
        CHECK(clock_mono_ms() < until_ms);
        wait_for(client->dealer);
        client_tend(client);
    }
}

static void say_and_wait(const char *word)
{
    char line[16];
    printf("%s\n", word);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL) {
        exit(0);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_frames CLIENTS WORKERS TASKS-IN-A-FRAME ROUNDS [volatile]\n");
        return 2;
    }
    client_count = strtoul(argv[1], NULL, 10);
    worker_count = strtoul(argv[2], NULL, 10);
    uint64_t count = strtoul(argv[3], NULL, 10);
    uint64_t rounds = strtoul(argv[4], NULL, 10);
    is_volatile = argc > 5;
    clients = xcalloc(client_count, sizeof *clients);
    workers = xcalloc(worker_count, sizeof *workers);
    for (size_t i = 0; i < client_count; i++) {
        client_open(&clients[i]);
    }
    for (size_t i = 0; i < worker_count; i++) {
        worker_open(&workers[i], i);
    }
    connect_all();
    for (size_t i = 0; i < client_count || i < worker_count; i++) { /* what is done once for each */
        round_run(&clients[i % client_count], &workers[i % worker_count], count);
    }
    say_and_wait("ready");
    int64_t tended_ms = clock_mono_ms();
    for (uint64_t i = 0; i < rounds; i++) {
        round_run(&clients[i % client_count], &workers[i % worker_count], count);
        if (clock_mono_ms() >= tended_ms + TEND_MS) {
            tend_all();
            tended_ms = clock_mono_ms();
        }
    }
    say_and_wait("done");
    return 0;
}
