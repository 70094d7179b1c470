/*
 * factorials: the same work (10,000!, 15,000!, 20,000!) with one slot and with three. Results are long numbers: here
 * only the count of their decimal digits travels back. Times are printed to stderr: they are this machine's.
 */
#include "example.h"

#include <gmp.h>
#include <time.h>

static enum quern_err factorial_digits(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t n;

    if (quern_read_u64(args, &n) != QUERN_OK) {
        return quern_task_fail_args(task, args, "factorial_digits takes one number");
    }
    mpz_t product;
    mpz_init_set_ui(product, 1);
    for (uint64_t i = 2; i <= n; i++) { /* on purpose not mpz_fac_ui: it would be too fast to compare */
        mpz_mul_ui(product, product, i);
    }
    char *text = mpz_get_str(NULL, 10, product);
    size_t digits = 0;
    while (text[digits] != '\0') {
        digits++;
    }
    quern_write_u64(result, digits);
    free(text);
    mpz_clear(product);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"factorial_digits", factorial_digits}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_with(unsigned slots)
{
    static const int64_t inputs[] = {10000, 15000, 20000};
    struct quern_pool *pool = pool_of(slots);
    struct quern_future *futures[3];
    double start = now();

    for (int i = 0; i < 3; i++) {
        futures[i] = submit_i64(quern_pool_client(pool), "factorial_digits", inputs[i]);
    }
    for (int i = 0; i < 3; i++) {
        printf("%" PRId64 "! has %" PRId64 " digits\n", inputs[i], result_i64(futures[i]));
        quern_future_release(&futures[i]);
    }
    fprintf(stderr, "%u slot%s: %.3f s\n", slots, slots == 1 ? "" : "s", now() - start);
    must(quern_pool_close(&pool, 0));
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);
    run_with(1);
    run_with(3);
    return 0;
}
