/*
 * herd.c owns the slots of a worker from their birth to their end, and reading from all its processes.
 * It must not know the protocol with the broker, nor where slots come from (offspring.c).
 * Start reading at herd_begin, then herd_tend.
 */
#include "common/check.h"
#include "common/clock.h"
#include "worker/complaint.h"
#include "worker/cpus.h"
#include "worker/names.h"
#include "worker/supervisor_private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A dead slot whose end nobody reported by then is buried without it. */
#define DEATH_REPORT_MS 5000
#define DEATH_REPORT_ORPHAN_MS 200
/* A dying slot closes its socket a moment before it is seen dead; one that lives on after this has closed it itself. */
#define HANG_UP_MS 50
/* A slot beyond those configured is kept idle for this long. */
#define SURPLUS_KEEP_MS 5000
/* How long the end may take. */
#define HERD_END_MS 2000
#define HERD_EVENT_COUNT 64

enum watch { WATCH_SIGNALS, WATCH_PARENT, WATCH_ZYGOTE, WATCH_SLOT, WATCH_PIDFD, WATCH_OUTPUT };

static uint64_t watch_tag(enum watch watch, size_t index)
{
    return (uint64_t)watch << 32 | index;
}

static void watch_add(struct supervisor *supervisor, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};
    CHECK_THAT(epoll_ctl(supervisor->events, EPOLL_CTL_ADD, fd, &event) == 0, "%s", strerror(errno));
}

void herd_watch_zygote(struct supervisor *supervisor)
{
    watch_add(supervisor, supervisor->zygote.socket, EPOLLIN, watch_tag(WATCH_ZYGOTE, 0));
}

static void watch_output(struct supervisor *supervisor, const struct slot *slot)
{
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        if (slot->capture.streams[i].fd >= 0) {
            watch_add(supervisor, slot->capture.streams[i].fd, EPOLLIN,
                      watch_tag(WATCH_OUTPUT, (size_t)(slot - supervisor->slots)));
        }
    }
}

static void unwatch_output(struct supervisor *supervisor, const struct slot *slot)
{
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        if (slot->capture.streams[i].fd >= 0) {
            (void)epoll_ctl(supervisor->events, EPOLL_CTL_DEL, slot->capture.streams[i].fd, NULL);
        }
    }
}

void herd_watch_slot(struct supervisor *supervisor, const struct slot *slot)
{
    size_t index = (size_t)(slot - supervisor->slots);
    watch_add(supervisor, slot->fd, EPOLLIN, watch_tag(WATCH_SLOT, index));
    watch_add(supervisor, slot->pidfd, EPOLLIN | EPOLLONESHOT, watch_tag(WATCH_PIDFD, index));
    watch_output(supervisor, slot);
}

/* ---- birth and death of slots ---- */

/* The slot says that it takes tasks. */
static void slot_ready(struct supervisor *supervisor, struct slot *slot)
{
    uint64_t hash = atomic_load_explicit(&slot->page->functions_hash, memory_order_relaxed);
    if (hash != names_hash(supervisor->functions, supervisor->function_count)) {
        /* A spawned slot loads what is there now; its indexes would mean other functions. */
        birth_refused(supervisor, xstrdup("modules changed on disk: restart the worker to serve them"));
        slot->is_doomed = true;
        supervisor->ask_ms = supervisor->now_us / 1000 + AGAIN_MS * 10;
        slot_signal(slot, SIGKILL);
        return;
    }
    slot->is_ready = true;
    supervisor->had_slot = true;
    free(supervisor->refusal);
    supervisor->refusal = NULL;
    meter_begin(&slot->meter, slot->pid, supervisor->now_us / 1000);
    slot->memory.born = slot->meter.base_size;
    group_begin(&slot->group);
}

static void bury(struct supervisor *supervisor, struct slot *slot, const struct reaped *death)
{
    char *refusal = slot_refusal(slot);
    if (refusal != NULL) {
        birth_refused(supervisor, refusal);
        slot->is_doomed = true; /* it is known why it died */
        supervisor->ask_ms = supervisor->now_us / 1000 + AGAIN_MS;
    }
    if (slot->has_run || slot_running(slot, &supervisor->yard) != NULL) {
        supervisor->stillborn = 0;
    } else if (!slot->is_doomed && !supervisor->is_draining) {
        slot_died_unused(supervisor, slot, death);
    }
    slot->is_survived = death->is_survived;
    slot_bury(slot, &supervisor->yard, death->status, death->cpu_us, death->peak_kib, supervisor->now_us);
}

