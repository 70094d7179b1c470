/*
 * fuzz_words.c owns what must hold of any words on a command line: of quern-worker's, and of the values that `quern`
 * takes: numbers, seconds, sizes, ids, causes. What is taken is within its bounds.
 * It must not know what options are for.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "client/cli/arguments.h"
#include "client/cli/options.h"
#include "common/check.h"
#include "common/ids.h"
#include "fuzz/input.h"
#include "worker/complaint.h"
#include "worker/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORD_COUNT_MAX 16

/* What would be said to people; the tests are not to be filled with it. */
void complain(const char *format, ...)
{
    CHECK(format != NULL);
}

/* Sanitizers write past it. */
static void say_nothing(void)
{
    static FILE *nothing;
    if (nothing == NULL) {
        nothing = fopen("/dev/null", "we");
        CHECK(nothing != NULL);
        stderr = nothing;
    }
}

static void value_check(const char *word)
{
    uint64_t u = 0;
    int64_t i = 0;
    enum quern_cause cause;
    enum quern_state state;
    CHECK(!size_read(word, &u) || (u > 0 && u <= INT64_MAX));
    CHECK(!seconds_parse(word, &u) || u <= DURATION_MS_MAX);
    CHECK(!number_parse(word, -5, 1000, &i) || (i >= -5 && i <= 1000));
    (void)cause_parse(word, strlen(word), &cause);
    (void)state_parse(word, &state);
    if (id_parse(word, &u)) {
        char text[ID_TEXT_SIZE];
        CHECK(strcmp(id_text(u, text), word) == 0); /* there is one way to write it */
    }
}

/* They would print help, or change where errors go. */
static bool is_harmless(const char *word)
{
    return strncmp(word, "--h", 3) != 0 && strncmp(word, "--v", 3) != 0 && strncmp(word, "--r", 3) != 0;
}

static void worker_check(int argc, char **argv)
{
    struct options options;
    if (options_read(&options, argc, argv, true) == OPTIONS_RUN) {
        CHECK(options.slot_count >= 1 && options.slot_count <= SLOT_COUNT_MAX);
        CHECK(options.url_count <= URL_COUNT_MAX && options.queue_count <= WORKER_QUEUE_COUNT_MAX);
        CHECK(options.module_count <= OPTIONS_MODULE_COUNT_MAX && options.task_memory_max <= INT64_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[WORD_COUNT_MAX + 1] = {NULL};
    char *text = malloc(size + 1);
    int argc = 1;
    bool may_run = true;
    opterr = 0;
    CHECK(text != NULL);
    say_nothing();
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    argv[0] = (char *)(uintptr_t) "quern-worker";
    for (size_t at = 0; at < size && argc < WORD_COUNT_MAX; at += strlen(text + at) + 1) {
        value_check(text + at);
        may_run = may_run && is_harmless(text + at);
        argv[argc++] = text + at;
    }
    if (may_run) {
        worker_check(argc, argv);
    }
    free(text);
    return 0;
}
