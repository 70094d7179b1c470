/*
 * The floor under one task at a time: a bare ZeroMQ + msgpack echo, client -> broker -> worker -> broker -> client over
 * ipc, each a process of its own, one message at a time, nothing stored, nothing else done. What quern needs beyond
 * this is quern's own. Prints the times of the round trips; never a verdict. Start at main, then client.
 *
 *     bench_echo [--messages N] [--json]
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <msgpack.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define MESSAGES_DEFAULT 5000
#define MESSAGES_MAX 10000000
#define WARM_UP_COUNT 200
#define ANSWER_MS_MAX 5000 /* nothing for so long: something is broken */
#define RUN_S_MAX 120      /* of the whole program */
#define URL_SIZE_MAX 64

enum kind { HELLO = 1, TASK = 2, RESULT = 3 };

struct message {
    enum kind kind;
    uint64_t number;
    uint64_t value;
};

static char url[URL_SIZE_MAX]; /* in the abstract namespace: nothing is left behind, whatever ends us */

static void must(bool fact, const char *what)
{
    if (!fact) {
        fprintf(stderr, "bench_echo: %s: %s\n", what, zmq_strerror(zmq_errno()));
        _exit(1);
    }
}

/* ---- messages: [kind, number, function, [value]] ---- */

static void message_send(void *socket, const struct message *message)
{
    static msgpack_sbuffer bytes;
    msgpack_packer packer;
    msgpack_sbuffer_clear(&bytes);
    msgpack_packer_init(&packer, &bytes, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 4);
    msgpack_pack_int(&packer, (int)message->kind);
    msgpack_pack_uint64(&packer, message->number);
    msgpack_pack_str_with_body(&packer, "noop", 4);
    msgpack_pack_array(&packer, 1);
    msgpack_pack_uint64(&packer, message->value);
    must(zmq_send(socket, bytes.data, bytes.size, 0) == (int)bytes.size, "send");
}

static struct message message_read(const char *p, size_t n)
{
    static msgpack_zone zone;
    static bool has_zone;
    msgpack_object object;
    size_t offset = 0;
    has_zone = has_zone ? true : msgpack_zone_init(&zone, MSGPACK_ZONE_CHUNK_SIZE);
    msgpack_zone_clear(&zone);
    must(has_zone && msgpack_unpack(p, n, &offset, &zone, &object) == MSGPACK_UNPACK_SUCCESS, "message");
    must(object.type == MSGPACK_OBJECT_ARRAY && object.via.array.size == 4, "message");
    const msgpack_object *field = object.via.array.ptr;
    must(field[3].type == MSGPACK_OBJECT_ARRAY && field[3].via.array.size == 1, "message");
    return (struct message){
        .kind = (enum kind)field[0].via.u64, .number = field[1].via.u64, .value = field[3].via.array.ptr[0].via.u64};
}

static struct message message_receive(void *socket)
{
    char bytes[256];
    int size = zmq_recv(socket, bytes, sizeof bytes, 0);
    must(size > 0 && size <= (int)sizeof bytes, "receive");
    return message_read(bytes, (size_t)size);
}

/* ---- processes ---- */

static void *socket_open(int type, bool is_bound)
{
    void *context = zmq_ctx_new();
    void *socket = context != NULL ? zmq_socket(context, type) : NULL;
    must(socket != NULL, "socket");
    must((is_bound ? zmq_bind(socket, url) : zmq_connect(socket, url)) == 0, url);
    return socket;
}

struct route {
    char id[256];
    int size;
};

/* Tasks go to the worker, results to the client; whoever said HELLO is the worker. */
static void broker(int ready_fd)
{
    void *socket = socket_open(ZMQ_ROUTER, true);
    struct route worker = {.size = 0};
    struct route client = {.size = 0};
    for (;;) {
        struct route from;
        from.size = zmq_recv(socket, from.id, sizeof from.id, 0);
        must(from.size > 0 && from.size <= (int)sizeof from.id, "receive");
        struct message message = message_receive(socket);
        if (message.kind == HELLO) {
            worker = from;
            must(write(ready_fd, "", 1) == 1, "pipe");
            continue;
        }
        if (message.kind == TASK) {
            client = from;
        }
        const struct route *to = message.kind == TASK ? &worker : &client;
        must(zmq_send(socket, to->id, (size_t)to->size, ZMQ_SNDMORE) == to->size, "send");
        message_send(socket, &message);
    }
}