bool herd_slot_dead(struct supervisor *supervisor, const struct reaped *death)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE && slot->pid == death->pid) {
            if (!pidfd_has_ended(slot->pidfd)) {
                return false;
            }
            bury(supervisor, slot, death);
        }
    }
    return true;
}

static bool is_ours(void *self, pid_t pid)
{
    const struct supervisor *supervisor = self;
    bool is = supervisor->zygote.pid == pid;
    for (size_t i = 0; !is && i < supervisor->slot_count; i++) {
        is = supervisor->slots[i].state == SLOT_LIVE && supervisor->slots[i].pid == pid;
    }
    for (size_t i = 0; !is && i < supervisor->guest_count; i++) {
        is = supervisor->guests[i] == pid;
    }
    return is;
}

/* Our dead children: the zygote; slots that outlived theirs; orphans of those. Descendants of dead slots come to us
 * once no zygote is between: they go before a death counts. */
void herd_reap(struct supervisor *supervisor)
{
    struct reaped reaped;
    struct deaths *deaths = &supervisor->deaths;
    int64_t now_ms = supervisor->now_us / 1000;
    bool was_any = deaths->count > 0;
    while (reaper_next(&reaped)) {
        was_any = true;
        if (reaped.pid == supervisor->zygote.pid) {
            supervisor->zygote.pid = 0;
        } else {
            deaths_add(deaths, &reaped, now_ms);
        }
    }
    if (was_any && deaths_are_complete(deaths, is_ours, supervisor, now_ms)) {
        for (size_t i = 0; i < deaths->count; i++) {
            (void)herd_slot_dead(supervisor, &deaths->list[i]);
        }
        deaths->count = 0;
    }
}

/* ---- reading ---- */

/* Which events of a slot's socket to hear; none once its end was seen. */
static void watch_slot(struct supervisor *supervisor, struct slot *slot)
{
    struct epoll_event event = {.events = EPOLLIN | (slot->wants_write ? (uint32_t)EPOLLOUT : 0u),
                                .data.u64 = watch_tag(WATCH_SLOT, (size_t)(slot - supervisor->slots))};
    (void)epoll_ctl(supervisor->events, EPOLL_CTL_MOD, slot->fd, &event);
}

static void hear_slot(struct supervisor *supervisor, struct slot *slot, uint32_t events)
{
    char bells[256];
    if (slot->state != SLOT_LIVE || slot->fd < 0) {
        return;
    }
    ssize_t got = events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? recv(slot->fd, bells, sizeof(bells), MSG_DONTWAIT) : 1;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        /* The end of a slot is told by its parent; one that only closed its socket is of no more use. */
        close(slot->fd);
        slot->fd = -1;
        slot->hung_up_ms = supervisor->now_us / 1000;
    }
    if (!slot->is_ready && !slot->is_doomed && birth_read(slot->page) == BIRTH_READY) {
        slot_ready(supervisor, slot);
    }
    (void)slot_read(slot, &supervisor->yard);
    if (events & EPOLLOUT) {
        slot->wants_write = false;
        watch_slot(supervisor, slot);
    }
}

static void hear_signals(struct supervisor *supervisor)
{
    struct signalfd_siginfo info;
    while (read(supervisor->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            herd_reap(supervisor);
        } else {
            supervisor_told_to_end(supervisor);
        }
    }
}

static void hear_pidfd(struct supervisor *supervisor, struct slot *slot)
{
    if (slot->state == SLOT_LIVE && slot->dead_ms == 0) {
        slot->dead_ms = supervisor->now_us / 1000;
    }
}

/* What a slot prints is kept and passed on. What has ended takes its part first: the ring holds no more than it needs.
 */
static void hear_output(struct supervisor *supervisor, struct slot *slot)
{
    if (slot->state != SLOT_LIVE) {
        return;
    }
    (void)slot_read(slot, &supervisor->yard);
    bool is_muted = !capture_take(&slot->capture, slot->page, supervisor->now_us / 1000);
    if (is_muted && !slot->is_muted) {
        unwatch_output(supervisor, slot);
    } else if (!is_muted && slot->is_muted) {
        watch_output(supervisor, slot);
    }
    slot->is_muted = is_muted;
    slot->output_ms = capture_wake_ms(&slot->capture, supervisor->now_us / 1000);
}

