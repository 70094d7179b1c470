/*
 * options.c owns the command line of quern-worker: reading it, its help, its defaults.
 * It must not know how a worker runs.
 * Start reading at options_read.
 */
#include "worker/options.h"

#include "common/bytes.h"
#include "worker/complaint.h"
#include "worker/cpus.h"
#include "worker/zygotewire.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: quern-worker [OPTION]...\n"
    "Runs tasks that a quern broker hands out, each in a process of its own.\n"
    "\n"
    "  --module FILE.so    serve the functions of this module; may be repeated\n"
    "  --allow-commands    run commands too (quern run): any program, as this user\n"
    "  --slots N           tasks at a time (default: usable CPUs)\n"
    "  --max-tasks-per-slot N      replace a slot's process after N tasks\n"
    "  --max-memory-per-slot SIZE  replace it after the task with which it has grown by more than SIZE bytes (K, M, "
    "G)\n"
    "  --memory-per-task SIZE      stop an attempt that has taken more than SIZE bytes, with all that it started, "
    "unless\n"
    "                      its task has a limit of its own (cause memory)\n"
    "  --memory-per-slot SIZE      stop it also when its slot has grown by more than SIZE bytes since its start, "
    "whatever\n"
    "                      the task may take\n"
    "  --rlimit-as SIZE, --rlimit-data SIZE   the same limits of the kernel for every process of a slot "
    "(setrlimit(2))\n"
    "  --free-memory-floor SIZE|N%  start nothing new while less memory than this is free on the host, or left to its "
    "cgroup\n"
    "                      (default: 5% of it, at most 1G; 0: no floor)\n"
    "  --proc DIRECTORY    read meminfo and vmstat there, for tests (default: /proc)\n"
    "  --cgroup WORD       auto (default): give each slot a cgroup (v2) of its own where that can be done; off: never\n"
    "  --pin               bind each slot to one of the usable CPUs, in turn\n"
    "  --start METHOD      fork-server (default): modules are loaded once, and slots forked; spawn: every slot is a "
    "fresh\n"
    "                      start that loads them itself, for modules that must not be forked\n"
    "  --queue NAME        serve this queue only; may be repeated (default: every queue)\n"
    "  --url URL           broker; repeat it to name several (default: QUERN_URL, else the socket of this user's "
    "broker)\n"
    "  --name NAME         name of this worker, held by one process at a time (default: HOST-N)\n"
    "  --parent-fd N       end at once, with everything it started, when the other end of this pipe or socket is "
    "closed\n"
    "  --parent-pidfd N    end at once, too, when the process of this pidfd has ended\n"
    "  --ready-fd N        write the ready line there, not to stdout; before it, errors\n"
    "  --name-directory D  keep the lock of its name there (default: XDG_RUNTIME_DIR/quern, else /tmp/quern-UID)\n"
    "  --log-level LEVEL   error, warn, info or debug (default: info)\n"
    "  --help, --version\n"
    "\n"
    "Prints \"ready NAME slots=N\" once a broker has welcomed it. SIGTERM: finish what runs, return the rest, end; a\n"
    "second one: end at once. Exit status: 0 ended as told; 1 could not start; 2 wrong usage.\n"
    "\n"
    "Examples:\n"
    "  quern-worker --module ./examples.so\n"
    "  quern-worker --allow-commands --slots 4 --queue nightly\n";

__attribute__((format(printf, 1, 2))) static enum options_result usage(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    complain("%s\nTry quern-worker --help.", text);
    return OPTIONS_USAGE;
}

static bool slots_read(const char *word, unsigned *count_out)
{
    char *end;
    unsigned long count = strtoul(word, &end, 10);
    if (*word < '0' || *word > '9' || *end != '\0' || count < 1 || count > SLOT_COUNT_MAX) {
        return false;
    }
    *count_out = (unsigned)count;
    return true;
}

