/* Functions of one or two numbers: exact, or an error, never wrong. */
#include "examples.h"

#include <gmp.h>
#include <stdlib.h>
#include <string.h>

#define FIBONACCI_MAX 1000000u
#define FACTORIAL_MAX 100000u

static bool read_one_i64(struct quern_reader *args, int64_t *x_out)
{
    return quern_read_i64(args, x_out) == QUERN_OK && args_are_done(args);
}

static bool read_one_f64(struct quern_reader *args, double *x_out)
{
    return quern_read_f64(args, x_out) == QUERN_OK && args_are_done(args);
}

static enum quern_err power(struct quern_task *task, struct quern_reader *args, struct quern_writer *result,
                            unsigned exponent, const char *usage)
{
    if (quern_peek(args) == QUERN_TYPE_FLOAT) {
        double x;
        if (!read_one_f64(args, &x)) {
            return quern_task_fail_args(task, args, usage);
        }
        quern_write_f64(result, exponent == 2 ? x * x : x * x * x);
        return QUERN_OK;
    }
    int64_t x;
    int64_t y;
    if (!read_one_i64(args, &x)) {
        return quern_task_fail_args(task, args, usage);
    }
    if (__builtin_mul_overflow(x, x, &y) || (exponent == 3 && __builtin_mul_overflow(y, x, &y))) {
        return quern_task_fail(task, "Overflow", "%lld to the power of %u does not fit 64 bits", (long long)x,
                               exponent);
    }
    quern_write_i64(result, y);
    return QUERN_OK;
}

enum quern_err run_square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    return power(task, args, result, 2, "square takes one number");
}

enum quern_err run_cube(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    return power(task, args, result, 3, "cube takes one number");
}

static enum quern_err divide_integers(struct quern_task *task, struct quern_writer *result, int64_t a, int64_t b)
{
    if (b == 0) {
        return quern_task_fail(task, "DivisionByZero", "%lld / 0", (long long)a);
    }
    if (b != -1 && a % b == 0) {
        quern_write_i64(result, a / b);
    } else if (b == -1 && a != INT64_MIN) {
        quern_write_i64(result, -a);
    } else {
        quern_write_f64(result, (double)a / (double)b);
    }
    return QUERN_OK;
}

/* divide(x) is 100 / x, divide(a, b) is a / b. Integers that divide evenly give an integer. */
enum quern_err run_divide(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct quern_reader again = *args;
    int64_t a = 100;
    int64_t b;
    if (quern_read_i64(&again, &b) == QUERN_OK) {
        bool is_pair = quern_peek(&again) != QUERN_TYPE_NONE;
        a = is_pair ? b : a;
        if (!is_pair || quern_read_i64(&again, &b) == QUERN_OK) {
            return args_are_done(&again) ? divide_integers(task, result, a, b)
                                         : quern_task_fail_args(task, &again, "divide takes x, or a and b");
        }
    }
    double x = 100;
    double y;
    if (quern_read_f64(args, &y) == QUERN_OK && quern_peek(args) != QUERN_TYPE_NONE) {
        x = y;
        (void)quern_read_f64(args, &y);
    }
    if (!args_are_done(args)) {
        return quern_task_fail_args(task, args, "divide takes x, or a and b");
    }
    if (y == 0) {
        return quern_task_fail(task, "DivisionByZero", "%g / 0", x);
    }
    quern_write_f64(result, x / y);
    return QUERN_OK;
}

__extension__ typedef unsigned __int128 wide;

static uint64_t multiply_modulo(uint64_t a, uint64_t b, uint64_t m)
{
    return (uint64_t)((wide)a * b % m);
}

static uint64_t power_modulo(uint64_t base, uint64_t exponent, uint64_t m)
{
    uint64_t product = 1;
    for (; exponent > 0; exponent >>= 1) {
        product = exponent & 1 ? multiply_modulo(product, base, m) : product;
        base = multiply_modulo(base, base, m);
    }
    return product;
}

static bool passes(uint64_t n, uint64_t witness)
{
    unsigned twos = (unsigned)__builtin_ctzll(n - 1);
    uint64_t x = power_modulo(witness % n, (n - 1) >> twos, n);
    if (x == 1 || x == n - 1 || witness % n == 0) {
        return true;
    }
    for (unsigned i = 1; i < twos; i++) {
        x = multiply_modulo(x, x, n);
        if (x == n - 1) {
            return true;
        }
    }
    return false;
}

/* Miller-Rabin; with the first twelve primes as witnesses it is exact below 3.3e24. */
static bool is_prime(uint64_t n)
{
    static const uint64_t witnesses[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
    if (n < 2 || (n % 2 == 0 && n != 2)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(witnesses) / sizeof(witnesses[0]); i++) {
        if (n == witnesses[i]) {
            return true;
        }
        if (!passes(n, witnesses[i])) {
            return false;
        }
    }
    return true;
}

enum quern_err run_is_prime(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct quern_reader again = *args;
    uint64_t n;
    int64_t negative;
    if (quern_read_u64(args, &n) == QUERN_OK && args_are_done(args)) {
        quern_write_bool(result, is_prime(n));
        return QUERN_OK;
    }
    if (read_one_i64(&again, &negative)) {
        quern_write_bool(result, false);
        return QUERN_OK;
    }
    return quern_task_fail_args(task, args, "is_prime takes one integer of at most 64 bits");
}

/* An integer if it fits 64 bits, else its decimal digits as text. */
static void write_exact(struct quern_writer *result, const mpz_t value)
{
    if (mpz_sizeinbase(value, 2) <= 64) {
        quern_write_u64(result, mpz_get_ui(value));
        return;
    }
    char *digits = mpz_get_str(NULL, 10, value);
    quern_write_text(result, digits);
    free(digits);
}

_Static_assert(sizeof(unsigned long) == 8, "mpz_get_ui gives 64 bits");

enum quern_err run_fibonacci(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t n;
    if (quern_read_u64(args, &n) != QUERN_OK || !args_are_done(args) || n > FIBONACCI_MAX) {
        return quern_task_fail_args(task, args, "fibonacci takes one integer from 0 to 1000000");
    }
    mpz_t value;
    mpz_init(value);
    mpz_fib_ui(value, n);
    write_exact(result, value);
    mpz_clear(value);
    return QUERN_OK;
}

enum quern_err run_factorial(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t n;
    if (quern_read_u64(args, &n) != QUERN_OK || !args_are_done(args) || n > FACTORIAL_MAX) {
        return quern_task_fail_args(task, args, "factorial takes one integer from 0 to 100000");
    }
    mpz_t value;
    mpz_init(value);
    mpz_fac_ui(value, n);
    write_exact(result, value);
    mpz_clear(value);
    return QUERN_OK;
}
