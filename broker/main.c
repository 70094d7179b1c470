/*
 * main.c: owns the start and the end of the broker process: options, default paths, what every process should do before
 * it opens anything, and the exit status. Must not know: how a task is handled.
 * Start reading at main.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/config.h"
#include "broker/inspect.h"
#include "broker/loop.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/messages.h"
#include "common/parent.h"
#include "common/pool_directory.h"
#include "common/random.h"

#define EXIT_START_REFUSED 1
#define EXIT_USAGE 2
#define EXIT_NOT_WHOLE 3
/* A broker waits so long for one that is ending. */
#define HANDOVER_MS 3000
#define HANDOVER_MS_MAX 3600000
/* Between two looks at what another broker has. */
#define HANDOVER_STEP_MS 10
#define PATH_SIZE_MAX 4096u
/* Leaves as many numbers of series again. */
#define FIRST_NUMBER_MAX (SERIES_MAX / 2)

static const char usage_text[] =
    "Usage: quern-broker [--listen URL]... [--db PATH | --volatile] [--config FILE] [--log-level LEVEL]\n"
    "                    [--insecure-tcp]\n"
    "                    [--parent-fd N] [--parent-pidfd N] [--ready-fd N] [--remove-directory DIR]\n"
    "       quern-broker --check --db PATH [--json]\n"
    "\n"
    "Keeps tasks durably, hands them to workers (quern-worker), keeps their outcomes for clients (quern).\n"
    "Prints `ready URL` for each listener once work is accepted; SIGTERM ends it cleanly.\n"
    "\n"
    "  --listen URL       ipc:///PATH/broker.sock (the directory must be yours alone, mode 0700) or "
    "tcp://ADDRESS:PORT\n"
    "                     (with port * for a free one). May be given several times.\n"
    "                     Default: broker.sock in $XDG_RUNTIME_DIR/quern, else in /tmp/quern-UID\n"
    "  --db PATH          the store, made if it is missing.\n"
    "                     Default: quern.db in $XDG_STATE_HOME/quern, else in ~/.local/state/quern\n"
    "  --volatile         no store: nothing is written, everything is gone when the broker ends. It serves volatile\n"
    "                     sessions only (`quern map --volatile`, quern_client_options.is_volatile)\n"
    "  --db-wait MS       how long to wait for a store that another broker is leaving (default: not at all)\n"
    "  --config FILE      settings and limits; what is given on the command line wins. A sample with every name is\n"
    "                     installed as share/quern/quern-broker.conf\n"
    "  --log-level LEVEL  error, warn, info (default) or debug; log lines go to stderr\n"
    "  --insecure-tcp     allow tcp:// listeners. There is no encryption and no authentication yet: everybody who can\n"
    "                     reach the port, each local user included, can run tasks and read results\n"
    "  --parent-fd N      end cleanly when the other end of this pipe or socket is closed\n"
    "  --parent-pidfd N   end cleanly, too, when the process of this pidfd has ended\n"
    "  --ready-fd N       write the `ready` lines there, not to stdout; or why there are none\n"
    "  --remove-directory DIR\n"
    "                     at the end remove DIR, if it is the private directory of an embedded pool\n"
    "  --check            look through the store that --db names while no broker has it, and change nothing: pages,\n"
    "                     rows, and what rows say of each other. With --json one object for programs\n"
    "  --help, --version\n"
    "\n"
    "Examples:\n"
    "  quern-broker                                    for yourself, on this machine\n"
    "  quern-broker --db /var/lib/quern/quern.db --listen ipc:///run/quern/broker.sock\n"
    "  quern-broker --volatile --listen ipc:///tmp/scratch/broker.sock\n"
    "  quern-broker --check --db /var/lib/quern/quern.db\n"
    "  quern-broker --listen 'tcp://127.0.0.1:*' --insecure-tcp\n"
    "\n"
    "Exit status: 0 ended as told, 1 start refused, 2 wrong usage, 70 the store failed (start it again: it "
    "recovers).\nOf --check: 0 the store is whole, 1 it cannot be looked at, 3 it is not whole.\n";

/* ---- memory ---- */

/*
 * Read by jemalloc before main; where it is not linked (CMakeLists.txt), nobody reads it. What is free
 * stays for a second: a megabyte that was just freed costs no page faults when it is used again, and what a stall or
 * a burst needed goes back to the kernel when it is over, by a thread that sleeps while nothing is free. Two arenas:
 * the threads rarely meet in one, and what is free in more would be held more often.
 */
