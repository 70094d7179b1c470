/*
 * supervisor.c owns the worker's event loop: turns of reading, assigning, sending, sleeping; its start and its end.
 * It must not know what messages mean (dialogue.c), nor how processes come and go (herd.c).
 * Start reading at supervisor_run, then turn.
 */
#include "worker/supervisor.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/door.h"
#include "worker/complaint.h"
#include "worker/supervisor_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LINGER_MS 500
/* Frames taken in before slots have their turn again. */
#define FRAME_COUNT_MAX 64

/* ---- the broker ---- */

static void act_on(struct supervisor *supervisor, enum dialogue_verdict verdict)
{
    struct dialogue *dialogue = &supervisor->dialogue;
    switch (verdict) {
    case DIALOGUE_OK:
        return;
    case DIALOGUE_REFUSED:
        complain("the broker at %s refused this worker: %s", dealer_url(supervisor->dealer), dialogue->why);
        supervisor->exit_status = 1;
        return;
    case DIALOGUE_RECONNECT:
    case DIALOGUE_BACK_OFF:
        log_event(LOG_WARN, "connecting anew", "why=\"%s\"", dialogue->why);
        dealer_reconnect(supervisor->dealer, verdict == DIALOGUE_BACK_OFF, dialogue->why);
        dialogue_down(dialogue);
        return;
    }
}

static void on_welcome(struct supervisor *supervisor)
{
    if (!supervisor->is_ready_told) {
        char line[WORKER_NAME_SIZE_MAX + 64];
        snprintf(line, sizeof(line), "ready %s slots=%u\n", supervisor->name.name, supervisor->places.slots);
        parent_tell_ready(&supervisor->parent, line);
        supervisor->is_ready_told = true;
    }
    log_event(LOG_INFO, "welcome", "url=\"%s\" name=\"%s\" epoch=%u held=%zu", dealer_url(supervisor->dealer),
              supervisor->name.name, supervisor->ledger.epoch, supervisor->ledger.held_count);
}

static void on_frame(struct supervisor *supervisor, struct bytes frame)
{
    bool was_welcome = dialogue_is_welcome(&supervisor->dialogue);
    act_on(supervisor, dialogue_frame(&supervisor->dialogue, frame, supervisor->now_us / 1000));
    if (!was_welcome && dialogue_is_welcome(&supervisor->dialogue)) {
        on_welcome(supervisor);
    }
}

static void on_dealer(struct supervisor *supervisor, const struct dealer_event *event)
{
    switch (event->kind) {
    case DEALER_UP:
        turn_look(supervisor);
        dialogue_up(&supervisor->dialogue, supervisor->now_us / 1000);
        break;
    case DEALER_FRAME:
        on_frame(supervisor, event->frame);
        break;
    case DEALER_DOWN:
        log_event(dialogue_is_welcome(&supervisor->dialogue) ? LOG_WARN : LOG_DEBUG, "no broker",
                  "url=\"%s\" why=\"%s\"", dealer_url(supervisor->dealer), event->why);
        dialogue_down(&supervisor->dialogue);
        break;
    }
}

/* True: there may be more. */
static bool read_broker(struct supervisor *supervisor)
{
    struct dealer_event event;
    for (int i = 0; i < FRAME_COUNT_MAX; i++) {
        if (!dealer_next(supervisor->dealer, &event)) {
            return false;
        }
        on_dealer(supervisor, &event);
    }
    return true;
}

/* True: the dealer may have something that makes nothing readable any more. */
static bool write_broker(struct supervisor *supervisor)
{
    bool was_any = false;
    while (supervisor->exit_status < 0 && dialogue_next(&supervisor->dialogue, &supervisor->frame)) {
        was_any = true;
        (void)dealer_send(supervisor->dealer, &supervisor->frame);
    }
    return was_any && dealer_has_input(supervisor->dealer);
}

/* ---- the end ---- */

void supervisor_told_to_end(struct supervisor *supervisor)
{
    if (supervisor->is_draining) {
        log_event(LOG_INFO, "ending at once", "held=%zu", supervisor->ledger.held_count);
        supervisor->exit_status = 0;
        return;
    }
    log_event(LOG_INFO, "draining", "running=%zu", supervisor->ledger.handed.count);
    supervisor->is_draining = true;
    dialogue_drain(&supervisor->dialogue);
}

