/*
 * sort_lists: four lists sorted at the same time; the lists travel there and back as values.
 */
#include "example.h"

static const int64_t lists[4][8] = {
    {5, 2, 9, 1, 5, 6, 0, 3}, {-3, 8, 4, 7, 0, -1, 2, 2}, {100, 99, 98, 97, 96, 95, 94, 93}, {1, 2, 3, 4, 5, 6, 7, 8}};

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static enum quern_err sort(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    size_t count;

    if (quern_read_array(args, &count) != QUERN_OK) {
        return quern_task_fail_args(task, args, "sort takes one list of integers");
    }
    int64_t *list = calloc(count + 1, sizeof *list);
    for (size_t i = 0; i < count && list != NULL; i++) {
        quern_read_i64(args, &list[i]);
    }
    if (list == NULL || quern_reader_error(args) != QUERN_OK) {
        free(list);
        return quern_task_fail_args(task, args, "sort takes one list of integers");
    }
    qsort(list, count, sizeof *list, by_value);
    quern_write_array(result, count);
    for (size_t i = 0; i < count; i++) {
        quern_write_i64(result, list[i]);
    }
    free(list);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"sort", sort}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static struct quern_future *submit_list(struct quern_client *client, const int64_t list[8])
{
    struct quern_writer *args = quern_writer_new();
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_future *future;

    quern_write_array(args, 1);
    quern_write_array(args, 8);
    for (int i = 0; i < 8; i++) {
        quern_write_i64(args, list[i]);
    }
    call.function = "sort";
    quern_writer_bytes(args, &call.args, &call.args_size);
    must(quern_submit(client, &call, &future, NULL));
    quern_writer_free(args);
    return future;
}

static void print_list(struct quern_future *future)
{
    struct quern_outcome *outcome;
    struct quern_reader reader;
    size_t count;

    must(quern_future_result(future, QUERN_FOREVER, &outcome));
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    must(quern_read_array(&reader, &count));
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        must(quern_read_i64(&reader, &value));
        printf("%s%" PRId64, i == 0 ? "" : " ", value);
    }
    printf("\n");
    quern_outcome_release(&outcome);
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(4);
    struct quern_future *futures[4];

    for (int i = 0; i < 4; i++) {
        futures[i] = submit_list(quern_pool_client(pool), lists[i]);
    }
    for (int i = 0; i < 4; i++) {
        print_list(futures[i]);
        quern_future_release(&futures[i]);
    }
    must(quern_pool_close(&pool, 0));
    return 0;
}
