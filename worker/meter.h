/*
 * meter.h: how much memory a slot has taken since it began, looked at from outside and not too often.
 *
 * What counts is its growth: what it had from the beginning it shares with the zygote and the other slots.
 */
#ifndef QUERN_WORKER_METER_H
#define QUERN_WORKER_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A slot that is busy with short tasks is looked at this often; one that is idle, once after each run that took this.
 */
#define METER_BUSY_MS 20
#define METER_IDLE_MS 1

struct meter {
    uint64_t base_size; /* when it began */
    uint64_t size;      /* when last looked at */
    uint64_t ran;       /* tasks by then */
    int64_t looked_ms;
};

/* Memory of a process of its own, without files and shared memory, in bytes; 0 if it cannot be told. */
uint64_t meter_read(pid_t pid);
void meter_begin(struct meter *meter, pid_t pid, int64_t now_ms);
/* Look if it is time: ran is how many tasks it has run. When to come again; INT64_MAX: after the next task. */
int64_t meter_look(struct meter *meter, pid_t pid, uint64_t ran, bool is_idle, int64_t now_ms);
uint64_t meter_growth(const struct meter *meter);

#endif
