/*
 * meter.c owns looking at the memory of a slot.
 * It must not know what follows from it.
 * Start reading at meter_look.
 */
#include "worker/meter.h"

#include <stdio.h>
#include <unistd.h>

uint64_t meter_read(pid_t pid)
{
    char path[64];
    unsigned long long resident = 0;
    unsigned long long shared = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%*u %llu %llu", &resident, &shared) != 2) {
        resident = shared;
    }
    fclose(file);
    return resident > shared ? (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void meter_begin(struct meter *meter, pid_t pid, int64_t now_ms)
{
    *meter = (struct meter){.base_size = meter_read(pid), .looked_ms = now_ms};
    meter->size = meter->base_size;
}

int64_t meter_look(struct meter *meter, pid_t pid, uint64_t ran, bool is_idle, int64_t now_ms)
{
    if (ran == meter->ran) {
        return INT64_MAX;
    }
    int64_t due_ms = meter->looked_ms + (is_idle ? METER_IDLE_MS : METER_BUSY_MS);
    if (now_ms < due_ms) {
        return due_ms;
    }
    meter->size = meter_read(pid);
    meter->ran = ran;
    meter->looked_ms = now_ms;
    return INT64_MAX;
}

uint64_t meter_growth(const struct meter *meter)
{
    return meter->size > meter->base_size ? meter->size - meter->base_size : 0;
}
