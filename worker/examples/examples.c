/* The module: names and handlers. */
#include "examples.h"

static const struct quern_function functions[] = {
    {"square", run_square},
    {"cube", run_cube},
    {"divide", run_divide},
    {"is_prime", run_is_prime},
    {"sum_squares", run_sum_squares},
    {"fibonacci", run_fibonacci},
    {"factorial", run_factorial},
    {"multiply_row", run_multiply_row},
    {"sort_list", run_sort_list},
    {"wordcount", run_wordcount},
    {"sleep", run_sleep},
    {"echo", run_echo},
    {"crash", run_crash},
    {"exit", run_exit},
    {"fail", run_fail},
    {NULL, NULL},
};

QUERN_MODULE(.functions = functions)
