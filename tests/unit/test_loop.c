/*
 * test_loop.c: the order law of broker/loop.c, with everything around it played: core, journal, router, clock and poll.
 * What happened is written down as one line of words and compared. loop.c is included, with its neighbours renamed.
 * Must not know: what a core decides. Start reading at the first test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define core_step played_core_step
#define core_seal played_core_seal
#define core_wants_commit played_core_wants_commit
#define core_open_bytes played_core_open_bytes
#define core_give_back played_core_give_back
#define core_stop played_core_stop
#define batch_free played_batch_free
#define update_init played_update_init
#define update_clear played_update_clear
#define update_fini played_update_fini
#define journal_fd played_journal_fd
#define journal_next played_journal_next
#define journal_loaded_free played_journal_loaded_free
#define journal_is_idle played_journal_is_idle
#define journal_commit played_journal_commit
#define journal_load played_journal_load
#define router_fds played_router_fds
#define router_next played_router_next
#define router_send played_router_send
#define router_kick played_router_kick
#define router_peer_text played_router_peer_text
#define router_peer_is_remote played_router_peer_is_remote
#define clock_mono_ms played_clock_mono_ms
#define clock_wall_ms played_clock_wall_ms
#define poll played_poll
#define loop_run tested_loop_run

int played_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

#include "broker/loop.c" // NOLINT: its static functions and neighbours are what is tested

#define FRAMES_MAX 8u

/*
 * The world. Frames come in by themselves, one per poll; a frame's text says what the core makes of it:
 *   n: a message at once   g: a gated message   w: a row   k: a kick   l: a load      (its connection is its number)
 * The journal commits when `slow` polls have passed since journal_commit.
 */
static struct {
    char trace[1024];
    const char *frames[FRAMES_MAX];
    size_t frame_count;
    size_t frame_next;
    size_t frame_allowed; /* frames that have arrived */
    int slow;
    int commit_polls;
    const struct batch *in_commit;
    bool said_committed;
    struct batch *open;
    uint64_t number;
    bool wants;
    int64_t now_ms;
    unsigned polls;
    unsigned polls_max; /* then the signal comes */
    bool is_signalled;
    const char *on_commit; /* what the core makes of a commit notice, once */
    int64_t wake_ms;
    unsigned ticks;
    bool slept_unquiet; /* a poll that slept although the router had something */
} world;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    size_t n = strlen(world.trace);
    va_list args;

    va_start(args, format);
    assert_true(vsnprintf(world.trace + n, sizeof(world.trace) - n, format, args) < (int)(sizeof(world.trace) - n));
    va_end(args);
}

/* ---- played core ---- */

static void outbox_add(struct outbox *outbox, uint64_t conn)
{
    outbox->frames = realloc(outbox->frames, (outbox->count + 1) * sizeof(outbox->frames[0]));
    assert_non_null(outbox->frames);
    outbox->frames[outbox->count++] = (struct frame_out){.conn = conn};
}

static struct batch *open_batch(void)
{
    if (world.open == NULL) {
        world.open = calloc(1, sizeof(*world.open));
        assert_non_null(world.open);
        world.open->number = ++world.number;
    }
    return world.open;
}

static void play(const char *text, uint64_t conn, struct update *update)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case 'n':
            outbox_add(&update->now, conn);
            break;
        case 'g':
            outbox_add(&open_batch()->gated, conn + 100);
            world.wants = true;
            break;
        case 'w':
            open_batch()->count++;
            world.wants = true;
            break;
        case 'k':
            update->kicks = realloc(update->kicks, sizeof(uint64_t));
            assert_non_null(update->kicks);
            update->kicks[0] = conn;
            update->kick_count = 1;
            break;
        case 'l':
            update->loads = realloc(update->loads, sizeof(struct load *));
            assert_non_null(update->loads);
            update->loads[0] = calloc(1, sizeof(struct load));
            update->load_count = 1;
            break;
        case ' ':
            break; /* for its length */
        default:
            fail();
        }
    }
}

void core_step(struct core *core, const struct event *event, struct update *update)
{
    (void)core;
    assert_int_equal(event->mono_ms, world.now_ms);
    assert_true(event->random[0] != event->random[1]);
    update->wake_ms = world.wake_ms;
    switch (event->kind) {
    case EVENT_FRAME:
        note("frame%llu ", (unsigned long long)event->conn);
        assert_string_equal(event->peer, "peer");
        play((const char *)event->frame.p, event->conn, update);
        break;
    case EVENT_COMMITTED:
        note("committed%llu ", (unsigned long long)event->batch);
        if (world.on_commit != NULL) {
            const char *text = world.on_commit;

            world.on_commit = NULL;
            play(text, 50, update);
        }
        break;
    case EVENT_TICK:
        world.ticks++;
        break;
    default:
        note("event%d ", (int)event->kind);
    }
}

