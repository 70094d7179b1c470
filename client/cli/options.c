/*
 * Owns the task options. Must not know sessions or input. Start at task_options_table.
 */
#include "client/cli/options.h"

#include "client/cli/when.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/limits.h"
#include <string.h>

void task_options_init(struct task_options *task)
{
    *task = (struct task_options){.attempts = 1};
}

bool cause_parse(const char *text, size_t size, enum quern_cause *cause_out)
{
    for (int cause = QUERN_CAUSE_ERROR; cause <= QUERN_CAUSE_UNENCODABLE; cause++) {
        const char *word = quern_cause_word((enum quern_cause)cause);
        if (strlen(word) == size && memcmp(word, text, size) == 0) {
            *cause_out = (enum quern_cause)cause;
            return true;
        }
    }
    return false;
}

bool state_parse(const char *text, enum quern_state *state_out)
{
    for (int state = QUERN_STATE_DELAYED; state <= QUERN_STATE_CANCELLED; state++) {
        if (strcmp(quern_state_word((enum quern_state)state), text) == 0) {
            *state_out = (enum quern_state)state;
            return true;
        }
    }
    return false;
}

/* CAUSE,CAUSE,... */
static bool retry_on_set(void *to, const char *value)
{
    uint32_t *bits = to;
    *bits = 0;
    for (const char *p = value;; p++) {
        size_t size = strcspn(p, ",");
        enum quern_cause cause;
        if (!cause_parse(p, size, &cause)) {
            say("--retry-on '%s': '%.*s' is no cause; causes are error, timeout, memory, crashed, lost, expired, "
                "quarantined, unencodable, with commas between",
                value, (int)size, p);
            return false;
        }
        *bits |= 1u << cause;
        p += size;
        if (*p == '\0') {
            return true;
        }
    }
}

static bool memory_set(void *to, const char *value)
{
    bool is_ok = size_read(value, to);
    if (!is_ok) {
        say("--memory '%s': not a number of bytes such as 500M or 2G (K, M, G: KiB, MiB, GiB)", value);
    }
    return is_ok;
}

/* FACTOR[:CAP] */
static bool memory_growth_set(void *to, const char *value)
{
    struct task_options *task = to;
    char first[32];
    uint64_t thousandths;
    const char *colon = strchr(value, ':');
    size_t size = colon != NULL ? (size_t)(colon - value) : strlen(value);
    bool is_ok = size < sizeof first;
    if (is_ok) {
        memcpy(first, value, size);
        first[size] = '\0';
        is_ok = seconds_parse(first, &thousandths) && thousandths >= 1000 && thousandths <= MEMORY_GROWTH_MAX * 10 &&
                thousandths % 10 == 0;
    }
    task->memory_cap_bytes = 0;
    if (!is_ok || (colon != NULL && !size_read(colon + 1, &task->memory_cap_bytes))) {
        say("--memory-growth '%s': not FACTOR or FACTOR:CAP, such as 2 or 1.5:8G (1 to %u, in hundredths)", value,
            MEMORY_GROWTH_MAX / 100);
        return false;
    }
    task->memory_growth = (unsigned)(thousandths / 10);
    return true;
}

/* S[:CAP] */
static bool backoff_set(void *to, const char *value)
{
    struct task_options *task = to;
    char first[32];
    const char *colon = strchr(value, ':');
    size_t size = colon != NULL ? (size_t)(colon - value) : strlen(value);
    bool is_ok = size < sizeof first;
    if (is_ok) {
        memcpy(first, value, size);
        first[size] = '\0';
        is_ok = seconds_parse(first, &task->backoff_ms);
    }
    task->backoff_cap_ms = 0;
    if (is_ok && colon != NULL) {
        is_ok = seconds_parse(colon + 1, &task->backoff_cap_ms) && task->backoff_cap_ms >= task->backoff_ms;
    }
    if (!is_ok) {
        say("--backoff '%s': not SECONDS or SECONDS:CAP, such as 0.5 or 1:60 (the cap is not below the first wait)",
            value);
    }
    return is_ok;
}

static bool at_set(void *to, const char *value)
{
    struct task_options *task = to;
    int64_t at_ms;
    bool is_ok = when_parse(value, clock_wall_ms(), &at_ms);
    if (is_ok) {
        task->at_ms = (uint64_t)at_ms;
        task->at_text = value;
    } else {
        say("--at '%s': not a time such as 2026-12-01T03:00, 2026-12-01T03:00:30 or 03:00 (the next one), of this "
            "host's time zone, or with Z or an offset such as +01:00 behind it",
            value);
    }
    return is_ok;
}

