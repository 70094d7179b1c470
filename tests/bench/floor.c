/*
 * The floor under durable throughput: the bare pipeline, with what durability costs and nothing else. A client, a
 * broker and two worker processes over ipc; 128 tasks a message, 20,000 on their way at most; one SQLite writer thread
 * in the broker (WAL, synchronous FULL) that inserts each task and updates it with its result; ids go to the client
 * after the commit of their rows, results after that of theirs. No sessions, leases, retries, credit, reconnecting:
 * what quern needs beyond this is quern's own. Prints tasks per second and the times of one task at a time; never a
 * verdict. Start at main, then client_run, broker_run, writer_run.
 *
 *     bench_floor [--tasks N] [--alone N] [--directory DIR] [--json]
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <msgpack.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define WORKER_COUNT 2
#define MESSAGE_TASKS_MAX 128
#define WINDOW_TASKS_MAX 20000
#define BATCH_MESSAGES_MAX 1024 /* more than the window can fill with full messages; a lone task is alone */
#define TASKS_DEFAULT 1000000
#define TASKS_MAX 20000000
#define ALONE_DEFAULT 1000
#define ALONE_MAX 1000000
#define ANSWER_MS_MAX 5000 /* nothing for so long: something is broken */
#define RUN_S_MAX 300      /* of the whole program */
#define DRAIN_COUNT_MAX 256
#define PATH_SIZE_MAX 256
#define PAYLOAD_SIZE_MAX 16

/* HELLO []; SUBMIT [args...]; DISPATCH and RESULTS [id, payload, id, payload ...]; IDS [first, count]. Each message is
 * [kind, [...]], each payload msgpack in a bin: arguments [x], result x * x. */
enum kind { HELLO = 1, SUBMIT = 2, IDS = 3, DISPATCH = 4, RESULTS = 5 };

struct payload {
    uint8_t size;
    char bytes[PAYLOAD_SIZE_MAX];
};

struct row {
    uint64_t id;
    struct payload payload;
};

/* What client and parent both see. */
struct figures {
    double alone_p50_us, alone_p90_us, alone_p99_us;
    double seconds;
    _Atomic uint64_t commits;
    uint64_t commits_alone, commits_all;
};

static struct {
    int64_t tasks;
    int64_t alone;
    char directory[PATH_SIZE_MAX];
    char url[PATH_SIZE_MAX];
    bool is_json;
} run = {.tasks = TASKS_DEFAULT, .alone = ALONE_DEFAULT, .directory = "/tmp"};
static struct figures *figures;