#define MALLOC_SETTINGS "narenas:2,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0"
extern __attribute__((visibility("default"))) const char *malloc_conf;
const char *malloc_conf = MALLOC_SETTINGS;

/* ---- what every process should do first ---- */

/* A file opened as 0, 1 or 2 would be written to by whoever prints: the database, say. */
static void fill_standard_fds(void)
{
    int fd = -1;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        (void)close(fd);
    }
}

static void raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void prepare_process(void)
{
    fill_standard_fds();
    (void)umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
    raise_fd_limit();
}

/* Blocked before any thread starts, so that every thread inherits it and only the loop sees signals. */
static int open_signal_fd(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- default paths ---- */

/* The directory and its missing parents, 0700. False with errno set. */
static bool make_directories(const char *path)
{
    char part[PATH_SIZE_MAX];
    size_t n = strlen(path);

    if (n >= sizeof(part)) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return false;
        }
    }
    return true;
}

static const char *home_directory(void)
{
    const char *home = getenv("HOME");
    const struct passwd *user = NULL;

    if (home != NULL && home[0] == '/') {
        return home;
    }
    user = getpwuid(getuid());
    return user != NULL ? user->pw_dir : NULL;
}

static enum quern_err use_default_db(struct config *config, char **why_out)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = home_directory();
    char directory[PATH_SIZE_MAX];
    int n = 0;

    if (state != NULL && state[0] == '/') {
        n = snprintf(directory, sizeof(directory), "%s/quern", state);
    } else if (home != NULL) {
        n = snprintf(directory, sizeof(directory), "%s/.local/state/quern", home);
    } else {
        *why_out = xstrdup("there is no home directory for the store; name one with --db PATH");
        return QUERN_INVALID;
    }
    if (n < 0 || (size_t)n >= sizeof(directory) || !make_directories(directory)) {
        CHECK(asprintf(why_out, "cannot make the store's directory %s: %s; name another with --db PATH", directory,
                       strerror(errno)) > 0);
        return QUERN_IO;
    }
    CHECK(asprintf(&config->db, "%s/quern.db", directory) > 0);
    return QUERN_OK;
}

static enum quern_err use_default_listener(struct config *config, char **why_out)
{
    char *directory = NULL;
    char *url = NULL;
    enum quern_err err = link_default_directory(&directory, why_out);

    if (err != QUERN_OK) {
        return err;
    }
    free(directory);
    url = link_default_url();
    err = config_add_listen(config, url);
    if (err != QUERN_OK) {
        CHECK(asprintf(why_out, "the default socket's path is too long: %s; name one with --listen", url) > 0);
    }
    free(url);
    return err;
}

/* ---- options ---- */

enum {
    OPTION_LISTEN = 256,
    OPTION_DB,
    OPTION_VOLATILE,
    OPTION_CONFIG,
    OPTION_LOG_LEVEL,
    OPTION_INSECURE_TCP,
    OPTION_PARENT_FD,
    OPTION_PARENT_PIDFD,
    OPTION_READY_FD,
    OPTION_REMOVE_DIRECTORY,
    OPTION_HANDOVER,
    OPTION_CHECK,
    OPTION_JSON,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option options[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"db", required_argument, NULL, OPTION_DB},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"volatile", no_argument, NULL, OPTION_VOLATILE},
    {"insecure-tcp", no_argument, NULL, OPTION_INSECURE_TCP},
    {"help", no_argument, NULL, OPTION_HELP},
    {"parent-fd", required_argument, NULL, OPTION_PARENT_FD},
    {"parent-pidfd", required_argument, NULL, OPTION_PARENT_PIDFD},
    {"ready-fd", required_argument, NULL, OPTION_READY_FD},
    {"remove-directory", required_argument, NULL, OPTION_REMOVE_DIRECTORY},
    {"handover", required_argument, NULL, OPTION_HANDOVER},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"json", no_argument, NULL, OPTION_JSON},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* The command line, as far as it says something. */
struct arguments {
    const char *listen[LISTEN_COUNT_MAX];
    size_t listen_count;
    const char *db;
    const char *config;
    const char *log_level;
    bool insecure_tcp;
    bool is_volatile;
    struct parent parent;
    const char *remove_directory;
    int handover_ms;
    bool is_check;
    bool is_json;
};

static int usage_error(const char *what, const char *value)
{
    char words[PATH_SIZE_MAX];

    (void)snprintf(words, sizeof(words), "%s%s", what, value);
    (void)fprintf(stderr, "quern-broker: %s\nTry: quern-broker --help\n", words);
    log_errors_say(words);
    return EXIT_USAGE;
}