static void herd_event(struct supervisor *supervisor, const struct epoll_event *event)
{
    size_t index = (size_t)(event->data.u64 & UINT32_MAX);
    switch ((enum watch)(event->data.u64 >> 32)) {
    case WATCH_SIGNALS:
        hear_signals(supervisor);
        break;
    case WATCH_PARENT:
        supervisor_abandoned(supervisor);
        break;
    case WATCH_ZYGOTE:
        offspring_hear(supervisor);
        break;
    case WATCH_SLOT:
        hear_slot(supervisor, &supervisor->slots[index], event->events);
        break;
    case WATCH_PIDFD:
        hear_pidfd(supervisor, &supervisor->slots[index]);
        break;
    case WATCH_OUTPUT:
        hear_output(supervisor, &supervisor->slots[index]);
        break;
    }
}

void herd_events(struct supervisor *supervisor)
{
    struct epoll_event events[HERD_EVENT_COUNT];
    int count = epoll_wait(supervisor->events, events, HERD_EVENT_COUNT, 0);
    for (int i = 0; i < count; i++) {
        herd_event(supervisor, &events[i]);
    }
}

void herd_flush(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE && slot->out.n > 0 && !slot->wants_write) {
            slot_flush(slot);
            if (slot->wants_write) {
                watch_slot(supervisor, slot);
            }
        }
    }
}

/* ---- tending ---- */

/* Nobody told how it died: its zygote died in between, or reaps no more. */
static int64_t bury_unreported(struct supervisor *supervisor, struct slot *slot)
{
    int64_t now_ms = supervisor->now_us / 1000;
    int64_t due_ms = slot->dead_ms + (slot->is_orphan ? DEATH_REPORT_ORPHAN_MS : DEATH_REPORT_MS);
    if (now_ms < due_ms) {
        return due_ms;
    }
    if (deaths_has(&supervisor->deaths, slot->pid)) {
        return now_ms + REAPER_LOOK_MS;
    }
    if (!slot->is_orphan) {
        /* Without it what the slot left behind comes to us, and we clear it away. */
        log_event(LOG_WARN, "the zygote reaps no more", "pid=%d", supervisor->zygote.pid);
        offspring_give_up(supervisor);
        slot->dead_ms = now_ms;
        return now_ms;
    }
    bool is_zygote_dying = supervisor->zygote.pid > 0 && supervisor->zygote.socket < 0;
    bool is_left = is_zygote_dying || reaper_kill_strays(is_ours, supervisor);
    if (is_left && now_ms >= due_ms + REAPER_PATIENCE_MS) {
        (void)reaper_freeze_strays(is_ours, supervisor);
    }
    if (is_left && now_ms < due_ms + REAPER_STRAYS_MS) {
        return now_ms + REAPER_LOOK_MS;
    }
    bury(supervisor, slot, &(struct reaped){.pid = slot->pid, .status = DEATH_UNKNOWN, .is_survived = is_left});
    return now_ms;
}

/* Slots that were made because others waited end when they have been idle for a while. */
static int64_t tend_idle(struct supervisor *supervisor, struct slot *slot)
{
    int64_t now_ms = supervisor->now_us / 1000;
    if (slot->queued > 0 || slot->is_doomed || supervisor->missing >= 0) {
        slot->idle_ms = 0;
        return INT64_MAX;
    }
    slot->idle_ms = slot->idle_ms == 0 ? now_ms : slot->idle_ms;
    if (now_ms < slot->idle_ms + SURPLUS_KEEP_MS) {
        return slot->idle_ms + SURPLUS_KEEP_MS;
    }
    slot->is_doomed = true;
    slot_signal(slot, SIGKILL);
    supervisor->missing++;
    return INT64_MAX;
}

/* How many slots there are too few (too many: below 0), and room to make them. Few are looked at while few are used. */
static void count_slots(struct supervisor *supervisor)
{
    const struct places *places = &supervisor->places;
    size_t used = 0;
    size_t end = 0;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state != SLOT_NONE) {
            used++;
            end = i + 1;
        }
    }
    size_t wanted = supervisor->is_draining && places->waiting == 0 ? 0 : places_slots(places);
    size_t count = wanted > places->slots ? wanted : places->slots;
    supervisor->missing = (int64_t)wanted - (int64_t)used;
    supervisor->slot_count = end > count ? end : count;
}