static void must(bool fact, const char *what)
{
    if (!fact) {
        fprintf(stderr, "bench_floor: %s: %s\n", what, zmq_strerror(zmq_errno()));
        _exit(1);
    }
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- messages ---- */

struct packet {
    msgpack_sbuffer bytes;
    msgpack_packer packer;
};

static void packet_begin(struct packet *packet, enum kind kind, size_t count)
{
    msgpack_sbuffer_clear(&packet->bytes);
    msgpack_packer_init(&packet->packer, &packet->bytes, msgpack_sbuffer_write);
    msgpack_pack_array(&packet->packer, 2);
    msgpack_pack_int(&packet->packer, (int)kind);
    msgpack_pack_array(&packet->packer, count);
}

static void packet_put_payload(struct packet *packet, const struct payload *payload)
{
    msgpack_pack_bin_with_body(&packet->packer, payload->bytes, payload->size);
}

static void packet_send(const struct packet *packet, void *socket)
{
    must(zmq_send(socket, packet->bytes.data, packet->bytes.size, 0) == (int)packet->bytes.size, "send");
}

/* What came: kind and fields, which lie in zone and msg until the next one. */
struct arrival {
    zmq_msg_t msg;
    msgpack_zone zone;
    enum kind kind;
    const msgpack_object *field;
    size_t field_count;
};

static void arrival_init(struct arrival *arrival)
{
    must(msgpack_zone_init(&arrival->zone, MSGPACK_ZONE_CHUNK_SIZE) && zmq_msg_init(&arrival->msg) == 0, "memory");
}

/* False: none is there (flags has ZMQ_DONTWAIT). */
static bool arrival_next(struct arrival *arrival, void *socket, int flags)
{
    msgpack_object object;
    size_t offset = 0;
    if (zmq_msg_recv(&arrival->msg, socket, flags) < 0) {
        must((flags & ZMQ_DONTWAIT) != 0 && errno == EAGAIN, "receive");
        return false;
    }
    msgpack_zone_clear(&arrival->zone);
    int said =
        msgpack_unpack(zmq_msg_data(&arrival->msg), zmq_msg_size(&arrival->msg), &offset, &arrival->zone, &object);
    must(said == MSGPACK_UNPACK_SUCCESS && object.type == MSGPACK_OBJECT_ARRAY && object.via.array.size == 2,
         "message");
    arrival->kind = (enum kind)object.via.array.ptr[0].via.u64;
    arrival->field = object.via.array.ptr[1].via.array.ptr;
    arrival->field_count = object.via.array.ptr[1].via.array.size;
    return true;
}

static struct payload payload_of(const msgpack_object *object)
{
    struct payload payload = {.size = (uint8_t)object->via.bin.size};
    must(object->type == MSGPACK_OBJECT_BIN && object->via.bin.size <= PAYLOAD_SIZE_MAX, "payload");
    memcpy(payload.bytes, object->via.bin.ptr, payload.size);
    return payload;
}

/* A number packed by itself, or as the only argument. */
static void payload_put(struct packet *packet, uint64_t number, bool is_argument)
{
    static __thread msgpack_sbuffer bytes;
    msgpack_packer packer;
    msgpack_sbuffer_clear(&bytes);
    msgpack_packer_init(&packer, &bytes, msgpack_sbuffer_write);
    if (is_argument) {
        msgpack_pack_array(&packer, 1);
    }
    msgpack_pack_uint64(&packer, number);
    msgpack_pack_bin_with_body(&packet->packer, bytes.data, bytes.size);
}

static uint64_t payload_number(const msgpack_object *object, msgpack_zone *zone)
{
    msgpack_object value;
    size_t offset = 0;
    struct payload payload = payload_of(object);
    must(msgpack_unpack(payload.bytes, payload.size, &offset, zone, &value) == MSGPACK_UNPACK_SUCCESS, "payload");
    return value.type == MSGPACK_OBJECT_ARRAY ? value.via.array.ptr[0].via.u64 : value.via.u64;
}

static void *socket_open(int type, bool is_bound)
{
    void *context = zmq_ctx_new();
    void *socket = context != NULL ? zmq_socket(context, type) : NULL;
    int no_bound = 0;
    must(socket != NULL && zmq_setsockopt(socket, ZMQ_RCVHWM, &no_bound, sizeof no_bound) == 0 &&
             zmq_setsockopt(socket, ZMQ_SNDHWM, &no_bound, sizeof no_bound) == 0,
         "socket");
    must((is_bound ? zmq_bind(socket, run.url) : zmq_connect(socket, run.url)) == 0, run.url);
    return socket;
}

/* ---- the writer: one transaction per batch, one fdatasync per transaction ---- */

struct batch {
    struct row inserts[WINDOW_TASKS_MAX];
    struct row updates[WINDOW_TASKS_MAX];
    size_t insert_count, update_count;
    uint64_t ids_first, ids_count;         /* told after the commit */
    zmq_msg_t results[BATCH_MESSAGES_MAX]; /* sent on after the commit */
    size_t result_count;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t given;
    struct batch *batch; /* in commit; the loop takes it back when done_fd says so */
    int done_fd;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .given = PTHREAD_COND_INITIALIZER};

static void sql(sqlite3 *db, const char *text)
{
    int said = sqlite3_exec(db, text, NULL, NULL, NULL);
    if (said != SQLITE_OK) {
        fprintf(stderr, "bench_floor: %s: %s\n", text, sqlite3_errmsg(db));
        _exit(1);
    }
}

static sqlite3 *store_open(void)
{
    sqlite3 *db;
    char path[PATH_SIZE_MAX + 16];
    snprintf(path, sizeof path, "%s/floor.db", run.directory);
    must(sqlite3_open(path, &db) == SQLITE_OK, path);
    sql(db, "PRAGMA locking_mode=EXCLUSIVE");
    sql(db, "PRAGMA journal_mode=WAL");
    sql(db, "PRAGMA synchronous=FULL");
    sql(db, "PRAGMA cache_size=-65536");
    sql(db, "PRAGMA secure_delete=OFF");
    sql(db, "CREATE TABLE task(id INTEGER PRIMARY KEY, state INTEGER, args BLOB, result BLOB) STRICT");
    return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *text)
{
    sqlite3_stmt *statement;
    must(sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) == SQLITE_OK, text);
    return statement;
}