static enum options_result memory_option_take(struct options *options, int option)
{
    const struct {
        int option;
        const char *name;
        uint64_t *to;
    } list[] = {{'M', "max-memory-per-slot", &options->slot_memory_size},
                {'x', "memory-per-task", &options->task_memory_max},
                {'X', "memory-per-slot", &options->slot_memory_max},
                {'A', "rlimit-as", &options->address_space_max},
                {'D', "rlimit-data", &options->data_max}};
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        if (list[i].option == option) {
            *list[i].to = 0;
            return size_read(optarg, list[i].to)
                       ? OPTIONS_RUN
                       : usage("--%s: bytes, such as 500M or 2G, not \"%s\"", list[i].name, optarg);
        }
    }
    return OPTIONS_USAGE;
}

static enum options_result slot_option_take(struct options *options, int option)
{
    switch (option) {
    case 's':
        return slots_read(optarg, &options->slot_count)
                   ? OPTIONS_RUN
                   : usage("--slots: a number from 1 to %u, not \"%s\"", SLOT_COUNT_MAX, optarg);
    default:
        /* A number of tasks is no size, but its bounds are the same. */
        return strpbrk(optarg, "KMG") == NULL && size_read(optarg, &options->slot_tasks_max)
                   ? OPTIONS_RUN
                   : usage("--max-tasks-per-slot: a number from 1, not \"%s\"", optarg);
    }
}

static bool name_is_good(const char *name, size_t size_max)
{
    struct bytes text = bytes_text(name);
    return text.n > 0 && text.n <= size_max && bytes_is_utf8(text);
}

static bool add(const char **list, size_t *count, size_t max, const char *word)
{
    if (*count == max) {
        return false;
    }
    list[(*count)++] = word;
    return true;
}

static enum options_result option_take(struct options *options, int option)
{
    switch (option) {
    case 'u':
        return add(options->urls, &options->url_count, URL_COUNT_MAX, optarg)
                   ? OPTIONS_RUN
                   : usage("at most %u --url", URL_COUNT_MAX);
    case 's':
    case 't':
        return slot_option_take(options, option);
    case 'M':
    case 'x':
    case 'X':
    case 'A':
    case 'D':
        return memory_option_take(options, option);
    case 'F':
        return floor_read(optarg, &options->floor)
                   ? OPTIONS_RUN
                   : usage("--free-memory-floor: bytes, such as 500M, a percentage, such as 5%%, or 0, not \"%s\"",
                           optarg);
    case 'I':
        options->proc = optarg;
        return OPTIONS_RUN;
    case 'g':
        options->no_cgroups = strcmp(optarg, "off") == 0;
        return options->no_cgroups || strcmp(optarg, "auto") == 0 ? OPTIONS_RUN
                                                                  : usage("--cgroup: auto or off, not \"%s\"", optarg);
    case 'C':
        options->pins = true;
        return OPTIONS_RUN;
    case 'f':
        options->spawns = strcmp(optarg, ZYGOTE_SPAWN) == 0;
        return options->spawns || strcmp(optarg, ZYGOTE_FORK_SERVER) == 0
                   ? OPTIONS_RUN
                   : usage("--start: " ZYGOTE_FORK_SERVER " or " ZYGOTE_SPAWN ", not \"%s\"", optarg);
    case 'm':
        return add(options->modules, &options->module_count, OPTIONS_MODULE_COUNT_MAX, optarg)
                   ? OPTIONS_RUN
                   : usage("at most %u --module", OPTIONS_MODULE_COUNT_MAX);
    case 'c':
        options->allow_commands = true;
        return OPTIONS_RUN;
    case 'q':
        if (!name_is_good(optarg, QUEUE_NAME_SIZE_MAX)) {
            return usage("--queue: 1 to %u bytes of UTF-8", QUEUE_NAME_SIZE_MAX);
        }
        return add(options->queues, &options->queue_count, WORKER_QUEUE_COUNT_MAX, optarg)
                   ? OPTIONS_RUN
                   : usage("at most %u --queue", WORKER_QUEUE_COUNT_MAX);
    case 'n':
        options->name = optarg;
        return name_is_good(optarg, WORKER_NAME_SIZE_MAX)
                   ? OPTIONS_RUN
                   : usage("--name: 1 to %u bytes of UTF-8", WORKER_NAME_SIZE_MAX);
    case 'p':
        return parent_fd_read(optarg, &options->parent.fd)
                   ? OPTIONS_RUN
                   : usage("--parent-fd: the number of an open pipe or socket, not \"%s\"", optarg);
    case 'P':
        return parent_pidfd_read(optarg, &options->parent.pidfd)
                   ? OPTIONS_RUN
                   : usage("--parent-pidfd: the number of an open pidfd, not \"%s\"", optarg);
    case 'd':
        options->name_directory = optarg;
        return OPTIONS_RUN;
    case 'r':
        return parent_ready_fd_read(optarg, &options->parent.ready_fd)
                   ? OPTIONS_RUN
                   : usage("--ready-fd: the number of an open descriptor, not \"%s\"", optarg);
    case 'l':
        return log_level_parse(optarg, &options->level)
                   ? OPTIONS_RUN
                   : usage("--log-level: error, warn, info or debug, not \"%s\"", optarg);
    case 'h':
        fputs(help, stdout);
        return OPTIONS_DONE;
    case 'v':
        puts("quern-worker " QUERN_VERSION_TEXT);
        return OPTIONS_DONE;
    default:
        fputs("Try quern-worker --help.\n", stderr);
        return OPTIONS_USAGE;
    }
}

