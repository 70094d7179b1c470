/*
 * Task options: what submit, map and run say about how a task is to be run. Must not know sessions or input.
 */
#ifndef QUERN_CLI_OPTIONS_H
#define QUERN_CLI_OPTIONS_H

#include "client/cli/arguments.h"

#define TASK_OPTION_COUNT 17u

struct task_options {
    const char *queue; /* NULL: "default" */
    int64_t priority;
    uint64_t delay_ms;
    uint64_t timeout_ms;
    int64_t attempts;
    uint32_t retry_on;
    uint64_t backoff_ms;
    uint64_t backoff_cap_ms;
    bool at_most_once;
    uint64_t memory_bytes;
    unsigned memory_growth; /* percent */
    uint64_t memory_cap_bytes;
    bool is_alone;
    bool is_alone_retried;
    uint64_t at_ms;      /* wall clock, ms since 1970; 0 none */
    const char *at_text; /* as it was written */
    uint64_t expires_ms;
    bool known;
    int64_t crashes; /* 0: the default */
    int64_t losses;
};

void task_options_init(struct task_options *task);
/* Writes the TASK_OPTION_COUNT entries that fill task in. */
void task_options_table(struct task_options *task, struct option *options);
/* What single options cannot see. ARGUMENTS_GO_ON, or STATUS_USAGE, said. */
int task_options_check(const struct task_options *task, const struct arguments *arguments);
void task_options_apply(const struct task_options *task, struct quern_call *call);

/* True if text is the word of a cause that a failure can have. */
bool cause_parse(const char *text, size_t size, enum quern_cause *cause_out);
bool state_parse(const char *text, enum quern_state *state_out);

#endif
