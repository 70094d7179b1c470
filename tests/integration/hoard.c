/*
 * hoard.c: a client for stories that takes nothing: submits COUNT calls of `echo` with SIZE bytes each, says
 * `submitted`, and holds the connection until its stdin ends. hoard SESSION COUNT SIZE Must not know: how the broker
 * bears it. Start reading at main.
 */
#include <quern/client.h>
#include <quern/value.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
    (void)fprintf(stderr, "hoard: %s: %s\n", what, quern_last_error());
    return EXIT_FAILURE;
}

/* msgpack: an array of one binary of that size. */
static unsigned char *make_args(size_t size, size_t *args_size_out)
{
    unsigned char *args = malloc(size + 6);

    if (args == NULL) {
        abort();
    }
    args[0] = 0x91;
    args[1] = 0xc6;
    for (unsigned i = 0; i < 4; i++) {
        args[2 + i] = (unsigned char)(size >> (8 * (3 - i)));
    }
    memset(args + 6, 'h', size);
    *args_size_out = size + 6;
    return args;
}

int main(int argc, char **argv)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client = NULL;
    struct quern_call call = QUERN_CALL_INIT;
    unsigned char *args = NULL;
    unsigned long count = 0;
    char byte = 0;

    if (argc != 4) {
        return 2;
    }
    count = strtoul(argv[2], NULL, 10);
    args = make_args(strtoul(argv[3], NULL, 10), &call.args_size);
    options.session = argv[1];
    if (quern_client_open(&options, &client) != QUERN_OK) {
        return fail("open");
    }
    call.function = "echo";
    call.args = args;
    for (unsigned long i = 0; i < count; i++) {
        if (quern_submit(client, &call, NULL, NULL) != QUERN_OK) {
            return fail("submit");
        }
    }
    if (quern_flush(client, 600000) != QUERN_OK) {
        return fail("flush");
    }
    (void)printf("submitted\n");
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    free(args);
    return quern_client_close(&client, 0) == QUERN_OK ? EXIT_SUCCESS : fail("close");
}
