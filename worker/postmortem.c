/*
 * postmortem.c owns the words and causes for attempts whose slot died or was stopped.
 * It must not know how that was noticed.
 * Start reading at postmortem.
 */
#include "worker/postmortem.h"

#include "worker/backtrace.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define PLACE_TEXT_SIZE 160u

static struct outcome outcome_of(const struct death *death, enum finished_state state, enum cause cause,
                                 const char *kind, const char *text)
{
    uint64_t seen_kib = death->memory.peak / KIB;
    return (struct outcome){.state = state,
                            .cause = cause,
                            .kind = bytes_text(kind),
                            .message = bytes_text(text),
                            .pid = (uint64_t)death->pid,
                            .started = death->started_wall_ms,
                            .run_us = death->run_us,
                            .cpu_us = death->cpu_us,
                            .peak = death->peak_kib > seen_kib ? death->peak_kib : seen_kib};
}

/* The most that was seen, by whoever looked: the kernel at one process, we at all of them. */
static struct outcome of_memory(const struct death *death, const char *id, char *text)
{
    const struct memory_watch *memory = &death->memory;
    bool is_slot = death->memory_limit.slot > 0 && memory->slot_size > death->memory_limit.slot;
    snprintf(text, DEATH_TEXT_SIZE,
             "task %s was stopped: %s had taken %.1f MiB of memory, and may take %.1f MiB (slot %d on %s)", id,
             is_slot ? "its slot" : "it", (double)(is_slot ? memory->slot_size : memory->size) / (double)MIB,
             (double)(is_slot ? death->memory_limit.slot : death->memory_limit.task) / (double)MIB, death->pid,
             death->host);
    return outcome_of(death, FINISHED_FAILED, CAUSE_MEMORY, "MemoryLimit", text);
}

static struct outcome of_stop(const struct death *death, const char *id, char *text)
{
    if (death->stop == STOP_KILLED) {
        snprintf(text, DEATH_TEXT_SIZE, "task %s was killed as asked (slot %d on %s)", id, death->pid, death->host);
        return outcome_of(death, FINISHED_KILLED, CAUSE_NONE, "Killed", text);
    }
    if (death->stop == STOP_MEMORY) {
        return of_memory(death, id, text);
    }
    snprintf(text, DEATH_TEXT_SIZE, "task %s was stopped at its timeout of %llu ms (slot %d on %s)", id,
             (unsigned long long)death->attempt->timeout_ms, death->pid, death->host);
    return outcome_of(death, FINISHED_FAILED, CAUSE_TIMEOUT, "Timeout", text);
}

const char *misdeed_text(enum misdeed misdeed)
{
    switch (misdeed) {
    case MISDEED_HUNG_UP:
        return "closed its connection with the worker (a function may close only descriptors that it opened)";
    case MISDEED_SCRIBBLED:
        return "wrote over memory that it shares with the worker";
    default:
        return "";
    }
}

static struct outcome of_misdeed(const struct death *death, const char *id, char *text)
{
    snprintf(text, DEATH_TEXT_SIZE, "task %s: slot %d on %s %s; it was killed", id, death->pid, death->host,
             misdeed_text(death->misdeed));
    return outcome_of(death, FINISHED_FAILED, CAUSE_CRASHED, death->misdeed == MISDEED_HUNG_UP ? "HungUp" : "Scribbled",
                      text);
}

/* " in divide+0x12 (numbers.c:42)", as part of one line; "" if it is not known. */
static const char *place_of(const struct death *death, char place[PLACE_TEXT_SIZE])
{
    struct buf text = {0};
    backtrace_place(death->backtrace, &text);
    size_t n = text.n < PLACE_TEXT_SIZE - 8 ? text.n : PLACE_TEXT_SIZE - 8;
    for (size_t i = 0; i < n; i++) {
        text.p[i] = text.p[i] >= 0x20 && text.p[i] < 0x7f ? text.p[i] : '?';
    }
    snprintf(place, PLACE_TEXT_SIZE, "%s%.*s", n > 0 ? " in " : "", (int)n, n > 0 ? (const char *)text.p : "");
    buf_fini(&text);
    return place;
}

/* Its own limit is its own fault, as when we had seen it first (a failed attempt); else it may have been anybody's, and
 * the signal says so (a crash). */