static void run_rows(sqlite3_stmt *statement, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)rows[i].id);
        sqlite3_bind_blob(statement, 2, rows[i].payload.bytes, rows[i].payload.size, SQLITE_STATIC);
        must(sqlite3_step(statement) == SQLITE_DONE, "a row");
        sqlite3_reset(statement);
    }
}

static struct batch *writer_take(void)
{
    pthread_mutex_lock(&writer.lock);
    while (writer.batch == NULL) {
        pthread_cond_wait(&writer.given, &writer.lock);
    }
    struct batch *batch = writer.batch;
    writer.batch = NULL;
    pthread_mutex_unlock(&writer.lock);
    return batch;
}

static void *writer_run(void *unused)
{
    sqlite3 *db = store_open();
    sqlite3_stmt *insert = prepare(db, "INSERT INTO task(id, state, args) VALUES(?1, 0, ?2)");
    sqlite3_stmt *update = prepare(db, "UPDATE task SET state = 1, result = ?2 WHERE id = ?1");
    uint64_t one = 1;
    for (struct batch *batch; (batch = writer_take()) != NULL;) {
        sql(db, "BEGIN IMMEDIATE");
        run_rows(insert, batch->inserts, batch->insert_count);
        run_rows(update, batch->updates, batch->update_count);
        sql(db, "COMMIT");
        atomic_fetch_add(&figures->commits, 1);
        must(write(writer.done_fd, &one, sizeof one) == (ssize_t)sizeof one, "eventfd");
    }
    return unused;
}

/* ---- the broker: its loop never waits for the disk ---- */

struct peer {
    char id[256];
    int size;
};

struct broker {
    void *socket;
    struct peer client;
    struct peer workers[WORKER_COUNT];
    size_t worker_count;
    size_t worker_next;
    uint64_t id_next;
    struct batch *open;
    struct batch *in_commit; /* NULL: the writer is idle */
    struct batch *spare;
    struct arrival arrival;
    struct packet packet;
};

static void route(const struct broker *broker, const struct peer *peer)
{
    must(zmq_send(broker->socket, peer->id, (size_t)peer->size, ZMQ_SNDMORE) == peer->size, "send");
}

/* Every task gets an id and a row and goes to a worker at once: running it overlaps the commit. */
static void broker_take_submit(struct broker *broker)
{
    const struct arrival *arrival = &broker->arrival;
    struct batch *open = broker->open;
    packet_begin(&broker->packet, DISPATCH, arrival->field_count * 2);
    open->ids_first = open->ids_count == 0 ? broker->id_next : open->ids_first;
    open->ids_count += arrival->field_count;
    for (size_t i = 0; i < arrival->field_count; i++) {
        must(open->insert_count < WINDOW_TASKS_MAX, "a client within its window");
        struct row *row = &open->inserts[open->insert_count++];
        row->id = broker->id_next++;
        row->payload = payload_of(&arrival->field[i]);
        msgpack_pack_uint64(&broker->packet.packer, row->id);
        packet_put_payload(&broker->packet, &row->payload);
    }
    broker->worker_next = (broker->worker_next + 1) % WORKER_COUNT;
    route(broker, &broker->workers[broker->worker_next]);
    packet_send(&broker->packet, broker->socket);
}