/* Has it run its share, or grown too large? When to look again. */
static int64_t tend_usage(struct supervisor *supervisor, struct slot *slot)
{
    uint64_t size_max = supervisor->options->slot_memory_size;
    int64_t wake_ms = INT64_MAX;
    if (size_max > 0) {
        wake_ms = meter_look(&slot->meter, slot->pid, slot->ran, slot->queued == 0, supervisor->now_us / 1000);
    }
    bool is_large = size_max > 0 && meter_growth(&slot->meter) > size_max;
    bool has_run_all = slot->tasks_max > 0 && slot->ran >= slot->tasks_max;
    if ((is_large || has_run_all) && !slot->is_spent) {
        slot->is_spent = true;
        log_event(LOG_DEBUG, "a slot is replaced", "pid=%d ran=%llu grown=%llu", slot->pid,
                  (unsigned long long)slot->ran, (unsigned long long)meter_growth(&slot->meter));
    }
    return wake_ms;
}

static int64_t tend_output(struct supervisor *supervisor, struct slot *slot)
{
    if (slot->is_muted && supervisor->now_us / 1000 >= slot->output_ms) {
        hear_output(supervisor, slot);
    }
    return slot->is_muted ? slot->output_ms : INT64_MAX;
}

static int64_t tend_slot(struct supervisor *supervisor, struct slot *slot)
{
    int64_t now_ms = supervisor->now_us / 1000;
    if (slot->state == SLOT_LIVE && slot->dead_ms != 0) {
        return bury_unreported(supervisor, slot);
    }
    if (slot->state == SLOT_LIVE && slot->hung_up_ms != 0 && !slot->is_doomed) {
        int64_t due_ms = slot->hung_up_ms + HANG_UP_MS;
        if (now_ms >= due_ms) {
            slot_condemn(slot, &supervisor->yard, MISDEED_HUNG_UP);
        }
        return due_ms;
    }
    int64_t wake_ms = slot->state == SLOT_LIVE ? tend_usage(supervisor, slot) : INT64_MAX;
    if (slot->state == SLOT_LIVE && (slot->is_orphan || slot->is_spent) && !slot->is_doomed) {
        /* To be replaced once it is idle. (A zygote of ours must stand behind every slot, to clear up after it.) */
        slot_revoke_all(slot, &supervisor->yard);
        if (slot->queued == 0) {
            slot->is_doomed = true;
            slot_signal(slot, SIGKILL);
        }
        return now_ms + AGAIN_MS / 10;
    }
    if (slot->state == SLOT_NONE && supervisor->zygote_is_ready && supervisor->missing > 0) {
        if (now_ms < supervisor->ask_ms) {
            return supervisor->ask_ms;
        }
        if (offspring_ask(supervisor, slot) == 0) {
            supervisor->missing--;
        } else {
            supervisor->ask_ms = now_ms + AGAIN_MS / 10;
        }
    }
    int64_t idle_ms = slot->state == SLOT_LIVE ? tend_idle(supervisor, slot) : INT64_MAX;
    return idle_ms < wake_ms ? idle_ms : wake_ms;
}

int64_t herd_tend(struct supervisor *supervisor)
{
    int64_t now_ms = supervisor->now_us / 1000;
    int64_t wake_ms = INT64_MAX;
    if (supervisor->zygote.socket < 0 && supervisor->exit_status < 0) {
        if (now_ms < supervisor->zygote_again_ms) {
            wake_ms = supervisor->zygote_again_ms;
        } else if (!offspring_begin(supervisor)) {
            wake_ms = supervisor->zygote_again_ms;
        }
    }
    if (supervisor->deaths.count > 0) {
        herd_reap(supervisor);
        wake_ms = now_ms + REAPER_LOOK_MS < wake_ms ? now_ms + REAPER_LOOK_MS : wake_ms;
    }
    count_slots(supervisor);
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        int64_t slot_ms = tend_slot(supervisor, &supervisor->slots[i]);
        int64_t output_ms = tend_output(supervisor, &supervisor->slots[i]);
        wake_ms = slot_ms < wake_ms ? slot_ms : wake_ms;
        wake_ms = output_ms < wake_ms ? output_ms : wake_ms;
    }
    return wake_ms;
}

