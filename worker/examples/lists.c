/* Functions of lists. */
#include "examples.h"

#include <stdlib.h>
#include <string.h>

enum kind { KIND_INT, KIND_FLOAT, KIND_TEXT };

struct element {
    enum kind kind;
    int64_t i;
    double f; /* of an INT too */
    const char *p;
    size_t n;
};

struct elements {
    struct element *items;
    size_t count;
};

static bool read_element(struct quern_reader *reader, struct element *element)
{
    switch (quern_peek(reader)) {
    case QUERN_TYPE_INT:
        element->kind = KIND_INT;
        if (quern_read_i64(reader, &element->i) != QUERN_OK) {
            return false;
        }
        element->f = (double)element->i;
        return true;
    case QUERN_TYPE_STR:
        element->kind = KIND_TEXT;
        return quern_read_str(reader, &element->p, &element->n) == QUERN_OK;
    default:
        element->kind = KIND_FLOAT;
        return quern_read_f64(reader, &element->f) == QUERN_OK;
    }
}

/* The caller frees items also when it fails. */
static bool read_elements(struct quern_reader *reader, struct elements *list)
{
    size_t count;
    *list = (struct elements){NULL, 0};
    if (quern_read_array(reader, &count) != QUERN_OK) {
        return false;
    }
    list->items = calloc(count + 1, sizeof(list->items[0]));
    if (list->items == NULL) {
        return false;
    }
    for (; list->count < count; list->count++) {
        if (!read_element(reader, &list->items[list->count])) {
            return false;
        }
    }
    return quern_read_close(reader) == QUERN_OK;
}

static bool is_all(const struct elements *list, enum kind kind)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != kind) {
            return false;
        }
    }
    return true;
}

static bool has(const struct elements *list, enum kind kind)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind == kind) {
            return true;
        }
    }
    return false;
}

/* ---- sum_squares ---- */

static enum quern_err sum_squares(struct quern_task *task, const struct elements *list, struct quern_writer *result)
{
    if (is_all(list, KIND_INT)) {
        int64_t sum = 0;
        for (size_t i = 0; i < list->count; i++) {
            int64_t square;
            if (__builtin_mul_overflow(list->items[i].i, list->items[i].i, &square) ||
                __builtin_add_overflow(sum, square, &sum)) {
                return quern_task_fail(task, "Overflow", "the sum of squares does not fit 64 bits");
            }
        }
        quern_write_i64(result, sum);
        return QUERN_OK;
    }
    double sum = 0;
    for (size_t i = 0; i < list->count; i++) {
        sum += list->items[i].f * list->items[i].f;
    }
    quern_write_f64(result, sum);
    return QUERN_OK;
}

enum quern_err run_sum_squares(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct elements list;
    enum quern_err err;
    if (!read_elements(args, &list) || !args_are_done(args) || has(&list, KIND_TEXT)) {
        err = quern_task_fail_args(task, args, "sum_squares takes one list of numbers");
    } else {
        err = sum_squares(task, &list, result);
    }
    free(list.items);
    return err;
}

/* ---- sort_list ---- */

static int compare_text(const struct element *a, const struct element *b)
{
    int order = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

static int compare(const void *left, const void *right)
{
    const struct element *a = left;
    const struct element *b = right;
    if (a->kind == KIND_TEXT) {
        return compare_text(a, b);
    }
    if (a->kind == KIND_INT && b->kind == KIND_INT) {
        return (a->i > b->i) - (a->i < b->i);
    }
    return (a->f > b->f) - (a->f < b->f);
}

static bool is_sortable(const struct elements *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].kind == KIND_FLOAT && list->items[i].f != list->items[i].f) {
            return false; /* not a number has no place */
        }
    }
    return is_all(list, KIND_TEXT) || !has(list, KIND_TEXT);
}

enum quern_err run_sort_list(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct elements list;
    if (!read_elements(args, &list) || !args_are_done(args) || !is_sortable(&list)) {
        free(list.items);
        return quern_task_fail_args(task, args, "sort_list takes one list, of numbers or of texts");
    }
    qsort(list.items, list.count, sizeof(list.items[0]), compare);
    quern_write_array(result, list.count);
    for (size_t i = 0; i < list.count; i++) {
        const struct element *element = &list.items[i];
        if (element->kind == KIND_INT) {
            quern_write_i64(result, element->i);
        } else if (element->kind == KIND_FLOAT) {
            quern_write_f64(result, element->f);
        } else {
            quern_write_str(result, element->p, element->n);
        }
    }
    free(list.items);
    return QUERN_OK;
}

/* ---- multiply_row: a row times a matrix, or times a number ---- */

