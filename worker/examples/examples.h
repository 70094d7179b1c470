/*
 * The example functions, as a module: examples.c lists them, numbers.c, lists.c, files.c and trouble.c hold them.
 * They use nothing but the public headers.
 */
#ifndef QUERN_EXAMPLES_H
#define QUERN_EXAMPLES_H

#include <quern/worker.h>

quern_handler run_square, run_cube, run_divide, run_is_prime, run_fibonacci, run_factorial;
quern_handler run_sum_squares, run_multiply_row, run_sort_list;
quern_handler run_wordcount;
quern_handler run_sleep, run_echo, run_crash, run_exit, run_fail;

/* Are all arguments read, and well? */
static inline bool args_are_done(struct quern_reader *args)
{
    return quern_peek(args) == QUERN_TYPE_NONE && quern_reader_error(args) == QUERN_OK;
}

#endif