bool core_wants_commit(const struct core *core, int64_t mono_ms)
{
    (void)core;
    assert_int_equal(mono_ms, world.now_ms);
    return world.wants;
}

struct batch *core_seal(struct core *core)
{
    struct batch *batch = open_batch();

    (void)core;
    world.open = NULL;
    world.wants = false;
    return batch;
}

void batch_free(struct core *core, struct batch **batch)
{
    (void)core;
    assert_int_equal((*batch)->gated.count, 0); /* all were taken */
    free((*batch)->gated.frames);
    free(*batch);
    *batch = NULL;
}

size_t core_open_bytes(const struct core *core)
{
    (void)core;
    return world.open != NULL ? world.open->count : 0;
}

static unsigned given_back;

/* What it writes must be in a batch that is still to come. */
void core_give_back(struct core *core)
{
    (void)core;
    given_back++;
}

void core_stop(struct core *core, struct update *update)
{
    (void)core;
    outbox_add(&update->now, 99);
}

void update_init(struct update *update)
{
    *update = (struct update){.wake_ms = INT64_MAX};
}

void update_clear(struct update *update)
{
    assert_int_equal(update->now.count, 0); /* nothing is thrown away */
    assert_int_equal(update->load_count, 0);
    update->kick_count = 0;
    update->wake_ms = INT64_MAX;
}

void update_fini(struct update *update)
{
    free(update->now.frames);
    free(update->kicks);
    free(update->loads);
}

/* ---- played journal ---- */

int journal_fd(const struct journal *journal)
{
    (void)journal;
    return -1;
}

bool journal_next(struct journal *journal, struct journal_event *event_out)
{
    (void)journal;
    if (world.in_commit == NULL || world.commit_polls > 0) {
        return false;
    }
    *event_out = (struct journal_event){.kind = JOURNAL_COMMITTED, .batch = world.in_commit->number};
    world.in_commit = NULL;
    return true;
}

void journal_loaded_free(struct loaded **loaded)
{
    *loaded = NULL;
}

bool journal_is_idle(const struct journal *journal)
{
    (void)journal;
    return world.in_commit == NULL;
}

void journal_commit(struct journal *journal, const struct batch *batch)
{
    (void)journal;
    assert_null(world.in_commit);
    assert_true(batch->count > 0);
    note("commit%llu ", (unsigned long long)batch->number);
    world.in_commit = batch;
    world.commit_polls = world.slow;
}

void journal_load(struct journal *journal, struct load **load)
{
    (void)journal;
    note("load ");
    free(*load);
    *load = NULL;
}

/* ---- played router, clock, poll ---- */

size_t router_fds(const struct router *router, int fds[ROUTER_FD_COUNT_MAX])
{
    (void)router;
    fds[0] = -1;
    return 1;
}

bool router_next(struct router *router, struct router_event *event_out)
{
    size_t i = world.frame_next;

    (void)router;
    if (i == world.frame_count || i >= world.frame_allowed) {
        return false;
    }
    *event_out = (struct router_event){
        .kind = ROUTER_FRAME, .conn = i + 1, .frame = {(const uint8_t *)world.frames[i], strlen(world.frames[i])}};
    world.frame_next++;
    return true;
}

enum quern_err router_send(struct router *router, uint64_t conn, struct buf *frame)
{
    (void)router;
    (void)frame;
    note("send%llu ", (unsigned long long)conn);
    return QUERN_OK;
}

bool router_peer_is_remote(const struct router *router, uint64_t conn)
{
    (void)router;
    (void)conn;
    return false;
}

void router_kick(struct router *router, uint64_t conn)
{
    (void)router;
    note("kick%llu ", (unsigned long long)conn);
}

const char *router_peer_text(const struct router *router, uint64_t conn)
{
    (void)router;
    (void)conn;
    return "peer";
}

int64_t clock_mono_ms(void)
{
    return world.now_ms;
}

int64_t clock_wall_ms(void)
{
    return world.now_ms + 1000000;
}

