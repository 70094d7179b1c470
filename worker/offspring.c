/*
 * offspring.c owns what is between the supervisor and its zygote: its start and its end, and the slots that it brings.
 * What it says is believed only as far as it can be seen, for it has run code of the user's. It must not know what
 * becomes of slots later (herd.c). Start reading at offspring_begin, then zygote_says.
 */
#include "common/check.h"
#include "worker/complaint.h"
#include "worker/cpus.h"
#include "worker/names.h"
#include "worker/supervisor_private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* A zygote that had worked is tried again sooner than one that had not. */
#define ZYGOTE_AGAIN_MS 100

/* ---- its start and its end ---- */

bool offspring_begin(struct supervisor *supervisor)
{
    supervisor->zygote_is_ready = false;
    int err = zygote_start(&supervisor->zygote, &supervisor->plan);
    if (err != 0) {
        if (supervisor->functions == NULL) {
            complain("cannot start a process for the functions: %s", strerror(err));
        } else {
            log_event(LOG_ERROR, "the zygote could not be started", "why=\"%s\"", strerror(err));
        }
        supervisor->zygote_again_ms = supervisor->now_us / 1000 + AGAIN_MS;
        return false;
    }
    herd_watch_zygote(supervisor);
    return true;
}

static void orphan_slots(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE) {
            slot->is_orphan = true;
        } else if (slot->state == SLOT_ASKED) {
            slot->state = SLOT_NONE;
        }
    }
}

void offspring_give_up(struct supervisor *supervisor)
{
    if (supervisor->zygote.socket >= 0) {
        log_event(LOG_WARN, "the zygote died", "pid=%d", supervisor->zygote.pid);
    }
    /* It may only have closed its socket: then it goes now. Before the end of file, at which it would take its slots
     * along. */
    if (supervisor->zygote.pid > 0) {
        kill(supervisor->zygote.pid, SIGKILL);
    }
    zygote_leave(&supervisor->zygote);
    orphan_slots(supervisor);
    supervisor->zygote_again_ms =
        supervisor->now_us / 1000 + (supervisor->zygote_is_ready ? ZYGOTE_AGAIN_MS : AGAIN_MS);
    supervisor->zygote_is_ready = false;
}

/* Its memory may be spoilt: another takes its place. */
static void disbelieve(struct supervisor *supervisor, const char *what)
{
    log_event(LOG_ERROR, "the zygote talks nonsense", "about=\"%s\", it is started anew", what);
    offspring_give_up(supervisor);
}

static void zygote_ready(struct supervisor *supervisor)
{
    char **names;
    size_t count;
    if (!names_read(supervisor->zygote.packet->text, supervisor->zygote.packet->head.text_size,
                    (size_t)supervisor->zygote.packet->head.status, &names, &count)) {
        disbelieve(supervisor, "its functions");
        return;
    }
    if (supervisor->functions == NULL) {
        supervisor->functions = names;
        supervisor->function_count = count;
        supervisor->zygote_is_ready = true;
        return;
    }
    bool is_same = names_equal(names, count, supervisor->functions, supervisor->function_count);
    names_free(names, count);
    if (!is_same) {
        /* Indexes would mean other functions: what was replaced on disk needs a new worker. */
        log_event(LOG_ERROR, "modules changed on disk", "restart the worker to serve them");
        offspring_give_up(supervisor);
        supervisor->zygote_again_ms = supervisor->now_us / 1000 + AGAIN_MS * 10;
        return;
    }
    supervisor->zygote_is_ready = true;
}

static void refused(struct supervisor *supervisor)
{
    const struct zygote_packet *packet = supervisor->zygote.packet;
    birth_refused(supervisor, bytes_dup_text(bytes_of(packet->text, packet->head.text_size)));
}

/* ---- slots ---- */

int offspring_ask(struct supervisor *supervisor, struct slot *slot)
{
    int err = zygote_ask_slot(&supervisor->zygote, supervisor->births + 1);
    if (err == 0) {
        slot->state = SLOT_ASKED;
        slot->birth = ++supervisor->births;
    }
    return err;
}

/* The one that was asked for by that number. */
static struct slot *slot_asked(struct supervisor *supervisor, uint64_t birth)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_ASKED && supervisor->slots[i].birth == birth) {
            return &supervisor->slots[i];
        }
    }
    return NULL;
}

/* Before its first task; what it starts has the same. */
static void limit_memory(const struct options *options, pid_t pid)
{
    const struct rlimit space = {options->address_space_max, options->address_space_max};
    const struct rlimit data = {options->data_max, options->data_max};
    if ((options->address_space_max > 0 && prlimit(pid, RLIMIT_AS, &space, NULL) != 0) ||
        (options->data_max > 0 && prlimit(pid, RLIMIT_DATA, &data, NULL) != 0)) {
        log_event(LOG_ERROR, "a slot has no limit of the kernel's", "pid=%d why=\"%s\"", pid, strerror(errno));
    }
}