void task_options_table(struct task_options *task, struct option *options)
{
    const struct option table[TASK_OPTION_COUNT] = {
        {.name = "queue", .kind = OPTION_TEXT, .to = &task->queue},
        {.name = "priority", .kind = OPTION_NUMBER, .to = &task->priority, .min = PRIORITY_MIN, .max = PRIORITY_MAX},
        {.name = "delay", .kind = OPTION_SECONDS, .to = &task->delay_ms},
        {.name = "timeout", .kind = OPTION_SECONDS, .to = &task->timeout_ms},
        {.name = "attempts", .kind = OPTION_NUMBER, .to = &task->attempts, .min = 1, .max = ATTEMPTS_MAX},
        {.name = "retry-on", .kind = OPTION_CALL, .to = &task->retry_on, .call = retry_on_set},
        {.name = "backoff", .kind = OPTION_CALL, .to = task, .call = backoff_set},
        {.name = "at-most-once", .kind = OPTION_FLAG, .to = &task->at_most_once},
        {.name = "memory", .kind = OPTION_CALL, .to = &task->memory_bytes, .call = memory_set},
        {.name = "memory-growth", .kind = OPTION_CALL, .to = task, .call = memory_growth_set},
        {.name = "alone", .kind = OPTION_FLAG, .to = &task->is_alone},
        {.name = "alone-on-retry", .kind = OPTION_FLAG, .to = &task->is_alone_retried},
        {.name = "at", .kind = OPTION_CALL, .to = task, .call = at_set},
        {.name = "expires", .kind = OPTION_SECONDS, .to = &task->expires_ms},
        {.name = "known", .kind = OPTION_FLAG, .to = &task->known},
        {.name = "crashes", .kind = OPTION_NUMBER, .to = &task->crashes, .min = 1, .max = ATTEMPTS_MAX},
        {.name = "losses", .kind = OPTION_NUMBER, .to = &task->losses, .min = 1, .max = ATTEMPTS_MAX},
    };
    memcpy(options, table, sizeof table);
}

static int memory_options_check(const struct task_options *task, const struct arguments *arguments)
{
    if (task->memory_growth != 0 && task->memory_bytes == 0) {
        return usage_error(arguments, "--memory-growth without --memory: there is no limit that could grow; add "
                                      "--memory SIZE");
    }
    if (task->memory_growth != 0 && task->attempts == 1) {
        return usage_error(arguments,
                           "--memory-growth without --attempts: one attempt is all there is; add --attempts N");
    }
    if (task->memory_cap_bytes != 0 && task->memory_cap_bytes < task->memory_bytes) {
        return usage_error(arguments, "--memory-growth: its cap is below --memory");
    }
    if (task->is_alone_retried && task->attempts == 1) {
        return usage_error(arguments,
                           "--alone-on-retry without --attempts: one attempt is all there is; add --attempts N");
    }
    if (task->is_alone && task->is_alone_retried) {
        return usage_error(arguments, "--alone and --alone-on-retry: the first means the other; take one of them away");
    }
    return ARGUMENTS_GO_ON;
}

int task_options_check(const struct task_options *task, const struct arguments *arguments)
{
    if (task->at_most_once && (task->attempts > 1 || task->retry_on != 0)) {
        return usage_error(arguments, "--at-most-once and --attempts or --retry-on: such a task is never tried again; "
                                      "take one of them away");
    }
    if (task->at_most_once && (task->crashes != 0 || task->losses != 0)) {
        return usage_error(arguments,
                           "--at-most-once and --crashes or --losses: such a task is never tried again; take "
                           "one of them away");
    }
    if (task->retry_on != 0 && task->attempts == 1) {
        return usage_error(arguments, "--retry-on without --attempts: one attempt is all there is; add --attempts N");
    }
    if (task->backoff_ms != 0 && task->attempts == 1) {
        return usage_error(arguments, "--backoff without --attempts: one attempt is all there is; add --attempts N");
    }
    if (task->at_ms != 0 && task->delay_ms != 0) {
        return usage_error(arguments, "--at and --delay both say when it may start; take one of them away");
    }
    int64_t wait_ms = task->at_ms != 0 ? (int64_t)task->at_ms - clock_wall_ms() : (int64_t)task->delay_ms;
    if (task->expires_ms != 0 && (int64_t)task->expires_ms <= wait_ms) {
        return usage_error(arguments, "--expires counts from now, and %s is not before it: the task could never start",
                           task->at_ms != 0 ? "--at" : "--delay");
    }
    return memory_options_check(task, arguments);
}

void task_options_apply(const struct task_options *task, struct quern_call *call)
{
    call->queue = task->queue;
    call->priority = (int)task->priority;
    call->delay_ms = task->delay_ms;
    call->timeout_ms = task->timeout_ms;
    call->attempts = (unsigned)task->attempts;
    call->retry_on = task->retry_on;
    call->backoff_ms = task->backoff_ms;
    call->backoff_cap_ms = task->backoff_cap_ms;
    call->at_most_once = task->at_most_once;
    call->memory_bytes = task->memory_bytes;
    call->memory_growth = task->memory_growth;
    call->memory_cap_bytes = task->memory_cap_bytes;
    call->at_ms = task->at_ms;
    call->expires_ms = task->expires_ms;
    call->known = task->known;
    call->crashes_max = (unsigned)task->crashes;
    call->losses_max = (unsigned)task->losses;
    call->alone = task->is_alone           ? QUERN_ALONE_ALWAYS
                  : task->is_alone_retried ? QUERN_ALONE_RETRIED
                                           : QUERN_ALONE_NEVER;
}