static const struct option option_list[] = {
    {"url", required_argument, NULL, 'u'},
    {"slots", required_argument, NULL, 's'},
    {"max-tasks-per-slot", required_argument, NULL, 't'},
    {"max-memory-per-slot", required_argument, NULL, 'M'},
    {"memory-per-task", required_argument, NULL, 'x'},
    {"memory-per-slot", required_argument, NULL, 'X'},
    {"rlimit-as", required_argument, NULL, 'A'},
    {"rlimit-data", required_argument, NULL, 'D'},
    {"free-memory-floor", required_argument, NULL, 'F'},
    {"proc", required_argument, NULL, 'I'},
    {"cgroup", required_argument, NULL, 'g'},
    {"pin", no_argument, NULL, 'C'},
    {"module", required_argument, NULL, 'm'},
    {"allow-commands", no_argument, NULL, 'c'},
    {"queue", required_argument, NULL, 'q'},
    {"start", required_argument, NULL, 'f'},
    {"name", required_argument, NULL, 'n'},
    {"parent-fd", required_argument, NULL, 'p'},
    {"ready-fd", required_argument, NULL, 'r'},
    {"parent-pidfd", required_argument, NULL, 'P'},
    {"name-directory", required_argument, NULL, 'd'},
    {"log-level", required_argument, NULL, 'l'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

enum options_result options_read(struct options *options, int argc, char **argv, bool has_program)
{
    *options = (struct options){.program = argv[0],
                                .slot_count = cpus_usable(),
                                .level = LOG_INFO,
                                .parent = PARENT_INIT,
                                .floor = {.percent = FLOOR_PERCENT, .is_default = true},
                                .proc = "/proc"};
    optind = 1;
    for (int option = getopt_long(argc, argv, "", option_list, NULL); option != -1;
         option = getopt_long(argc, argv, "", option_list, NULL)) {
        enum options_result result = option_take(options, option);
        if (result != OPTIONS_RUN) {
            return result;
        }
    }
    if (optind < argc) {
        return usage("unexpected argument \"%s\"", argv[optind]);
    }
    if (options->module_count == 0 && !options->allow_commands && !has_program) {
        return usage("nothing to serve: name a module (--module FILE.so) or allow commands (--allow-commands)");
    }
    const char *url = getenv("QUERN_URL");
    if (options->url_count == 0 && url != NULL && *url != '\0') {
        (void)add(options->urls, &options->url_count, URL_COUNT_MAX, url);
    }
    return OPTIONS_RUN;
}