/* ---- beginning and end ---- */

static void watch_parent(struct supervisor *supervisor)
{
    struct pollfd fds[PARENT_FD_COUNT];
    parent_poll_fds(&supervisor->parent, fds);
    for (size_t i = 0; i < PARENT_FD_COUNT; i++) {
        if (fds[i].fd >= 0) {
            watch_add(supervisor, fds[i].fd, (uint32_t)fds[i].events, watch_tag(WATCH_PARENT, 0));
        }
    }
}

bool herd_begin(struct supervisor *supervisor)
{
    watch_add(supervisor, supervisor->signals, EPOLLIN, watch_tag(WATCH_SIGNALS, 0));
    watch_parent(supervisor);
    if (!offspring_begin(supervisor)) {
        supervisor->exit_status = 1;
    }
    while (supervisor->exit_status < 0 && !supervisor->zygote_is_ready) {
        struct pollfd fds[2 + PARENT_FD_COUNT] = {{.fd = supervisor->zygote.socket, .events = POLLIN},
                                                  {.fd = supervisor->signals, .events = POLLIN}};
        parent_poll_fds(&supervisor->parent, fds + 2);
        (void)poll(fds, 2 + PARENT_FD_COUNT, -1);
        offspring_hear_first(supervisor);
        struct signalfd_siginfo info;
        if (fds[1].revents != 0 && read(supervisor->signals, &info, sizeof(info)) == (ssize_t)sizeof(info) &&
            info.ssi_signo != SIGCHLD) {
            supervisor->exit_status = 0;
        }
        if (parent_is_gone(&supervisor->parent)) {
            supervisor_abandoned(supervisor);
        }
    }
    return supervisor->exit_status < 0;
}

bool herd_await_slots(struct supervisor *supervisor)
{
    while (supervisor->exit_status < 0 && !herd_is_complete(supervisor)) {
        supervisor->now_us = clock_mono_us();
        herd_events(supervisor);
        int64_t wake_ms = herd_tend(supervisor);
        int64_t left_ms = wake_ms - supervisor->now_us / 1000;
        struct pollfd event = {.fd = supervisor->events, .events = POLLIN};
        if (supervisor->is_draining) {
            supervisor->exit_status = 0;
        } else if (supervisor->exit_status < 0 && !herd_is_complete(supervisor)) {
            (void)poll(&event, 1, left_ms < 0 ? 0 : left_ms > AGAIN_MS ? AGAIN_MS : (int)left_ms);
        }
    }
    return supervisor->exit_status < 0;
}

void herd_end(struct supervisor *supervisor)
{
    int64_t began_ms = clock_mono_ms();
    int64_t until_ms = began_ms + HERD_END_MS;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE) {
            slot_signal(slot, SIGKILL);
            slot_bury(slot, &supervisor->yard, DEATH_UNKNOWN, 0, 0, supervisor->now_us);
        }
    }
    zygote_leave(&supervisor->zygote);
    if (!supervisor->zygote_is_ready && supervisor->zygote.pid > 0) {
        kill(supervisor->zygote.pid, SIGKILL); /* it looks at no socket while it loads */
    }
    /* The zygote clears up behind its slots and ends; what is ours besides goes too. */
    while (clock_mono_ms() < until_ms) {
        herd_reap(supervisor);
        if (supervisor->zygote.pid <= 0) {
            bool was_any = clock_mono_ms() < began_ms + REAPER_PATIENCE_MS ? reaper_kill_strays(is_ours, supervisor)
                                                                           : reaper_freeze_strays(is_ours, supervisor);
            if (!was_any && (supervisor->guest_count > 0 || waitpid(-1, NULL, WNOHANG) < 0)) {
                break;
            }
        }
        struct pollfd death = {.fd = supervisor->signals, .events = POLLIN};
        struct signalfd_siginfo info;
        if (poll(&death, 1, 20) > 0) {
            (void)!read(supervisor->signals, &info, sizeof(info));
        }
    }
    names_free(supervisor->functions, supervisor->function_count);
    supervisor->functions = NULL;
    supervisor->function_count = 0;
}