/* Rows for the writer; the message itself is sent on, as it is, after their commit. */
static void broker_take_results(struct broker *broker)
{
    struct arrival *arrival = &broker->arrival;
    struct batch *open = broker->open;
    for (size_t i = 0; i + 1 < arrival->field_count; i += 2) {
        must(open->update_count < WINDOW_TASKS_MAX, "results within the window");
        open->updates[open->update_count++] =
            (struct row){.id = arrival->field[i].via.u64, .payload = payload_of(&arrival->field[i + 1])};
    }
    must(open->result_count < BATCH_MESSAGES_MAX, "messages within the window");
    zmq_msg_init(&open->results[open->result_count]);
    zmq_msg_move(&open->results[open->result_count++], &arrival->msg);
}

static bool broker_take_message(struct broker *broker)
{
    struct peer from;
    from.size = zmq_recv(broker->socket, from.id, sizeof from.id, ZMQ_DONTWAIT);
    if (from.size < 0) {
        must(errno == EAGAIN, "receive");
        return false;
    }
    arrival_next(&broker->arrival, broker->socket, 0);
    switch (broker->arrival.kind) {
    case HELLO:
        must(broker->worker_count < WORKER_COUNT, "a known worker");
        broker->workers[broker->worker_count++] = from;
        if (broker->worker_count == WORKER_COUNT) {
            kill(getppid(), SIGUSR1); /* ready: the client may begin */
        }
        break;
    case SUBMIT:
        broker->client = from;
        broker_take_submit(broker);
        break;
    case RESULTS:
        broker_take_results(broker);
        break;
    default:
        must(false, "a kind of message");
    }
    return true;
}

/* On disk: now, and only now, the client is told. */
static void broker_committed(struct broker *broker)
{
    struct batch *batch = broker->in_commit;
    uint64_t count;
    must(read(writer.done_fd, &count, sizeof count) == (ssize_t)sizeof count, "eventfd");
    if (batch->ids_count > 0) {
        packet_begin(&broker->packet, IDS, 2);
        msgpack_pack_uint64(&broker->packet.packer, batch->ids_first);
        msgpack_pack_uint64(&broker->packet.packer, batch->ids_count);
        route(broker, &broker->client);
        packet_send(&broker->packet, broker->socket);
    }
    for (size_t i = 0; i < batch->result_count; i++) {
        route(broker, &broker->client);
        must(zmq_msg_send(&batch->results[i], broker->socket, 0) >= 0, "send");
    }
    batch->insert_count = batch->update_count = batch->ids_count = batch->result_count = 0;
    broker->in_commit = NULL;
    broker->spare = batch;
}

static void broker_commit_open(struct broker *broker)
{
    broker->in_commit = broker->open;
    broker->open = broker->spare;
    broker->spare = NULL;
    pthread_mutex_lock(&writer.lock);
    writer.batch = broker->in_commit;
    pthread_cond_signal(&writer.given);
    pthread_mutex_unlock(&writer.lock);
}

static void broker_run(void)
{
    struct broker broker = {
        .open = calloc(1, sizeof *broker.open), .spare = calloc(1, sizeof *broker.spare), .id_next = 1};
    pthread_t thread;
    writer.done_fd = eventfd(0, EFD_CLOEXEC);
    must(broker.open != NULL && broker.spare != NULL && writer.done_fd >= 0, "memory");
    arrival_init(&broker.arrival);
    must(pthread_create(&thread, NULL, writer_run, NULL) == 0, "thread");
    broker.socket = socket_open(ZMQ_ROUTER, true);
    zmq_pollitem_t items[] = {{.socket = broker.socket, .events = ZMQ_POLLIN},
                              {.fd = writer.done_fd, .events = ZMQ_POLLIN}};
    for (;;) {
        must(zmq_poll(items, 2, -1) >= 0, "poll");
        for (int i = 0; i < DRAIN_COUNT_MAX && broker_take_message(&broker); i++) {
        }
        if ((items[1].revents & ZMQ_POLLIN) != 0) {
            broker_committed(&broker);
        }
        if (broker.in_commit == NULL && broker.open->insert_count + broker.open->update_count > 0) {
            broker_commit_open(&broker);
        }
    }
}

/* ---- a worker ---- */