static struct outcome of_oom(const struct death *death, const char *id, char *text)
{
    bool is_own = death->oom == OOM_OWN_LIMIT;
    uint64_t limit = death->memory_limit.task > 0 ? death->memory_limit.task : death->memory_limit.slot;
    double peak = (double)death->group.peak / (double)MIB;
    if (is_own) {
        snprintf(text, DEATH_TEXT_SIZE,
                 "task %s was killed by the kernel at the memory limit of its slot's cgroup: it had taken %.1f MiB of "
                 "memory, and may take %.1f MiB (slot %d on %s)",
                 id, peak, (double)limit / (double)MIB, death->pid, death->host);
    } else {
        snprintf(text, DEATH_TEXT_SIZE,
                 "task %s was killed by the kernel, which had no memory left: its slot had taken %.1f MiB (slot %d on "
                 "%s)",
                 id, peak, death->pid, death->host);
    }
    struct outcome outcome =
        outcome_of(death, FINISHED_FAILED, CAUSE_MEMORY, is_own ? "MemoryLimit" : "OutOfMemory", text);
    uint64_t peak_kib = death->group.peak / KIB;
    outcome.peak = peak_kib > outcome.peak ? peak_kib : outcome.peak;
    outcome.signal = is_own ? 0 : SIGKILL;
    return outcome;
}

static struct outcome of_crash(const struct death *death, const char *id, char *text)
{
    struct outcome outcome;
    if (death->status != DEATH_UNKNOWN && WIFSIGNALED(death->status)) {
        int number = WTERMSIG(death->status);
        char place[PLACE_TEXT_SIZE];
        snprintf(text, DEATH_TEXT_SIZE, "task %s: slot %d on %s died of signal %d (%s)%s%s", id, death->pid,
                 death->host, number, strsignal(number), place_of(death, place),
                 death->oom == OOM_PROBABLY ? ": killed, probably by the kernel's memory killer" : "");
        outcome = outcome_of(death, FINISHED_FAILED, CAUSE_CRASHED, "Signal", text);
        outcome.signal = (uint64_t)number;
    } else if (death->status != DEATH_UNKNOWN && WIFEXITED(death->status)) {
        int status = WEXITSTATUS(death->status);
        snprintf(text, DEATH_TEXT_SIZE, "task %s: slot %d on %s exited with status %d", id, death->pid, death->host,
                 status);
        outcome = outcome_of(death, FINISHED_FAILED, CAUSE_CRASHED, "Exit", text);
        outcome.exit_status = (uint64_t)status;
    } else {
        snprintf(text, DEATH_TEXT_SIZE, "task %s: slot %d on %s died; of what was not seen", id, death->pid,
                 death->host);
        outcome = outcome_of(death, FINISHED_FAILED, CAUSE_CRASHED, "Died", text);
    }
    return outcome;
}

static struct outcome of_death(const struct death *death, const char *id, char *text)
{
    if (death->stop != STOP_NONE) {
        return of_stop(death, id, text);
    }
    /* One that died of its own accord before we killed it says more by how it died. */
    bool was_killed =
        death->status == DEATH_UNKNOWN || (WIFSIGNALED(death->status) && WTERMSIG(death->status) == SIGKILL);
    if (death->oom == OOM_OWN_LIMIT || death->oom == OOM_HOST) {
        return of_oom(death, id, text); /* one that dies slowly may have seemed to hang up */
    }
    return death->misdeed != MISDEED_NONE && was_killed ? of_misdeed(death, id, text) : of_crash(death, id, text);
}

struct outcome postmortem(const struct death *death, char text[DEATH_TEXT_SIZE])
{
    static const char survived[] = "; something that it had started could not be killed, and may still run";
    char id[ID_TEXT_SIZE];
    id_text(death->attempt->token.task, id);
    struct outcome outcome = of_death(death, id, text);
    size_t size = strlen(text);
    if (death->is_survived) {
        size = size < DEATH_TEXT_SIZE - sizeof(survived) ? size : DEATH_TEXT_SIZE - sizeof(survived);
        memcpy(text + size, survived, sizeof(survived));
        outcome.message = bytes_text(text);
    }
    return outcome;
}

bool death_dumped_core(const struct death *death)
{
    return death->status != DEATH_UNKNOWN && WIFSIGNALED(death->status) && WCOREDUMP(death->status);
}

void stillborn(int32_t status, char text[DEATH_TEXT_SIZE])
{
    static const char what[] = "slots die before they take tasks, in a module or its initialisers: ";
    if (status == DEATH_UNKNOWN) {
        snprintf(text, DEATH_TEXT_SIZE, "%sof what was not seen", what);
    } else if (WIFSIGNALED(status)) {
        snprintf(text, DEATH_TEXT_SIZE, "%ssignal %d (%s)", what, WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        snprintf(text, DEATH_TEXT_SIZE, "%sexit status %d", what, WEXITSTATUS(status));
    }
}
