/*
 * gearmand by its own C library, foreground tasks: the client adds tasks up to the window and runs them; workers
 * square. With `background` the client only submits (nobody would get the results), as its persistent queue is used
 * for. Start at main.
 *
 *     peer_gearman foreground|background PORT TASKS ALONE
 */
/* Its library looks through all tasks of a set for each answer: larger sets are slower. */
#define WINDOW_TASKS_MAX 2000
#include "peer.h"

#include <libgearman/gearman.h>

#define NUMBER_SIZE 24

static in_port_t port;
static uint64_t sum;

static void *square(gearman_job_st *job, void *context, size_t *size_out, gearman_return_t *code_out)
{
    char text[NUMBER_SIZE] = {0};
    size_t size = gearman_job_workload_size(job);
    (void)context;
    must(size < sizeof text, "a number");
    memcpy(text, gearman_job_workload(job), size);
    uint64_t x = strtoull(text, NULL, 10);
    char *result = malloc(NUMBER_SIZE);
    must(result != NULL, "memory");
    *size_out = (size_t)snprintf(result, NUMBER_SIZE, "%" PRIu64, x * x);
    *code_out = GEARMAN_SUCCESS;
    return result;
}

static void worker(void *context)
{
    (void)context;
    gearman_worker_st *me = gearman_worker_create(NULL);
    must(me != NULL && gearman_worker_add_server(me, "127.0.0.1", port) == GEARMAN_SUCCESS, "server");
    must(gearman_worker_add_function(me, "square", 0, square, NULL) == GEARMAN_SUCCESS, "function");
    while (gearman_worker_work(me) == GEARMAN_SUCCESS) {
    }
    must(false, gearman_worker_error(me));
}

static gearman_client_st *client_open(void)
{
    gearman_client_st *client = gearman_client_create(NULL);
    must(client != NULL && gearman_client_add_server(client, "127.0.0.1", port) == GEARMAN_SUCCESS, "server");
    return client;
}

static size_t text_of(char text[NUMBER_SIZE], uint64_t x)
{
    return (size_t)snprintf(text, NUMBER_SIZE, "%" PRIu64, x);
}

static void one(void *context, uint64_t x)
{
    char text[NUMBER_SIZE];
    char got[NUMBER_SIZE] = {0};
    size_t size;
    gearman_return_t code;
    void *result = gearman_client_do(context, "square", NULL, text, text_of(text, x), &size, &code);
    must(code == GEARMAN_SUCCESS && result != NULL && size < sizeof got, gearman_client_error(context));
    memcpy(got, result, size);
    must(strtoull(got, NULL, 10) == x * x, "the square");
    free(result);
}

static gearman_return_t completed(gearman_task_st *task)
{
    char text[NUMBER_SIZE] = {0};
    size_t size = gearman_task_data_size(task);
    must(size < sizeof text, "a number");
    memcpy(text, gearman_task_data(task), size);
    sum += strtoull(text, NULL, 10);
    return GEARMAN_SUCCESS;
}

/* The library runs a set of tasks to its end: so many at a time. */
static void all(void *context, int64_t count)
{
    static char texts[WINDOW_TASKS_MAX][NUMBER_SIZE];
    uint64_t wanted = 0;
    sum = 0;
    gearman_client_set_complete_fn(context, completed);
    for (int64_t done = 0; done < count;) {
        int64_t row = count - done < WINDOW_TASKS_MAX ? count - done : WINDOW_TASKS_MAX;
        for (int64_t i = 0; i < row; i++) {
            gearman_return_t code;
            uint64_t x = (uint64_t)(done + i) + 1;
            size_t size = text_of(texts[i], x);
            (void)gearman_client_add_task(context, NULL, NULL, "square", NULL, texts[i], size, &code);
            must(code == GEARMAN_SUCCESS, gearman_client_error(context));
            wanted += x * x;
        }
        must(gearman_client_run_tasks(context) == GEARMAN_SUCCESS, gearman_client_error(context));
        gearman_client_task_free_all(context);
        done += row;
    }
    must(sum == wanted, "the squares");
}

static void one_in_background(void *context, uint64_t x)
{
    char text[NUMBER_SIZE];
    char handle[GEARMAN_JOB_HANDLE_SIZE];
    must(gearman_client_do_background(context, "kept", NULL, text, text_of(text, x), handle) == GEARMAN_SUCCESS,
         gearman_client_error(context));
}

static void all_in_background(void *context, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        one_in_background(context, (uint64_t)i + 1);
    }
}

int main(int argc, char **argv)
{
    peer_name = "peer_gearman";
    must(argc == 5, "usage: peer_gearman foreground|background PORT TASKS ALONE");
    bool is_background = strcmp(argv[1], "background") == 0;
    port = (in_port_t)number_of(argv[2]);
    if (!is_background) {
        workers_start(worker, NULL);
    }
    peer_measure(number_of(argv[3]), number_of(argv[4]), is_background ? one_in_background : one,
                 is_background ? all_in_background : all, client_open());
    return 0;
}