static void worker_run(void)
{
    struct packet packet = {0};
    struct arrival arrival;
    arrival_init(&arrival);
    void *socket = socket_open(ZMQ_DEALER, false);
    packet_begin(&packet, HELLO, 0);
    packet_send(&packet, socket);
    while (arrival_next(&arrival, socket, 0)) {
        must(arrival.kind == DISPATCH, "a dispatch");
        packet_begin(&packet, RESULTS, arrival.field_count);
        for (size_t i = 0; i + 1 < arrival.field_count; i += 2) {
            uint64_t x = payload_number(&arrival.field[i + 1], &arrival.zone);
            msgpack_pack_uint64(&packet.packer, arrival.field[i].via.u64);
            payload_put(&packet, x * x, false);
        }
        packet_send(&packet, socket);
    }
}

/* ---- the client: ids count from 1, so the task with id x is the square of x ---- */

struct client {
    void *socket;
    uint64_t submitted, told, finished;
    struct packet packet;
    struct arrival arrival;
};

static void client_submit(struct client *client, size_t count)
{
    packet_begin(&client->packet, SUBMIT, count);
    for (size_t i = 0; i < count; i++) {
        payload_put(&client->packet, ++client->submitted, true);
    }
    packet_send(&client->packet, client->socket);
}

static bool client_take(struct client *client, int flags)
{
    struct arrival *arrival = &client->arrival;
    if (!arrival_next(arrival, client->socket, flags)) {
        return false;
    }
    if (arrival->kind == IDS) {
        must(arrival->field[0].via.u64 == client->told + 1, "the next ids");
        client->told += arrival->field[1].via.u64;
        return true;
    }
    must(arrival->kind == RESULTS, "results");
    for (size_t i = 0; i + 1 < arrival->field_count; i += 2) {
        uint64_t id = arrival->field[i].via.u64;
        must(payload_number(&arrival->field[i + 1], &arrival->zone) == id * id, "a square");
        client->finished++;
    }
    return true;
}

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

static void client_one_at_a_time(struct client *client)
{
    int64_t *times_ns = calloc((size_t)run.alone + 1, sizeof *times_ns);
    must(times_ns != NULL, "memory");
    for (int64_t i = 0; i < run.alone; i++) {
        int64_t begun_ns = now_ns();
        client_submit(client, 1);
        while (client->finished < client->submitted) {
            client_take(client, 0);
        }
        times_ns[i] = now_ns() - begun_ns;
    }
    qsort(times_ns, (size_t)run.alone, sizeof *times_ns, time_compare);
    figures->alone_p50_us = percentile_us(times_ns, run.alone, 50);
    figures->alone_p90_us = percentile_us(times_ns, run.alone, 90);
    figures->alone_p99_us = percentile_us(times_ns, run.alone, 99);
    free(times_ns);
}

static void client_all_at_once(struct client *client, uint64_t last)
{
    int64_t begun_ns = now_ns();
    while (client->finished < last) {
        uint64_t left = last - client->submitted;
        size_t count = left < MESSAGE_TASKS_MAX ? (size_t)left : MESSAGE_TASKS_MAX;
        if (count > 0 && client->submitted - client->finished + count <= WINDOW_TASKS_MAX) {
            client_submit(client, count);
            client_take(client, ZMQ_DONTWAIT);
        } else {
            client_take(client, 0);
        }
    }
    figures->seconds = (double)(now_ns() - begun_ns) / 1e9;
    must(client->told == client->submitted && client->finished == last, "every id and every result");
}

static void client_run(void)
{
    struct client client = {0};
    int patience_ms = ANSWER_MS_MAX;
    arrival_init(&client.arrival);
    client.socket = socket_open(ZMQ_DEALER, false);
    must(zmq_setsockopt(client.socket, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms) == 0, "option");
    uint64_t before = figures->commits;
    client_one_at_a_time(&client);
    uint64_t between = figures->commits;
    client_all_at_once(&client, (uint64_t)(run.alone + run.tasks));
    figures->commits_alone = between - before;
    figures->commits_all = figures->commits - between;
}

/* ---- all processes, their directory and their end ---- */

#define CHILD_COUNT (1 + WORKER_COUNT + 1)

