/*
 * matrix: product and sum of two 120 x 120 matrices, one task per row; checked against the straightforward loops. The
 * second matrix does not travel with every row: it is made once, by the initialiser, and shared by all slots.
 */
#include "example.h"

#define N 120

static double left[N][N];
static double right[N][N];

static enum quern_err make_matrices(const char **text_out)
{
    (void)text_out;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < N; k++) {
            left[i][k] = (double)((i * 31 + k * 17) % 101) - 50;
            right[i][k] = (double)((i * 13 + k * 7) % 97) - 48;
        }
    }
    return QUERN_OK;
}

static double product_at(int64_t row, int column)
{
    double sum = 0;

    for (int k = 0; k < N; k++) {
        sum += left[row][k] * right[k][column];
    }
    return sum;
}

static enum quern_err read_row(struct quern_task *task, struct quern_reader *args, int64_t *row_out)
{
    if (quern_read_i64(args, row_out) != QUERN_OK || *row_out < 0 || *row_out >= N) {
        return quern_task_fail_args(task, args, "takes the number of a row");
    }
    return QUERN_OK;
}

static enum quern_err product_row(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t row;
    enum quern_err err = read_row(task, args, &row);

    if (err != QUERN_OK) {
        return err;
    }
    quern_write_array(result, N);
    for (int column = 0; column < N; column++) {
        quern_write_f64(result, product_at(row, column));
    }
    return QUERN_OK;
}

static enum quern_err sum_row(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t row;
    enum quern_err err = read_row(task, args, &row);

    if (err != QUERN_OK) {
        return err;
    }
    quern_write_array(result, N);
    for (int column = 0; column < N; column++) {
        quern_write_f64(result, left[row][column] + right[row][column]);
    }
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"product_row", product_row}, {"sum_row", sum_row}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions, .initialise = make_matrices};

static enum quern_err next_row(void *context, struct quern_writer *args)
{
    int64_t *row = context;

    if (*row == N) {
        return QUERN_END;
    }
    quern_write_array(args, 1);
    quern_write_i64(args, (*row)++);
    return QUERN_OK;
}

/* Rows come in order: the map gives them in the order of the inputs. */
static void by_rows(struct quern_client *client, const char *function, double matrix[N][N])
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map;
    int64_t row = 0;
    enum quern_err err;

    options.call.function = function;
    must(quern_map_open(client, &options, next_row, &row, &map));
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        struct quern_reader reader;
        quern_reader_init(&reader, item.outcome->result, item.outcome->result_size);
        quern_read_array(&reader, NULL);
        for (int column = 0; column < N; column++) {
            quern_read_f64(&reader, &matrix[item.index][column]);
        }
        must(quern_reader_error(&reader));
        quern_outcome_release(&item.outcome);
    }
    must_be_end(err);
    quern_map_close(&map);
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    static double product[N][N];
    static double sum[N][N];
    struct quern_pool *pool = pool_of(2);
    int differences = 0;

    by_rows(quern_pool_client(pool), "product_row", product);
    by_rows(quern_pool_client(pool), "sum_row", sum);
    must(quern_pool_close(&pool, 0));

    (void)make_matrices(NULL);
    for (int row = 0; row < N; row++) {
        for (int column = 0; column < N; column++) {
            differences += product[row][column] != product_at(row, column);
            differences += sum[row][column] != left[row][column] + right[row][column];
        }
    }
    printf("product[0][0] = %g, sum[0][0] = %g, last row: %g and %g\n", product[0][0], sum[0][0], product[N - 1][N - 1],
           sum[N - 1][N - 1]);
    printf("%d of %d values differ from the straightforward ones\n", differences, 2 * N * N);
    return differences != 0;
}