static bool milliseconds_read(const char *word, int *ms_out)
{
    char *end = NULL;
    long ms = strtol(word, &end, 10);

    *ms_out = (int)ms;
    return *word >= '0' && *word <= '9' && *end == '\0' && ms <= HANDOVER_MS_MAX;
}

/* -1: go on. Else the exit status. */
static int read_arguments(int argc, char **argv, struct arguments *arguments)
{
    for (;;) {
        int option = getopt_long(argc, argv, "", options, NULL);

        switch (option) {
        case -1:
            return optind == argc ? -1 : usage_error("unexpected argument: ", argv[optind]);
        case OPTION_LISTEN:
            if (arguments->listen_count == LISTEN_COUNT_MAX) {
                return usage_error("too many listeners; the last one was ", optarg);
            }
            arguments->listen[arguments->listen_count++] = optarg;
            break;
        case OPTION_DB:
            arguments->db = optarg;
            break;
        case OPTION_VOLATILE:
            arguments->is_volatile = true;
            break;
        case OPTION_CONFIG:
            arguments->config = optarg;
            break;
        case OPTION_LOG_LEVEL:
            arguments->log_level = optarg;
            break;
        case OPTION_INSECURE_TCP:
            arguments->insecure_tcp = true;
            break;
        case OPTION_PARENT_FD:
            if (!parent_fd_read(optarg, &arguments->parent.fd)) {
                return usage_error("--parent-fd takes the number of an open pipe or socket, not ", optarg);
            }
            break;
        case OPTION_PARENT_PIDFD:
            if (!parent_pidfd_read(optarg, &arguments->parent.pidfd)) {
                return usage_error("--parent-pidfd takes the number of an open pidfd, not ", optarg);
            }
            break;
        case OPTION_READY_FD:
            if (!parent_ready_fd_read(optarg, &arguments->parent.ready_fd)) {
                return usage_error("--ready-fd takes the number of an open descriptor, not ", optarg);
            }
            break;
        case OPTION_REMOVE_DIRECTORY:
            arguments->remove_directory = optarg;
            break;
        case OPTION_HANDOVER:
            if (!milliseconds_read(optarg, &arguments->handover_ms)) {
                return usage_error("--handover takes milliseconds, at most 3600000, not ", optarg);
            }
            break;
        case OPTION_CHECK:
            arguments->is_check = true;
            break;
        case OPTION_JSON:
            arguments->is_json = true;
            break;
        case OPTION_HELP:
            return fputs(usage_text, stdout) >= 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        case OPTION_VERSION:
            (void)printf("quern-broker %s (protocol %u.%u)\n", QUERN_VERSION_TEXT, PROTOCOL_MAJOR, PROTOCOL_MINOR);
            return EXIT_SUCCESS;
        default:
            return usage_error("see above", ""); /* getopt has said what is wrong */
        }
    }
}

/* The command line wins over the file; listeners given there replace all of the file's. -1: go on. */
static int apply_arguments(const struct arguments *arguments, struct config *config)
{
    if (arguments->log_level != NULL && !log_level_parse(arguments->log_level, &config->log_level)) {
        return usage_error("--log-level takes error, warn, info or debug, not ", arguments->log_level);
    }
    if (arguments->db != NULL && arguments->is_volatile) {
        return usage_error("--db and --volatile exclude each other: with a store, or without one", "");
    }
    config->is_volatile = arguments->is_volatile;
    if (arguments->db != NULL) {
        if (arguments->db[0] == '\0') {
            return usage_error("--db takes a path", "");
        }
        free(config->db);
        config->db = xstrdup(arguments->db);
    }
    if (arguments->listen_count > 0) {
        while (config->listen_count > 0) {
            free(config->listen[--config->listen_count]);
        }
    }
    for (size_t i = 0; i < arguments->listen_count; i++) {
        if (config_add_listen(config, arguments->listen[i]) != QUERN_OK) {
            return usage_error("--listen takes a shorter URL than ", arguments->listen[i]);
        }
    }
    return -1;
}

static int refuse_start(char **why)
{
    const char *words = *why != NULL ? *why : "start refused";

    (void)fprintf(stderr, "quern-broker: %s\n", words);
    log_errors_say(words);
    free(*why);
    *why = NULL;
    return EXIT_START_REFUSED;
}