static int signal_pipe[2];

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct signalfd_siginfo info = {.ssi_signo = 15};

    world.polls++;
    assert_true(world.polls < 40000);                                           /* a loop that never ends */
    world.now_ms += world.in_commit != NULL && timeout_ms > 1 ? 1 : timeout_ms; /* the journal will wake it */
    world.commit_polls -= world.commit_polls > 0;
    world.frame_allowed++;
    if (world.polls >= world.polls_max && !world.is_signalled) {
        world.is_signalled = true;
        assert_int_equal(write(signal_pipe[1], &info, sizeof(info)), sizeof(info));
    }
    if (count == 1) {
        return 0; /* at the end, for the journal */
    }
    assert_int_equal(count, 3 + PARENT_FD_COUNT); /* router, journal, signals, parent */
    bool has_frame = world.frame_next < world.frame_count && world.frame_next < world.frame_allowed;
    fds[0].revents = has_frame ? POLLIN : 0;
    fds[2].revents = world.is_signalled ? POLLIN : 0;
    return has_frame + world.is_signalled;
}

/* ---- tests ---- */

/* Set before run_world, for one run. */
static const char *next_on_commit;
static bool next_wake_is_past;
static bool next_comes_at_once; /* all frames before the first poll */

static bool run_world(int slow, unsigned polls, const char *const frames[], size_t count)
{
    const struct parent parent = PARENT_INIT;
    bool is_drained = false;

    memset(&world, 0, sizeof(world));
    world.now_ms = 1000;
    world.wake_ms = next_wake_is_past ? 0 : INT64_MAX;
    world.on_commit = next_on_commit;
    world.frame_allowed = next_comes_at_once ? count : 0;
    next_comes_at_once = false;
    next_wake_is_past = false;
    next_on_commit = NULL;
    world.slow = slow;
    world.polls_max = polls;
    world.frame_count = count;
    for (size_t i = 0; i < count; i++) {
        world.frames[i] = frames[i];
    }
    assert_int_equal(pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK), 0);
    is_drained = loop_run(NULL, NULL, NULL, signal_pipe[0], &parent, NULL);
    (void)close(signal_pipe[0]);
    (void)close(signal_pipe[1]);
    return is_drained;
}

/* A client that read ACCEPTED may exit: after a crash the store is the only witness. */
static void test_a_gated_frame_leaves_after_its_commit(void **state)
{
    const char *const frames[] = {"ngw"};

    (void)state;
    assert_true(run_world(3, 20, frames, 1));
    assert_string_equal(world.trace, "frame1 send1 commit1 committed1 send101 committed2 send99 ");
}

/* The second answer rests on the second batch, whatever the first commit notice says. */
static void test_a_gate_is_released_by_its_own_batch_only(void **state)
{
    const char *const frames[] = {"gw", "gw"};

    (void)state;
    assert_true(run_world(4, 30, frames, 2));
    assert_string_equal(world.trace,
                        "frame1 commit1 frame2 committed1 send101 commit2 committed2 send102 committed3 send99 ");
}

/* Trace 1: it writes nothing, but what it says may rest on rows that are not on disk yet. */
static void test_a_gate_without_rows_waits_for_the_batch_before_it(void **state)
{
    const char *const frames[] = {"w", "g"};

    (void)state;
    assert_true(run_world(4, 30, frames, 2));
    assert_string_equal(world.trace, "frame1 commit1 frame2 committed1 committed2 send102 committed3 send99 ");
}

static void test_a_batch_without_rows_never_reaches_the_disk(void **state)
{
    const char *const frames[] = {"g"};

    (void)state;
    assert_true(run_world(4, 10, frames, 1));
    assert_string_equal(world.trace, "frame1 committed1 send101 committed2 send99 ");
}

/* Nobody ever stops reading: ungated frames go out while a commit takes its time. */
static void test_input_is_read_and_answered_while_a_commit_runs(void **state)
{
    const char *const frames[] = {"w", "n", "n", "n"};

    (void)state;
    assert_true(run_world(10, 30, frames, 4));
    assert_string_equal(world.trace, "frame1 commit1 frame2 send2 frame3 send3 frame4 send4 committed1 committed2 "
                                     "send99 ");
}

/* Frames are taken in a heap, but not so many that what the first ones brought about waits for long. */
static void test_what_was_said_leaves_between_large_frames(void **state)
{
    static char large[2][TURN_BYTES_MAX + 1];
    const char *const small[] = {"n", "n"};
    const char *const both[] = {large[0], large[1], "n"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        memset(large[i], ' ', TURN_BYTES_MAX);
        large[i][0] = 'n';
    }
    next_comes_at_once = true;
    assert_true(run_world(1, 10, small, 2));
    assert_string_equal(world.trace, "frame1 frame2 send1 send2 committed1 send99 ");
    next_comes_at_once = true;
    assert_true(run_world(1, 10, both, 3));
    assert_string_equal(world.trace, "frame1 send1 frame2 send2 frame3 send3 committed1 send99 ");
}

