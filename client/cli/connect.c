/*
 * Owns opening a connection with the global options, and telling the user when the broker goes and comes.
 * Must not know commands. Start at cli_open.
 */
#include "client/cli/cli.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define WHY_SIZE 512u

/* What the library's thread has told and nobody has said yet. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_told_lost;
static bool is_said_lost;
static char why_lost[WHY_SIZE];
static atomic_bool is_volatile;
static atomic_int watch_fd = -1;

static void connection_say(void)
{
    char why[WHY_SIZE];
    (void)pthread_mutex_lock(&lock);
    bool is_news = is_told_lost != is_said_lost;
    bool is_lost = is_told_lost;
    is_said_lost = is_told_lost;
    (void)snprintf(why, sizeof why, "%s", why_lost);
    (void)pthread_mutex_unlock(&lock);
    if (is_news && is_lost) {
        say("no connection to the broker (%s); waiting for the broker, %s", why,
            atomic_load(&is_volatile) ? "what it had in memory is lost if it was started anew" : "nothing is lost");
    } else if (is_news) {
        say("the broker is back");
    }
}

/* Called by the library's thread. */
static void connection_changed(void *context, bool is_up, const char *text)
{
    (void)context;
    (void)pthread_mutex_lock(&lock);
    is_told_lost = !is_up;
    (void)snprintf(why_lost, sizeof why_lost, "%s", text != NULL ? text : "no answer");
    (void)pthread_mutex_unlock(&lock);
    int fd = atomic_load(&watch_fd);
    if (fd < 0) {
        connection_say();
    } else {
        (void)eventfd_write(fd, 1);
    }
}

int cli_watch(void)
{
    if (atomic_load(&watch_fd) < 0) {
        atomic_store(&watch_fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    }
    return atomic_load(&watch_fd);
}

void cli_watch_say(void)
{
    eventfd_t count;
    int fd = atomic_load(&watch_fd);
    if (fd >= 0 && eventfd_read(fd, &count) == 0) {
        connection_say();
    }
}

/* A command without a session of a name is the only one that will ever print what it submitted: if it is gone for so
 * long, what has not started is not wanted any more. */
#define COMMAND_GONE_MS 60000

static void expire_if_passing(struct quern_client_options *options)
{
    bool is_passing = options->session == NULL && !options->keep && !options->no_session;
    if (is_passing && options->expire_ms == 0) {
        options->expire_ms = COMMAND_GONE_MS;
    }
}

int cli_open(const struct cli *cli, struct quern_client_options *options, struct quern_client **client_out)
{
    expire_if_passing(options);
    options->url = cli->url;
    options->connect_timeout_ms = cli->connect_timeout_ms;
    options->program = "quern";
    options->on_connection = connection_changed;
    enum quern_err err = quern_client_open(options, client_out);
    if (err != QUERN_OK) {
        return say_error(err, NULL);
    }
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    if (!options->no_session && quern_session_info(*client_out, &info) == QUERN_OK) {
        atomic_store(&is_volatile, info.is_volatile);
    }
    return STATUS_OK;
}

int cli_open_operator(const struct cli *cli, struct quern_client **client_out)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.no_session = true;
    return cli_open(cli, &options, client_out);
}
