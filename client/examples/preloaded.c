/*
 * preloaded: a table of 128 MiB, made once by the initialiser and shared by all slots: they are forked from the process
 * that made it, and memory that nobody writes to exists once. Each task says how much of the table its own process
 * holds for itself (Private in /proc/self/smaps).
 */
#include "example.h"

#include <string.h>

#define TABLE_SIZE ((size_t)128 << 20)
#define TASKS 6

static unsigned char *table;

static enum quern_err make_table(const char **text_out)
{
    table = malloc(TABLE_SIZE);
    if (table == NULL) {
        *text_out = "no memory for the table";
        return QUERN_NO_MEMORY;
    }
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        table[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    return QUERN_OK;
}

/* KiB of the mapping of the table that belong to this process alone. */
static int64_t private_kib(void)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from;
    unsigned long to;
    long kib;
    bool is_table = false;
    int64_t sum = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            is_table = (unsigned long)table >= from && (unsigned long)table < to;
        } else if (is_table &&
                   (sscanf(line, "Private_Clean: %ld", &kib) == 1 || sscanf(line, "Private_Dirty: %ld", &kib) == 1)) {
            sum += kib;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return sum;
}

/* Reads the whole table: sum of every 64th byte, and what of the table is not shared. */
static enum quern_err look(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t sum = 0;

    (void)task;
    (void)args;
    for (size_t i = 0; i < TABLE_SIZE; i += 64) {
        sum += table[i];
    }
    quern_write_array(result, 2);
    quern_write_u64(result, sum);
    quern_write_i64(result, private_kib());
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"look", look}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions, .initialise = make_table};

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(3);
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_future *futures[TASKS];
    uint64_t first = 0;
    int64_t most = 0;

    call.function = "look";
    for (int i = 0; i < TASKS; i++) {
        must(quern_submit(quern_pool_client(pool), &call, &futures[i], NULL));
    }
    for (int i = 0; i < TASKS; i++) {
        struct quern_outcome *outcome;
        struct quern_reader reader;
        uint64_t sum;
        int64_t kib;

        must(quern_future_result(futures[i], QUERN_FOREVER, &outcome));
        quern_reader_init(&reader, outcome->result, outcome->result_size);
        quern_read_array(&reader, NULL);
        quern_read_u64(&reader, &sum);
        must(quern_read_i64(&reader, &kib));
        first = i == 0 ? sum : first;
        most = kib > most ? kib : most;
        printf("task %d saw the %s table\n", i, sum == first ? "same" : "wrong");
        quern_outcome_release(&outcome);
        quern_future_release(&futures[i]);
    }
    printf("%zu MiB, shared by all slots: %s\n", TABLE_SIZE >> 20, most < 1024 ? "yes" : "no");
    must(quern_pool_close(&pool, 0));
    return most >= 1024;
}
