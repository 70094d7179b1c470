/*
 * primes: which of some large numbers are prime, and how many primes there are up to 100,000: the first by submit, the
 * second by a map over ranges.
 */
#include "example.h"

#define LIMIT 100000
#define RANGE 5000

static bool number_is_prime(int64_t n)
{
    if (n < 2 || (n % 2 == 0 && n != 2)) {
        return false;
    }
    for (int64_t d = 3; d <= n / d; d += 2) {
        if (n % d == 0) {
            return false;
        }
    }
    return true;
}

static enum quern_err is_prime(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t n;

    if (quern_read_i64(args, &n) != QUERN_OK) {
        return quern_task_fail_args(task, args, "is_prime takes one integer");
    }
    quern_write_i64(result, number_is_prime(n));
    return QUERN_OK;
}

static enum quern_err count_primes(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t first;
    int64_t last;
    int64_t count = 0;

    if (quern_read_i64(args, &first) != QUERN_OK || quern_read_i64(args, &last) != QUERN_OK) {
        return quern_task_fail_args(task, args, "count_primes takes the first and the last number");
    }
    for (int64_t n = first; n <= last; n++) {
        count += number_is_prime(n);
    }
    quern_write_i64(result, count);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"is_prime", is_prime}, {"count_primes", count_primes}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static enum quern_err next_range(void *context, struct quern_writer *args)
{
    int64_t *first = context;

    if (*first > LIMIT) {
        return QUERN_END;
    }
    quern_write_array(args, 2);
    quern_write_i64(args, *first);
    quern_write_i64(args, *first + RANGE - 1);
    *first += RANGE;
    return QUERN_OK;
}

static int64_t count_up_to_limit(struct quern_client *client)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map;
    int64_t first = 1;
    int64_t count = 0;
    enum quern_err err;

    options.call.function = "count_primes";
    options.order = QUERN_COMPLETION_ORDER; /* a sum does not care */
    must(quern_map_open(client, &options, next_range, &first, &map));
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        count += outcome_i64(item.outcome);
        quern_outcome_release(&item.outcome);
    }
    must_be_end(err);
    quern_map_close(&map);
    return count;
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    static const int64_t numbers[] = {112272535095293, 112582705942171, 112272535095293, 115280095190773};
    struct quern_pool *pool = pool_of(2);
    struct quern_future *futures[4];

    for (int i = 0; i < 4; i++) {
        futures[i] = submit_i64(quern_pool_client(pool), "is_prime", numbers[i]);
    }
    for (int i = 0; i < 4; i++) {
        printf("%" PRId64 " is %s\n", numbers[i], result_i64(futures[i]) ? "prime" : "not prime");
        quern_future_release(&futures[i]);
    }
    printf("%" PRId64 " primes up to %d\n", count_up_to_limit(quern_pool_client(pool)), LIMIT);
    must(quern_pool_close(&pool, 0));
    return 0;
}