void supervisor_abandoned(struct supervisor *supervisor)
{
    log_event(LOG_INFO, "the program that started this worker is gone", "held=%zu", supervisor->ledger.held_count);
    supervisor->is_abandoned = true;
    supervisor->exit_status = 0;
}

/* ---- turns ---- */

static void sleep_until(struct supervisor *supervisor, int64_t wake_ms)
{
    struct pollfd fds[1 + DEALER_FD_COUNT_MAX] = {{.fd = supervisor->events, .events = POLLIN}};
    int dealer[DEALER_FD_COUNT_MAX];
    size_t count = dealer_fds(supervisor->dealer, dealer);
    for (size_t i = 0; i < count; i++) {
        fds[1 + i] = (struct pollfd){.fd = dealer[i], .events = POLLIN};
    }
    int64_t left_ms = wake_ms - clock_mono_ms();
    int timeout = wake_ms == INT64_MAX ? -1 : left_ms < 0 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms;
    bool is_due = poll(fds, 1 + count, timeout) <= 0;
    supervisor->hears_herd = is_due || fds[0].revents != 0;
    for (size_t i = 0; i < count; i++) {
        supervisor->hears_broker = supervisor->hears_broker || is_due || fds[1 + i].revents != 0;
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One turn: read, decide, write. When the next is due. */
static int64_t turn(struct supervisor *supervisor)
{
    supervisor->now_us = clock_mono_us();
    if (supervisor->hears_herd) {
        herd_events(supervisor);
    }
    waits_look(supervisor);
    bool must_read = supervisor->hears_broker || dealer_wake_ms(supervisor->dealer) != INT64_MAX;
    supervisor->hears_broker = must_read && read_broker(supervisor);
    act_on(supervisor, dialogue_tick(&supervisor->dialogue, supervisor->now_us / 1000));
    assign_check(supervisor);
    int64_t wake_ms = herd_tend(supervisor);
    wake_ms = earlier(wake_ms, turn_decide(supervisor));
    herd_flush(supervisor);
    supervisor->hears_broker = write_broker(supervisor) || supervisor->hears_broker;
    heaptrim_look(&supervisor->heaptrim, supervisor->now_us / 1000);
    bool again = supervisor->hears_broker;
    if (supervisor->is_draining) {
        again = dialogue_is_over(&supervisor->dialogue) || again;
    }
    wake_ms = earlier(wake_ms, earlier(supervisor->check_ms, dialogue_wake_ms(&supervisor->dialogue)));
    return again ? 0 : earlier(wake_ms, dealer_wake_ms(supervisor->dealer));
}

/* ---- start ---- */

static void signals_begin(struct supervisor *supervisor)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    supervisor->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    supervisor->events = epoll_create1(EPOLL_CLOEXEC);
    CHECK(supervisor->signals >= 0 && supervisor->events >= 0);
    CHECK(pipe2(supervisor->life, O_CLOEXEC) == 0);
    /* Slots whose zygote has died, and what they leave behind, become our children. */
    supervisor->guest_count = reaper_children(supervisor->guests, GUEST_COUNT_MAX);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* Four descriptors for each slot, and the zygote passes five at a time. */
static void make_room(size_t slot_count)
{
    struct rlimit limit;
    rlim_t need = 4 * (rlim_t)slot_count + 128;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < need) {
        limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void supervisor_init(struct supervisor *supervisor, const struct options *options)
{
    *supervisor = (struct supervisor){.options = options,
                                      .exit_status = -1,
                                      .hears_herd = true,
                                      .hears_broker = true,
                                      .check_ms = INT64_MAX,
                                      .lease_told_ms = INT64_MIN,
                                      .name = {.file = -1, .socket = -1},
                                      .parent = options->parent,
                                      .slot_count = options->slot_count,
                                      .places = {.slots = options->slot_count}};
    if (gethostname(supervisor->host, sizeof(supervisor->host) - 1) != 0 ||
        !bytes_is_utf8(bytes_text(supervisor->host))) {
        memcpy(supervisor->host, "localhost", sizeof("localhost"));
    }
    size_t slots_max = places_slots_max(options->slot_count);
    supervisor->slots = xcalloc(slots_max, sizeof(supervisor->slots[0]));
    for (size_t i = 0; i < slots_max; i++) {
        slot_init(&supervisor->slots[i]);
    }
    parent_begin(&supervisor->parent);
    make_room(slots_max);
    signals_begin(supervisor);
    floor_init(&supervisor->floor, &options->floor, options->proc);
    zygote_init(&supervisor->zygote);
    ledger_init(&supervisor->ledger);
    supervisor->plan = (struct zygote_plan){.program = options->program,
                                            .life = supervisor->life[0],
                                            .allow_commands = options->allow_commands,
                                            .spawns = options->spawns,
                                            .level = options->level,
                                            .modules = options->modules,
                                            .module_count = options->module_count};
}

/* The first of the broker's addresses, malloc'd: by it workers of one host tell brokers apart. */
static char *broker_name(const struct options *options)
{
    return options->url_count > 0 ? xstrdup(options->urls[0]) : link_default_url();
}

/* Handlers, and the commands they run, find the worker's own broker in QUERN_URL; their sessions are volatile if it has
 * no store for others. */
static void environment_begin(const struct options *options)
{
    struct buf urls = {0};
    char *url = broker_name(options);
    buf_printf(&urls, "%s", url);
    for (size_t i = 1; i < options->url_count; i++) {
        buf_printf(&urls, ",%s", options->urls[i]);
    }
    buf_put_u8(&urls, 0);
    CHECK(setenv("QUERN_URL", (const char *)urls.p, 1) == 0);
    CHECK(setenv("QUERN_VOLATILE", "auto", 1) == 0);
    CHECK(unsetenv(DOOR_ENVIRONMENT) == 0 && unsetenv(DOOR_TASK_ENVIRONMENT) == 0); /* of a command that started us */
    buf_fini(&urls);
    free(url);
}

static bool name_begin(struct supervisor *supervisor)
{
    char *why = NULL;
    char *broker = broker_name(supervisor->options);
    enum quern_err err = name_take(supervisor->options->name, supervisor->host, broker,
                                   supervisor->options->name_directory, &supervisor->name, &why);
    if (err != QUERN_OK) {
        complain("%s", why != NULL ? why : quern_err_text(err));
        supervisor->exit_status = 1;
    }
    free(why);
    free(broker);
    return err == QUERN_OK;
}

static bool dealer_begin(struct supervisor *supervisor)
{
    char *why = NULL;
    char *url = NULL;
    const char *const *urls = supervisor->options->urls;
    size_t count = supervisor->options->url_count;
    const char *only[1];
    if (count == 0) {
        url = link_default_url();
        only[0] = url;
        urls = only;
        count = 1;
    }
    enum quern_err err = dealer_open(urls, count, &supervisor->dealer, &why);
    if (err != QUERN_OK) {
        complain("%s", why != NULL ? why : quern_err_text(err));
        supervisor->exit_status = 2;
    }
    free(url);
    free(why);
    return err == QUERN_OK;
}

/* For people: how much memory there is, and who sees to limits. */
static void memory_describe(struct supervisor *supervisor)
{
    const struct floor *floor = &supervisor->floor;
    struct buf text = {0};
    if (floor->usable > 0) {
        buf_printf(&text, "%.1f GiB usable, ", (double)floor->usable / (double)(1024 * MIB));
    }
    if (floor->size > 0) {
        buf_printf(&text, "nothing starts below %llu MiB free; ", (unsigned long long)(floor->size / MIB));
    } else {
        buf_printf(&text, "no floor; ");
    }
    buf_printf(&text, "limits watched every %u to %u ms", MEMORY_LOOK_MIN_MS, MEMORY_LOOK_MAX_MS);
    const struct groups *groups = &supervisor->yard.groups;
    buf_printf(&text, "%s%s",
               groups->use == GROUPS_MEMORY ? ", and kept by the kernel (cgroup v2)"
               : groups->use == GROUPS_KILL ? "; cgroup v2 for killing only: "
                                            : "; cgroup v2: ",
               groups->use == GROUPS_MEMORY ? "" : groups->why);
    snprintf(supervisor->memory_text, sizeof(supervisor->memory_text), "%.*s", (int)text.n, (const char *)text.p);
    buf_fini(&text);
}

static void dialogue_begin(struct supervisor *supervisor)
{

    struct limits limits = limits_default();
    struct dialogue_facts facts = {.instance = uuid_random(),
                                   .host = supervisor->host,
                                   .name = supervisor->name.name,
                                   .pid = (uint32_t)getpid(),
                                   .slot_count = supervisor->places.slots,
                                   .functions = (const char *const *)supervisor->functions,
                                   .function_count = supervisor->function_count,
                                   .queues = supervisor->options->queues,
                                   .queue_count = supervisor->options->queue_count,
                                   .memory = supervisor->memory_text};
    struct dialogue_slots slots = assign_slots(supervisor);
    pace_init(&supervisor->pace, supervisor->function_count);
    dialogue_init(&supervisor->dialogue, &facts, &slots, &supervisor->ledger, &limits);
}

/* Before the first process of ours: it stands where we stand. */
static void yard_begin(struct supervisor *supervisor)
{
    const struct options *options = supervisor->options;
    supervisor->yard =
        (struct slot_yard){.ledger = &supervisor->ledger,
                           .pace = &supervisor->pace,
                           .host = supervisor->host,
                           .memory_limit = {.task = options->task_memory_max, .slot = options->slot_memory_max},
                           .proc = options->proc};
    groups_open(&supervisor->yard.groups, NULL, options->no_cgroups);
    yard_look(&supervisor->yard, clock_mono_ms());
    memory_describe(supervisor);
}

static void supervisor_fini(struct supervisor *supervisor)
{
    herd_end(supervisor);
    groups_close(&supervisor->yard.groups);
    dialogue_fini(&supervisor->dialogue);
    ledger_fini(&supervisor->ledger);
    pace_fini(&supervisor->pace);
    zygote_fini(&supervisor->zygote);
    buf_fini(&supervisor->frame);
    free(supervisor->slots);
    free(supervisor->refusal);
    name_release(&supervisor->name);
    int fds[] = {supervisor->signals, supervisor->events, supervisor->life[0], supervisor->life[1]};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* When told to end at once, the broker learns what has ended and, once nothing runs any more, that we are gone. */
static void leave(struct supervisor *supervisor)
{
    if (supervisor->ledger.held_count > 0 && !supervisor->is_abandoned) {
        turn_look(supervisor);
        while (dialogue_next(&supervisor->dialogue, &supervisor->frame)) {
            (void)dealer_send(supervisor->dealer, &supervisor->frame);
        }
        herd_end(supervisor);
        if (dialogue_leave(&supervisor->dialogue, &supervisor->frame)) {
            (void)dealer_send(supervisor->dealer, &supervisor->frame);
        }
    }
    dealer_close(&supervisor->dealer, supervisor->is_abandoned ? 0 : LINGER_MS);
}

int supervisor_run(const struct options *options)
{
    struct supervisor supervisor;
    supervisor_init(&supervisor, options);
    environment_begin(options);
    bool is_named = name_begin(&supervisor);
    if (is_named) {
        yard_begin(&supervisor);
    }
    if (is_named && herd_begin(&supervisor)) {
        if (supervisor.function_count == 0) {
            complain("nothing to serve: no module brings a function");
            supervisor.exit_status = 2;
        } else if (dealer_begin(&supervisor)) {
            dialogue_begin(&supervisor);
            log_event(LOG_INFO, "worker", "name=\"%s\" pid=%d slots=%u functions=%zu memory=\"%s\"",
                      supervisor.name.name, getpid(), supervisor.places.slots, supervisor.function_count,
                      supervisor.memory_text);
            (void)herd_await_slots(&supervisor);
            while (supervisor.exit_status < 0) {
                int64_t wake_ms = turn(&supervisor);
                if (supervisor.exit_status < 0) {
                    sleep_until(&supervisor, wake_ms);
                }
            }
            leave(&supervisor);
        }
    }
    supervisor_fini(&supervisor);
    return supervisor.exit_status;
}