static void worker(void)
{
    void *socket = socket_open(ZMQ_DEALER, false);
    message_send(socket, &(struct message){.kind = HELLO});
    for (;;) {
        struct message message = message_receive(socket);
        must(message.kind == TASK, "a task");
        message.kind = RESULT;
        message_send(socket, &message);
    }
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void client(int64_t count, int64_t *times_ns)
{
    void *socket = socket_open(ZMQ_DEALER, false);
    int patience_ms = ANSWER_MS_MAX;
    must(zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms) == 0, "option");
    for (int64_t i = -WARM_UP_COUNT; i < count; i++) {
        struct message task = {.kind = TASK, .number = (uint64_t)(i + WARM_UP_COUNT), .value = 7};
        int64_t begun_ns = now_ns();
        message_send(socket, &task);
        struct message result = message_receive(socket);
        must(result.kind == RESULT && result.number == task.number && result.value == task.value, "the same message");
        if (i >= 0) {
            times_ns[i] = now_ns() - begun_ns;
        }
    }
}

/* It dies with its parent, whatever ends that. */
static pid_t child_start(void (*run)(int), int fd)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent, "parent");
        run(fd);
        _exit(0);
    }
    return pid;
}

static void worker_run(int unused)
{
    (void)unused;
    worker();
}

static void child_end(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* ---- figures ---- */

static int time_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The smallest time that `percent` of all do not exceed, in microseconds. */
static double percentile_us(const int64_t *sorted_ns, int64_t count, int64_t percent)
{
    int64_t rank = (count * percent + 99) / 100;
    return (double)sorted_ns[rank > 0 ? rank - 1 : 0] / 1000.0;
}

static void print(int64_t *times_ns, int64_t count, bool is_json)
{
    double sum_us = 0;
    qsort(times_ns, (size_t)count, sizeof *times_ns, time_compare);
    for (int64_t i = 0; i < count; i++) {
        sum_us += (double)times_ns[i] / 1000.0;
    }
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    printf(is_json ? "{\"libzmq\":\"%d.%d.%d\",\"count\":%" PRId64
                     ",\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n"
                   : "echo with libzmq %d.%d.%d, one message at a time: %" PRId64
                     " messages, mean %.1f us, p50 %.1f us, p90 %.1f us, p99 %.1f us, max %.1f us\n",
           major, minor, patch, count, sum_us / (double)count, percentile_us(times_ns, count, 50),
           percentile_us(times_ns, count, 90), percentile_us(times_ns, count, 99), percentile_us(times_ns, count, 100));
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"messages", required_argument, NULL, 'n'}, {"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    int64_t count = MESSAGES_DEFAULT;
    bool is_json = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'n') {
            count = strtoll(optarg, NULL, 10);
        }
        is_json = is_json || option == 'j';
        if (option == '?' || count < 1 || count > MESSAGES_MAX) {
            fprintf(stderr, "usage: bench_echo [--messages 1..%d] [--json]\n", MESSAGES_MAX);
            return 2;
        }
    }
    int64_t *times_ns = calloc((size_t)count, sizeof *times_ns);
    int ready[2];
    char byte;
    snprintf(url, sizeof url, "ipc://@quern-bench-echo-%ld", (long)getpid());
    must(times_ns != NULL && pipe(ready) == 0, "start");
    alarm(RUN_S_MAX);
    pid_t broker_pid = child_start(broker, ready[1]);
    pid_t worker_pid = child_start(worker_run, -1);
    close(ready[1]);
    must(read(ready[0], &byte, 1) == 1, "the broker is ready");
    client(count, times_ns);
    child_end(worker_pid);
    child_end(broker_pid);
    print(times_ns, count, is_json);
    free(times_ns);
    return 0;
}
