/*
 * map COUNT [volatile] [repeat N] [window N]: squares of 0..COUNT-1 by quern_map over the broker of QUERN_URL, each
 * result checked; prints one JSON line for each time (cpu_us: of this process, per item). For tests/bench/run.
 */
#include "quern/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct numbers {
    uint64_t next;
    uint64_t count;
};

static enum quern_err number(void *context, struct quern_writer *args)
{
    struct numbers *numbers = context;
    if (numbers->next == numbers->count) {
        return QUERN_END;
    }
    quern_write_array(args, 1);
    quern_write_u64(args, numbers->next++);
    return QUERN_OK;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(struct rusage *usage)
{
    getrusage(RUSAGE_SELF, usage);
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

static void give_up(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, quern_last_error());
    exit(1);
}

static void check(const struct quern_map_item *item)
{
    struct quern_reader reader;
    uint64_t value = 0;
    quern_reader_init(&reader, item->outcome->result, item->outcome->result_size);
    if (item->outcome->state != QUERN_STATE_DONE || quern_read_u64(&reader, &value) != QUERN_OK ||
        value != item->index * item->index) {
        fprintf(stderr, "the square of %" PRIu64 " came back wrong: %s\n", item->index, item->outcome->message);
        exit(1);
    }
}

static void squares(struct quern_client *client, uint64_t count, size_t window)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct numbers numbers = {.count = count};
    struct quern_map *map;
    struct quern_map_item item;
    struct rusage usage;
    enum quern_err err;
    double begun = now_s();
    double begun_cpu = cpu_s(&usage);
    options.call.function = "square";
    options.window_count = window;
    if (quern_map_open(client, &options, number, &numbers, &map) != QUERN_OK) {
        give_up("quern_map_open");
    }
    uint64_t given = 0;
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        check(&item);
        quern_outcome_release(&item.outcome);
        given++;
    }
    quern_map_close(&map);
    if (err != QUERN_END || given != count) {
        give_up("quern_map_next");
    }
    double seconds = now_s() - begun;
    printf("{\"items\":%" PRIu64 ",\"seconds\":%.6f,\"items_per_second\":%.0f,\"cpu_us\":%.3f,\"rss_max_kib\":%ld}\n",
           count, seconds, (double)count / seconds, (cpu_s(&usage) - begun_cpu) * 1e6 / (double)count, usage.ru_maxrss);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client;
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    unsigned long repeat = 1;
    size_t window = 4000;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "volatile") == 0) {
            options.is_volatile = true;
        } else if (strcmp(argv[i], "repeat") == 0 && i + 1 < argc) {
            repeat = strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "window") == 0 && i + 1 < argc) {
            window = strtoul(argv[++i], NULL, 10);
        } else {
            count = 0;
        }
    }
    if (count == 0) {
        fprintf(stderr, "usage: map COUNT [volatile] [repeat N] [window N]\n");
        return 2;
    }
    if (quern_client_open(&options, &client) != QUERN_OK) {
        give_up("quern_client_open");
    }
    for (unsigned long i = 0; i < repeat; i++) {
        squares(client, count, window);
    }
    (void)quern_client_close(&client, QUERN_CLOSE_SESSION);
    return 0;
}
