/*
 * beanstalkd by its protocol, as fast as it lets a client be: commands go in rows, answers are read as they come. Tasks
 * through the tube "work", results through the tube "done"; a worker puts the result, deletes the task and reserves the
 * next in one write. Start at main.
 *
 *     peer_beanstalk SOCKET TASKS ALONE
 */
#include "peer.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BUFFER_SIZE 65536
#define ROW_COUNT 128 /* commands in one write */
#define LINE_SIZE_MAX 224

struct connection {
    int fd;
    size_t at;
    size_t end;
    size_t out_size;
    char in[BUFFER_SIZE];
    char out[BUFFER_SIZE];
};

static void connection_flush(struct connection *c)
{
    for (size_t sent = 0; sent < c->out_size;) {
        ssize_t n = write(c->fd, c->out + sent, c->out_size - sent);
        must(n > 0 || errno == EINTR, "write");
        sent += n > 0 ? (size_t)n : 0;
    }
    c->out_size = 0;
}

__attribute__((format(printf, 2, 3))) static void connection_say(struct connection *c, const char *format, ...)
{
    __builtin_va_list words;
    if (c->out_size + LINE_SIZE_MAX > sizeof c->out) {
        connection_flush(c);
    }
    __builtin_va_start(words, format);
    c->out_size += (size_t)vsnprintf(c->out + c->out_size, LINE_SIZE_MAX, format, words);
    __builtin_va_end(words);
}

/* The next line, without its end; what was to be said is said before anything is waited for. */
static char *connection_line(struct connection *c)
{
    for (;;) {
        char *line = c->in + c->at;
        char *end = memchr(line, '\n', c->end - c->at);
        if (end != NULL) {
            c->at = (size_t)(end + 1 - c->in);
            end[end > line && end[-1] == '\r' ? -1 : 0] = '\0';
            return line;
        }
        connection_flush(c);
        memmove(c->in, line, c->end - c->at);
        c->end -= c->at;
        c->at = 0;
        ssize_t n = read(c->fd, c->in + c->end, sizeof c->in - c->end);
        must(n > 0 || (n < 0 && errno == EINTR), "read");
        c->end += n > 0 ? (size_t)n : 0;
    }
}

static bool begins(const char *line, const char *word)
{
    return strncmp(line, word, strlen(word)) == 0;
}

static struct connection *connection_open(const char *path, const char *use, const char *watch)
{
    struct connection *c = calloc(1, sizeof *c);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    must(c != NULL && strlen(path) < sizeof address.sun_path, "path");
    memcpy(address.sun_path, path, strlen(path));
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(c->fd >= 0 && connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    connection_say(c, "use %s\r\nwatch %s\r\nignore default\r\n", use, watch);
    must(begins(connection_line(c), "USING"), "use");
    must(begins(connection_line(c), "WATCHING"), "watch");
    must(begins(connection_line(c), "WATCHING"), "ignore");
    return c;
}

static void put_number(struct connection *c, uint64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof text, "%" PRIu64, number);
    connection_say(c, "put 1 0 60 %d\r\n%s\r\n", size, text);
}

/* "RESERVED <id> <bytes>", then the number. */
static uint64_t read_reserved(struct connection *c, uint64_t *number_out)
{
    char *line = connection_line(c);
    must(begins(line, "RESERVED "), line);
    uint64_t id = strtoull(line + 9, NULL, 10);
    *number_out = strtoull(connection_line(c), NULL, 10);
    return id;
}

static void worker(void *path)
{
    struct connection *c = connection_open(path, "done", "work");
    connection_say(c, "reserve\r\n");
    for (;;) {
        uint64_t x;
        uint64_t id = read_reserved(c, &x);
        put_number(c, x * x);
        connection_say(c, "delete %" PRIu64 "\r\nreserve\r\n", id);
        must(begins(connection_line(c), "INSERTED"), "put");
        must(begins(connection_line(c), "DELETED"), "delete");
    }
}

/* ---- the client: one connection puts, one takes ---- */

struct client {
    struct connection *put;
    struct connection *take;
};

static uint64_t client_take(struct client *client, bool has_more)
{
    uint64_t value;
    uint64_t id = read_reserved(client->take, &value);
    connection_say(client->take, has_more ? "delete %" PRIu64 "\r\nreserve\r\n" : "delete %" PRIu64 "\r\n", id);
    must(begins(connection_line(client->take), "DELETED"), "delete");
    return value;
}

static void one(void *context, uint64_t x)
{
    struct client *client = context;
    put_number(client->put, x);
    connection_say(client->take, "reserve\r\n");
    connection_flush(client->take);
    must(begins(connection_line(client->put), "INSERTED"), "put");
    must(client_take(client, false) == x * x, "the square");
}

static void all(void *context, int64_t count)
{
    struct client *client = context;
    int64_t put = 0;
    uint64_t sum = 0;
    uint64_t wanted = 0;
    connection_say(client->take, "reserve\r\n");
    connection_flush(client->take);
    for (int64_t done = 0; done < count; done++) {
        while (put < count && put - done < WINDOW_TASKS_MAX - ROW_COUNT) {
            int64_t row = count - put < ROW_COUNT ? count - put : ROW_COUNT;
            for (int64_t i = 0; i < row; i++) {
                put++;
                put_number(client->put, (uint64_t)put);
                wanted += (uint64_t)put * (uint64_t)put;
            }
            for (int64_t i = 0; i < row; i++) {
                must(begins(connection_line(client->put), "INSERTED"), "put");
            }
        }
        sum += client_take(client, done + 1 < count);
    }
    must(sum == wanted, "the squares");
}

int main(int argc, char **argv)
{
    peer_name = "peer_beanstalk";
    must(argc == 4, "usage: peer_beanstalk SOCKET TASKS ALONE");
    workers_start(worker, argv[1]);
    struct client client = {connection_open(argv[1], "work", "done"), connection_open(argv[1], "work", "done")};
    peer_measure(number_of(argv[2]), number_of(argv[3]), one, all, &client);
    return 0;
}