/* It dies with its parent, whatever ends that. */
static pid_t child_start(void (*role)(void))
{
    pid_t parent = getpid();
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent, "parent");
        role();
        _exit(0);
    }
    return pid;
}

static void child_end(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

static bool client_ended_well(pid_t client)
{
    int status = 0;
    return waitpid(client, &status, WNOHANG) == client && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The broker signals that it is ready, the client ends by itself; whatever else happens ends all. */
static bool run_processes(void)
{
    sigset_t signals;
    pid_t children[CHILD_COUNT];
    int count = 0;
    bool is_well = false;
    sigemptyset(&signals);
    for (const int *number = (const int[]){SIGUSR1, SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGALRM, 0}; *number != 0;
         number++) {
        sigaddset(&signals, *number);
    }
    sigprocmask(SIG_BLOCK, &signals, NULL);
    alarm(RUN_S_MAX);
    children[count++] = child_start(broker_run);
    for (int i = 0; i < WORKER_COUNT; i++) {
        children[count++] = child_start(worker_run);
    }
    if (sigwaitinfo(&signals, NULL) == SIGUSR1) {
        children[count] = child_start(client_run);
        is_well = sigwaitinfo(&signals, NULL) == SIGCHLD && client_ended_well(children[count]);
        count += is_well ? 0 : 1;
    }
    while (count > 0) {
        child_end(children[--count]);
    }
    return is_well;
}

static void print(void)
{
    printf(run.is_json ? "{\"tasks\":%" PRId64 ",\"seconds\":%.6f,\"tasks_per_second\":%.1f,\"syncs\":%" PRIu64
                         ",\"one_at_a_time\":{\"tasks\":%" PRId64
                         ",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"syncs\":%" PRIu64 "}}\n"
                       : "bare pipeline, all at once: %" PRId64 " tasks in %.3f s, %.0f tasks/s, %" PRIu64
                         " syncs; one at a time: %" PRId64 " tasks, p50 %.1f us, p90 %.1f us, p99 %.1f us, %" PRIu64
                         " syncs\n",
           run.tasks, figures->seconds, (double)run.tasks / figures->seconds, figures->commits_all, run.alone,
           figures->alone_p50_us, figures->alone_p90_us, figures->alone_p99_us, figures->commits_alone);
}

static bool options_read(int argc, char **argv)
{
    static const struct option options[] = {{"tasks", required_argument, NULL, 't'},
                                            {"alone", required_argument, NULL, 'a'},
                                            {"directory", required_argument, NULL, 'd'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 't':
            run.tasks = strtoll(optarg, NULL, 10);
            break;
        case 'a':
            run.alone = strtoll(optarg, NULL, 10);
            break;
        case 'd':
            snprintf(run.directory, sizeof run.directory, "%s", optarg);
            break;
        case 'j':
            run.is_json = true;
            break;
        default:
            return false;
        }
    }
    return run.tasks >= 1 && run.tasks <= TASKS_MAX && run.alone >= 1 && run.alone <= ALONE_MAX;
}

static void directory_remove(void)
{
    static const char *const names[] = {"floor.db", "floor.db-wal", "floor.db-shm", "floor.db-journal"};
    char path[PATH_SIZE_MAX + 32];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", run.directory, names[i]);
        unlink(path);
    }
    rmdir(run.directory);
}

int main(int argc, char **argv)
{
    char directory[PATH_SIZE_MAX];
    if (!options_read(argc, argv)) {
        fprintf(stderr, "usage: bench_floor [--tasks 1..%d] [--alone 1..%d] [--directory DIR] [--json]\n", TASKS_MAX,
                ALONE_MAX);
        return 2;
    }
    snprintf(directory, sizeof directory, "%.200s/quern-floor-XXXXXX", run.directory);
    must(mkdtemp(directory) != NULL, directory);
    memcpy(run.directory, directory, sizeof directory);
    snprintf(run.url, sizeof run.url, "ipc://@quern-bench-floor-%ld", (long)getpid());
    figures = mmap(NULL, sizeof *figures, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(figures != MAP_FAILED, "memory");
    bool is_well = run_processes();
    if (is_well) {
        print();
    }
    directory_remove();
    return is_well ? 0 : 1;
}