/* The exit status. */
static int check_store(const char *path, bool is_json)
{
    static struct store_report report; /* too large for a stack */
    struct buf text = {0};
    char *why = NULL;
    enum quern_err err = store_check(path, &report, &why);
    int status = report.fault_count == 0 ? EXIT_SUCCESS : EXIT_NOT_WHOLE;

    if (err != QUERN_OK) {
        return refuse_start(&why);
    }
    (is_json ? inspect_json : inspect_text)(&text, path, &report);
    if (fwrite(text.p, text.n, 1, stdout) != 1 || fflush(stdout) != 0) {
        status = EXIT_FAILURE;
    }
    buf_fini(&text);
    store_report_fini(&report);
    return status;
}

/* --check instead of a broker: -1 if it was not asked for. */
static int check_if_asked(const struct arguments *arguments)
{
    if (!arguments->is_check) {
        return arguments->is_json ? usage_error("--json goes with --check", "") : -1;
    }
    return arguments->db == NULL ? usage_error("--check looks at the store that --db PATH names; name one", "")
                                 : check_store(arguments->db, arguments->is_json);
}

/* -1: go on. */
static int configure(const struct arguments *arguments, struct config *config)
{
    char *why = NULL;
    int status = -1;

    if (arguments->config != NULL && config_load(config, arguments->config, &why) != QUERN_OK) {
        return refuse_start(&why);
    }
    status = apply_arguments(arguments, config);
    if (status != -1) {
        return status;
    }
    if (config_check(config, &why) != QUERN_OK) {
        return refuse_start(&why);
    }
    if (!config->is_volatile && config->db == NULL && use_default_db(config, &why) != QUERN_OK) {
        return refuse_start(&why);
    }
    if (config->listen_count == 0 && use_default_listener(config, &why) != QUERN_OK) {
        return refuse_start(&why);
    }
    return -1;
}

/* ---- the broker ---- */

struct broker {
    struct config config;
    bool insecure_tcp;
    struct parent parent;
    int handover_ms;
    struct store *store; /* until the journal takes it */
    struct store_facts facts;
    struct core *core;
    struct journal *journal;
    struct router *router;
    struct flight *flight;
    int signal_fd;
};

/* Numbers begin by chance: a client that outlives this broker must not see an id of the former one again. */
static struct store_facts facts_of_none(void)
{
    struct uuid uuid = uuid_random();
    uint64_t number;

    random_fill(&number, sizeof(number));
    number = 1 + number % FIRST_NUMBER_MAX;
    return (struct store_facts){
        .uuid = uuid,
        .epoch = 1,
        .was_clean = true,
        .is_new = true,
        .is_none = true,
        .meta = {.series_next = number, .session_next = number, .worker_next = 1, .call_next = 1}};
}

/* Whoever ends a broker may start the next one at once: a broker that ends closes its store last, and kill -9 returns
 * before the process is gone. So what another one still has is asked for again for a while. */
static enum quern_err broker_take_over(struct broker *broker,
                                       enum quern_err (*take)(struct broker *broker, char **why_out), char **why_out)
{
    struct pollfd ends[PARENT_FD_COUNT + 1];
    int64_t deadline_ms = clock_mono_ms() + broker->handover_ms;
    bool is_told = false;

    parent_poll_fds(&broker->parent, ends);
    ends[PARENT_FD_COUNT] = (struct pollfd){.fd = broker->signal_fd, .events = POLLIN};
    for (;;) {
        enum quern_err err = take(broker, why_out);

        if (err != QUERN_IN_USE || clock_mono_ms() >= deadline_ms || parent_is_gone(&broker->parent) ||
            (ends[PARENT_FD_COUNT].revents & POLLIN) != 0) {
            return err;
        }
        if (!is_told) {
            log_event(LOG_INFO, "waiting for another broker to end", "reason=\"%s\" at_most_ms=%d", *why_out,
                      broker->handover_ms);
            is_told = true;
        }
        free(*why_out);
        *why_out = NULL;
        (void)poll(ends, PARENT_FD_COUNT + 1, HANDOVER_STEP_MS);
    }
}

static enum quern_err take_store(struct broker *broker, char **why_out)
{
    return store_open(broker->config.db, &broker->config.limits, &broker->store, &broker->facts, why_out);
}

static enum quern_err take_listeners(struct broker *broker, char **why_out)
{
    return router_open((const char *const *)broker->config.listen, broker->config.listen_count, broker->insecure_tcp,
                       &broker->router, why_out);
}