struct matrix {
    struct elements *rows;
    size_t count;
};

static void matrix_free(struct matrix *matrix)
{
    for (size_t i = 0; i < matrix->count; i++) {
        free(matrix->rows[i].items);
    }
    free(matrix->rows);
}

static bool read_matrix(struct quern_reader *reader, struct matrix *matrix)
{
    size_t count;
    if (quern_read_array(reader, &count) != QUERN_OK) {
        return false;
    }
    matrix->rows = calloc(count + 1, sizeof(matrix->rows[0]));
    while (matrix->rows != NULL && matrix->count < count) {
        struct elements *row = &matrix->rows[matrix->count++];
        if (!read_elements(reader, row) || has(row, KIND_TEXT) || row->count != matrix->rows[0].count) {
            return false;
        }
    }
    return matrix->rows != NULL && quern_read_close(reader) == QUERN_OK;
}

/* One number of the product; false: an integer that does not fit 64 bits. */
static bool multiply_column(const struct elements *row, const struct matrix *matrix, size_t column, bool is_exact,
                            struct element *product)
{
    *product = (struct element){.kind = is_exact ? KIND_INT : KIND_FLOAT};
    for (size_t i = 0; i < row->count; i++) {
        const struct element *factor = &matrix->rows[i].items[column];
        int64_t part;
        if (!is_exact) {
            product->f += row->items[i].f * factor->f;
        } else if (__builtin_mul_overflow(row->items[i].i, factor->i, &part) ||
                   __builtin_add_overflow(product->i, part, &product->i)) {
            return false;
        }
    }
    return true;
}

static enum quern_err multiply_matrix(struct quern_task *task, const struct elements *row, const struct matrix *matrix,
                                      struct quern_writer *result)
{
    size_t columns = matrix->count > 0 ? matrix->rows[0].count : 0;
    bool is_exact = is_all(row, KIND_INT);
    for (size_t i = 0; i < matrix->count; i++) {
        is_exact = is_exact && is_all(&matrix->rows[i], KIND_INT);
    }
    quern_write_array(result, columns);
    for (size_t column = 0; column < columns; column++) {
        struct element product;
        if (!multiply_column(row, matrix, column, is_exact, &product)) {
            return quern_task_fail(task, "Overflow", "column %zu of the product does not fit 64 bits", column);
        }
        if (is_exact) {
            quern_write_i64(result, product.i);
        } else {
            quern_write_f64(result, product.f);
        }
    }
    return QUERN_OK;
}

static enum quern_err multiply_number(struct quern_task *task, const struct elements *row, const struct element *factor,
                                      struct quern_writer *result)
{
    quern_write_array(result, row->count);
    for (size_t i = 0; i < row->count; i++) {
        int64_t product;
        if (row->items[i].kind != KIND_INT || factor->kind != KIND_INT) {
            quern_write_f64(result, row->items[i].f * factor->f);
        } else if (__builtin_mul_overflow(row->items[i].i, factor->i, &product)) {
            return quern_task_fail(task, "Overflow", "element %zu of the product does not fit 64 bits", i);
        } else {
            quern_write_i64(result, product);
        }
    }
    return QUERN_OK;
}

/* [row, matrix] or [row, number] as two arguments, or as one list of the two (as map gives them). */
static bool enter_pair(struct quern_reader *args)
{
    struct quern_reader ahead = *args;
    size_t count;
    if (quern_read_any(&ahead, NULL, NULL) == QUERN_OK && quern_peek(&ahead) == QUERN_TYPE_NONE) {
        return quern_read_array(args, &count) == QUERN_OK && count == 2;
    }
    return true;
}

enum quern_err run_multiply_row(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    static const char usage[] = "multiply_row takes a list of n numbers, and n lists of numbers or one number";
    struct elements row = {NULL, 0};
    struct matrix matrix = {NULL, 0};
    struct element factor;
    enum quern_err err;
    if (!enter_pair(args) || !read_elements(args, &row) || has(&row, KIND_TEXT)) {
        err = quern_task_fail_args(task, args, usage);
    } else if (quern_peek(args) == QUERN_TYPE_ARRAY) {
        err = read_matrix(args, &matrix) && matrix.count == row.count && quern_peek(args) == QUERN_TYPE_NONE
                  ? multiply_matrix(task, &row, &matrix, result)
                  : quern_task_fail_args(task, args, usage);
    } else {
        err = read_element(args, &factor) && factor.kind != KIND_TEXT && quern_peek(args) == QUERN_TYPE_NONE
                  ? multiply_number(task, &row, &factor, result)
                  : quern_task_fail_args(task, args, usage);
    }
    matrix_free(&matrix);
    free(row.items);
    return err;
}
