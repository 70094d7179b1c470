/*
 * Owns submitting, taking and checking the tasks of one client. With a rate, a task's time begins when it was due, not
 * when it could be submitted: a queue that stalls is not spared its victims.
 * Must not know other clients. Start at load_run.
 */
#include "client/cli/bench_load.h"
#include "client/cli/signals.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/codec.h"
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define SUBMITS_IN_A_ROW 256 /* between two looks at the outcomes */
#define WAIT_US 100000       /* before signals are looked at again */

const char *load_function(size_t payload_size)
{
    return payload_size == 0 ? "square" : "echo";
}

/* ---- one task ---- */

/* Numbers begin with 1. Two payloads differ in their first bytes only. */
static int load_submit(struct load *load, uint64_t number)
{
    struct quern_call call = QUERN_CALL_INIT;
    load->args.n = 0;
    put_array(&load->args, 1);
    if (load->payload_size == 0) {
        put_u64(&load->args, number);
    } else {
        memcpy(load->payload, &number, sizeof number);
        put_bin(&load->args, (struct bytes){load->payload, load->payload_size});
    }
    call.function = load_function(load->payload_size);
    call.args = load->args.p;
    call.args_size = load->args.n;
    enum quern_err err = quern_submit(load->client, &call, NULL, NULL);
    return err == QUERN_OK ? STATUS_OK : say_error(err, NULL);
}

/* Which task has this result? 0: none. */
static uint64_t load_number(const struct load *load, const struct quern_outcome *outcome)
{
    struct value value = {0};
    struct cursor cursor = cursor_of(bytes_of(outcome->result, outcome->result_size));
    uint64_t number = 0;
    if (outcome->result_size == 0 || !cursor_next(&cursor, &value)) {
        return 0;
    }
    if (load->payload_size == 0) {
        number = value.type == VALUE_UINT ? (uint64_t)llround(sqrt((double)value.u)) : 0;
        return number * number == value.u ? number : 0;
    }
    bool is_whole =
        value.type == VALUE_BIN && value.bytes.n == load->payload_size &&
        memcmp(value.bytes.p + sizeof number, load->payload + sizeof number, load->payload_size - sizeof number) == 0;
    if (is_whole) {
        memcpy(&number, value.bytes.p, sizeof number);
    }
    return number;
}

static int load_check(struct load *load, const struct quern_outcome *outcome, int64_t now_us)
{
    if (outcome->state != QUERN_STATE_DONE) {
        say("a task failed: %s: %s", quern_cause_word(outcome->cause), outcome->message);
        return STATUS_TASK_FAILED;
    }
    uint64_t number = load_number(load, outcome);
    if (number == 0 || number > (uint64_t)load->submitted) {
        say("a result of %s came back wrong; this is a defect of quern", load_function(load->payload_size));
        return STATUS_TASK_FAILED;
    }
    if (load->seen[number - 1]) {
        say("the result of task %" PRIu64 " came back twice; this is a defect of quern", number);
        return STATUS_TASK_FAILED;
    }
    load->seen[number - 1] = 1;
    load->done++;
    histogram_add(load->to, now_us - load->times_us[number - 1]);
    return STATUS_OK;
}

/* ---- a run ---- */

static int64_t due_us(const struct load *load)
{
    return load->begun_us + (int64_t)((double)load->submitted * load->interval_us);
}

static bool may_submit(const struct load *load, int64_t now_us)
{
    return load->submitted < load->tasks && (load->depth == 0 || load->submitted - load->done < load->depth) &&
           (load->interval_us <= 0 || due_us(load) <= now_us);
}

static int submit_due(struct load *load)
{
    int status = STATUS_OK;
    for (int i = 0; i < SUBMITS_IN_A_ROW && status == STATUS_OK; i++) {
        int64_t now_us = clock_mono_us();
        if (!may_submit(load, now_us)) {
            break;
        }
        load->times_us[load->submitted] = load->interval_us > 0 ? due_us(load) : now_us;
        load->submitted++;
        status = load_submit(load, (uint64_t)load->submitted);
    }
    return status;
}

/* Takes what is there; waits for the first if wait_ms is not 0. */
static int take_done(struct load *load, int wait_ms)
{
    int status = STATUS_OK;
    while (status == STATUS_OK && load->done < load->submitted) {
        struct quern_outcome *outcome = NULL;
        enum quern_err err = quern_next(load->client, wait_ms, &outcome);
        if (err == QUERN_TIMEOUT) {
            break;
        }
        if (err != QUERN_OK) {
            return say_error(err, NULL);
        }
        status = load_check(load, outcome, clock_mono_us());
        quern_outcome_release(&outcome);
        wait_ms = 0;
    }
    return status == STATUS_OK && signals_came() ? STATUS_INTERRUPTED : status;
}

/* Until the next submit is due, or an outcome is there: milliseconds would be too coarse. */
static void wait_due(const struct load *load)
{
    struct pollfd fd = {.fd = quern_client_fd(load->client), .events = POLLIN};
    bool is_idle = load->done == load->submitted;
    int64_t us = load->submitted < load->tasks ? due_us(load) - clock_mono_us() : WAIT_US;
    us = us < 0 ? 0 : us > WAIT_US ? WAIT_US : us;
    struct timespec time = {.tv_nsec = (long)us * 1000};
    (void)ppoll(&fd, is_idle ? 0 : 1, &time, NULL);
}

static int load_go(struct load *load)
{
    int status = STATUS_OK;
    while (status == STATUS_OK && load->done < load->tasks) {
        status = submit_due(load);
        bool has_more = may_submit(load, clock_mono_us());
        if (status == STATUS_OK && load->interval_us > 0 && !has_more) {
            wait_due(load);
        }
        int wait_ms = load->interval_us > 0 || has_more ? 0 : WAIT_US / 1000;
        status = status == STATUS_OK ? take_done(load, wait_ms) : status;
    }
    return status;
}

int load_run(struct load *load)
{
    load->times_us = xcalloc((size_t)load->tasks, sizeof load->times_us[0]);
    load->seen = xcalloc((size_t)load->tasks, 1);
    load->payload = xcalloc(load->payload_size + 1, 1);
    for (size_t i = 0; i < load->payload_size; i++) {
        load->payload[i] = (uint8_t)(i * 31);
    }
    load->submitted = load->done = 0;
    load->begun_us = clock_mono_us();
    int status = load_go(load);
    buf_fini(&load->args);
    free(load->payload);
    free(load->seen);
    free(load->times_us);
    return status;
}