/* What had no room in the batch that goes to the disk has some in the next: the core is asked at once. */
static void test_the_core_has_its_turn_when_a_batch_goes_to_the_disk(void **state)
{
    const char *const without[] = {"n"};
    const char *const with[] = {"w"};

    (void)state;
    assert_true(run_world(3, 20, without, 1));
    unsigned ticks = world.ticks;
    assert_true(run_world(3, 20, with, 1));
    assert_int_equal(world.ticks, ticks + 1);
}

static void test_a_kick_comes_after_the_frame_that_explains_it(void **state)
{
    const char *const frames[] = {"kn"};

    (void)state;
    assert_true(run_world(1, 10, frames, 1));
    assert_string_equal(world.trace, "frame1 send1 kick1 committed1 send99 ");
}

static void test_loads_go_to_the_journal(void **state)
{
    const char *const frames[] = {"l"};

    (void)state;
    assert_true(run_world(1, 10, frames, 1));
    assert_string_equal(world.trace, "frame1 load committed1 send99 ");
}

/* Numbers that nobody was given are free again after a clean end. */
static void test_the_end_gives_numbers_back_before_its_last_batch(void **state)
{
    const char *const frames[] = {"n"};

    (void)state;
    given_back = 0;
    assert_true(run_world(1, 10, frames, 1));
    assert_int_equal(given_back, 1);
    assert_non_null(strstr(world.trace, "committed1"));
}

/* The end answers what was accepted: the signal comes while batch 1 commits and batch 2 fills. */
static void test_the_end_commits_and_answers_what_was_accepted(void **state)
{
    const char *const frames[] = {"gw", "gw", "gw"};

    (void)state;
    assert_true(run_world(9, 2, frames, 3));
    assert_string_equal(world.trace,
                        "frame1 commit1 frame2 committed1 send101 commit2 committed2 send102 committed3 send99 ");
}

/* What the core does on the last commit notice (a row, a gate) is committed too. */
static void test_the_end_commits_what_a_commit_brought_about(void **state)
{
    const char *const frames[] = {"gw"};

    (void)state;
    next_on_commit = "gwn";
    assert_true(run_world(5, 3, frames, 1));
    assert_string_equal(world.trace,
                        "frame1 commit1 committed1 send101 send50 commit2 committed2 send150 committed3 send99 ");
}

/* A disk that stays full must not keep the process for ever, nor may it be called a clean end. */
static void test_the_end_gives_up_on_a_disk_that_stays_full(void **state)
{
    const char *const frames[] = {"gw"};

    (void)state;
    assert_false(run_world(1000000, 2, frames, 1));
    assert_null(strstr(world.trace, "committed1"));
    assert_null(strstr(world.trace, "send101"));
    free(((struct batch *)(uintptr_t)world.in_commit)->gated.frames);
    free((struct batch *)(uintptr_t)world.in_commit);
}

/* A core whose wake time stays in the past costs one tick a millisecond, not a spinning loop. */
static void test_ticks_come_once_a_millisecond_at_most(void **state)
{
    (void)state;
    next_wake_is_past = true;
    assert_true(run_world(1, 50, NULL, 0));
    assert_in_range(world.now_ms - 1000, 40, 60); /* it slept a millisecond in nearly every turn */
    assert_in_range(world.ticks, 40, 60);
    assert_true(run_world(1, 50, NULL, 0));
    assert_int_equal(world.ticks, 1); /* nothing to wake for: only the first, which asks */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_gated_frame_leaves_after_its_commit),
        cmocka_unit_test(test_a_gate_is_released_by_its_own_batch_only),
        cmocka_unit_test(test_a_gate_without_rows_waits_for_the_batch_before_it),
        cmocka_unit_test(test_a_batch_without_rows_never_reaches_the_disk),
        cmocka_unit_test(test_input_is_read_and_answered_while_a_commit_runs),
        cmocka_unit_test(test_what_was_said_leaves_between_large_frames),
        cmocka_unit_test(test_the_core_has_its_turn_when_a_batch_goes_to_the_disk),
        cmocka_unit_test(test_a_kick_comes_after_the_frame_that_explains_it),
        cmocka_unit_test(test_loads_go_to_the_journal),
        cmocka_unit_test(test_the_end_gives_numbers_back_before_its_last_batch),
        cmocka_unit_test(test_the_end_commits_and_answers_what_was_accepted),
        cmocka_unit_test(test_the_end_commits_what_a_commit_brought_about),
        cmocka_unit_test(test_the_end_gives_up_on_a_disk_that_stays_full),
        cmocka_unit_test(test_ticks_come_once_a_millisecond_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
