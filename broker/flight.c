/*
 * flight.c: owns the flight recorder's page. Must not know what is in a batch beyond its counts.
 */
#include "broker/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLIGHT_SIZE 4096u

enum quern_err flight_open(const char *path, uint32_t epoch, struct flight **flight_out, char **why_out)
{
    void *page = MAP_FAILED;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && ftruncate(fd, FLIGHT_SIZE) == 0) {
        page = mmap(NULL, FLIGHT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (page == MAP_FAILED) {
        if (asprintf(why_out, "the flight recorder %s cannot be made: %s", path, strerror(error)) < 0) {
            *why_out = NULL;
        }
        return QUERN_IO;
    }
    *flight_out = page;
    memset(page, 0, FLIGHT_SIZE);
    **flight_out = (struct flight){.magic = FLIGHT_MAGIC, .pid = (uint64_t)getpid(), .epoch = epoch};
    return QUERN_OK;
}

void flight_close(struct flight **flight)
{
    if (*flight != NULL) {
        munmap(*flight, FLIGHT_SIZE);
        *flight = NULL;
    }
}

void flight_note(struct flight *flight, const struct core *core, const struct batch *in_commit)
{
    if (flight == NULL) {
        return;
    }
    struct core_open_facts open = core_open_facts(core);
    flight->committed = open.committed;
    flight->open_rows = open.rows;
    flight->open_collapsed = open.collapsed;
    flight->commit_rows = in_commit != NULL ? in_commit->count : 0;
    flight->commit_collapsed = in_commit != NULL ? in_commit->collapsed : 0;
}