/* By its place among the slots, so that one that replaces another has its CPU. */
static void pin(const struct supervisor *supervisor, size_t index, pid_t pid)
{
    int cpu = supervisor->options->pins ? cpus_nth(index) : -1;
    int err = cpu >= 0 ? cpus_bind(pid, cpu) : 0;
    if (err != 0 && err != ESRCH) {
        log_event(LOG_WARN, "a slot is not bound to a CPU", "pid=%d cpu=%d why=\"%s\"", pid, cpu, strerror(err));
    }
}

static void slot_born(struct supervisor *supervisor, uint64_t birth, pid_t pid)
{
    struct slot *slot = slot_asked(supervisor, birth);
    /* A signal to it goes to its group too: that of another process is not to be had by a lie. */
    if (slot == NULL || !pidfd_stands_for(supervisor->zygote.fds[2], pid)) {
        disbelieve(supervisor, "a slot");
        return; /* its socket is closed with the next packet: it ends */
    }
    int err = slot_open(slot, pid, supervisor->zygote.fds, supervisor->now_us / 1000);
    if (err != 0) {
        log_event(LOG_ERROR, "a slot could not be taken", "pid=%d why=\"%s\"", pid, strerror(err));
        slot->state = SLOT_NONE;
        supervisor->ask_ms = supervisor->now_us / 1000 + AGAIN_MS;
        return;
    }
    size_t index = (size_t)(slot - supervisor->slots);
    slot->birth = birth;
    slot->tasks_max = supervisor->options->slot_tasks_max;
    limit_memory(supervisor->options, pid);
    pin(supervisor, index, pid);
    group_open(&slot->group, &supervisor->yard.groups, birth);
    herd_watch_slot(supervisor, slot);
    assign_lease(supervisor);
    log_event(LOG_DEBUG, "slot", "pid=%d index=%zu", pid, index);
}

static void no_slot(struct supervisor *supervisor, uint64_t birth, int err)
{
    struct slot *slot = slot_asked(supervisor, birth);
    if (slot == NULL) {
        disbelieve(supervisor, "a slot that nobody asked for");
        return;
    }
    log_event(LOG_ERROR, "a slot could not be forked", "why=\"%s\"", strerror(err));
    supervisor->ask_ms = supervisor->now_us / 1000 + AGAIN_MS;
    supervisor->stillborn++; /* those there are go to work without it */
    supervisor->stillborn_ms = supervisor->now_us / 1000;
    slot->state = SLOT_NONE;
}

/* ---- hearing it ---- */

static void zygote_says(struct supervisor *supervisor)
{
    const struct zygote_head *head = &supervisor->zygote.packet->head;
    struct reaped death = {.pid = head->pid,
                           .status = head->status,
                           .cpu_us = head->cpu_us,
                           .peak_kib = head->peak_kib,
                           .is_survived = head->number != 0};
    switch ((enum zygote_word)head->word) {
    case ZYGOTE_READY:
        zygote_ready(supervisor);
        return;
    case ZYGOTE_REFUSED:
        refused(supervisor);
        return;
    case ZYGOTE_SLOT:
        slot_born(supervisor, head->number, head->pid);
        return;
    case ZYGOTE_NO_SLOT:
        no_slot(supervisor, head->number, head->status);
        return;
    case ZYGOTE_DEAD:
        if (!herd_slot_dead(supervisor, &death)) {
            disbelieve(supervisor, "the end of a slot that is alive");
        }
        return;
    case ZYGOTE_FORK:
        break;
    }
    disbelieve(supervisor, "nothing that it may say");
}

void offspring_hear(struct supervisor *supervisor)
{
    enum zygote_heard heard = ZYGOTE_HEARD;
    while (heard == ZYGOTE_HEARD && supervisor->zygote.socket >= 0) {
        heard = zygote_hear(&supervisor->zygote);
        if (heard == ZYGOTE_HEARD) {
            zygote_says(supervisor);
        }
    }
    if (heard == ZYGOTE_GONE) {
        offspring_give_up(supervisor);
    }
}

static void first_died(struct supervisor *supervisor)
{
    int status = 0;
    /* How it ends is settled when its socket is closed; one that only says nonsense would stay for ever. */
    if (supervisor->zygote.pid > 0) {
        kill(supervisor->zygote.pid, SIGKILL);
    }
    zygote_leave(&supervisor->zygote);
    while (supervisor->zygote.pid > 0 && waitpid(supervisor->zygote.pid, &status, 0) < 0 && errno == EINTR) {
    }
    supervisor->zygote.pid = 0;
    if (supervisor->exit_status < 0) {
        if (WIFSIGNALED(status)) {
            complain("a module, or its initialiser, died while it was loaded, of signal %d (%s)", WTERMSIG(status),
                     strsignal(WTERMSIG(status)));
        } else {
            complain("a module, or its initialiser, ended the process while it was loaded, with exit status %d",
                     WEXITSTATUS(status));
        }
        supervisor->exit_status = 1;
    }
}

void offspring_hear_first(struct supervisor *supervisor)
{
    enum zygote_heard heard = zygote_hear(&supervisor->zygote);
    if (heard == ZYGOTE_HEARD) {
        zygote_says(supervisor);
    } else if (heard == ZYGOTE_GONE) {
        first_died(supervisor);
    }
}