static bool broker_load(struct broker *broker, char **why_out)
{
    struct store_visitor visitor;

    if (broker->config.is_volatile) {
        broker->facts = facts_of_none();
        broker->core = core_open(&broker->config.limits, &broker->facts);
        return true;
    }
    if (broker_take_over(broker, take_store, why_out) != QUERN_OK) {
        return false;
    }
    broker->core = core_open(&broker->config.limits, &broker->facts);
    core_visitor(broker->core, &visitor);
    return store_load(broker->store, &visitor, why_out) == QUERN_OK;
}

/* Store first: a second broker on it must change nothing. The listeners last: who can connect is served. */
static bool broker_open(struct broker *broker, char **why_out)
{
    int64_t began_ms = clock_mono_ms();

    if (!broker_load(broker, why_out)) {
        return false;
    }
    if (broker_take_over(broker, take_listeners, why_out) != QUERN_OK) {
        return false;
    }
    if (broker->config.flight_recorder != NULL &&
        flight_open(broker->config.flight_recorder, broker->facts.epoch, &broker->flight, why_out) != QUERN_OK) {
        return false;
    }
    broker->journal = journal_open(broker->config.is_volatile ? NULL : &broker->store, broker->facts.epoch);
    core_begin(broker->core, clock_mono_ms(), clock_wall_ms());
    if (broker->config.is_volatile) {
        log_event(LOG_INFO, "no store, everything is volatile", "epoch=%u", broker->facts.epoch);
        return true;
    }
    log_event(LOG_INFO, "store loaded", "db=\"%s\" epoch=%u clean=%d new=%d ms=%lld", broker->config.db,
              broker->facts.epoch, broker->facts.was_clean, broker->facts.is_new,
              (long long)(clock_mono_ms() - began_ms));
    return true;
}

/* Accepts a half-built one. */
static void broker_close(struct broker *broker, bool is_clean)
{
    journal_close(&broker->journal, is_clean);
    store_close(&broker->store, is_clean);
    router_close(&broker->router); /* after the store: frames queued last leave meanwhile */
    core_close(&broker->core);
    flight_close(&broker->flight);
}

static void tell_ready(struct broker *broker)
{
    char lines[LISTEN_COUNT_MAX * (URL_SIZE_MAX + sizeof("ready \n"))] = "";
    size_t n = 0;

    for (size_t i = 0; i < broker->config.listen_count; i++) {
        const char *url = router_url(broker->router, i);

        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "ready %s\n", url);
        log_event(LOG_INFO, "ready", "url=\"%s\" epoch=%u", url, broker->facts.epoch);
    }
    parent_tell_ready(&broker->parent, lines);
}

static int broker_run(struct broker *broker)
{
    char *why = NULL;
    bool is_clean = false;

    if (!broker_open(broker, &why)) {
        broker_close(broker, broker->facts.was_clean); /* nothing was done: the end is as clean as the last one */
        return refuse_start(&why);
    }
    tell_ready(broker);
    is_clean =
        loop_run(broker->core, broker->journal, broker->router, broker->signal_fd, &broker->parent, broker->flight);
    if (!is_clean) {
        /* The batch is still the journal's, which waits for room: only the end of the process frees it. */
        _exit(EXIT_STORE_FAILURE);
    }
    broker_close(broker, true);
    log_event(LOG_INFO, "stopped", "epoch=%u", broker->facts.epoch);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct broker broker = {.signal_fd = -1, .parent = PARENT_INIT};
    struct arguments arguments = {.parent = PARENT_INIT, .handover_ms = HANDOVER_MS};
    int status = -1;

    prepare_process();
    log_open("quern-broker", LOG_INFO);
    config_init(&broker.config);
    status = read_arguments(argc, argv, &arguments);
    if (status == -1) {
        status = check_if_asked(&arguments);
    }
    if (status == -1) {
        broker.signal_fd = open_signal_fd();
        CHECK(broker.signal_fd >= 0);
        broker.insecure_tcp = arguments.insecure_tcp;
        broker.parent = arguments.parent;
        broker.handover_ms = arguments.handover_ms;
        parent_begin(&broker.parent);
        status = configure(&arguments, &broker.config);
    }
    if (status == -1) {
        log_open("quern-broker", broker.config.log_level);
        status = broker_run(&broker);
    }
    if (arguments.remove_directory != NULL && parent_is_gone(&broker.parent)) {
        pool_directory_remove_path(arguments.remove_directory); /* else it is for the parent, who may start us again */
    }
    config_fini(&broker.config);
    return status;
}
