/*
 * fuzz_command.c owns what must hold of any arguments of a command (quern run): they are read or refused; nothing is
 * started here.
 * It must not know what commands do.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "common/check.h"
#include "fuzz/input.h"
#include "quern/value.h"
#include "worker/command.h"
#include "worker/task.h"

#include <errno.h>
#include <spawn.h>

/* In the place of the C library's: no program is there. */
int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    (void)pid;
    (void)actions;
    (void)attributes;
    (void)envp;
    CHECK(file == argv[0]);
    return ENOENT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct quern_task task = {0};
    struct quern_reader args;
    struct quern_writer *result = quern_writer_new();
    task_begin(&task);
    quern_reader_init(&args, data, size);
    CHECK(command_run(&task, &args, result) != QUERN_OK);
    CHECK(task.kind.n > 0 && task.kind.n <= ERROR_KIND_SIZE_MAX && task.message.n <= ERROR_MESSAGE_SIZE_MAX);
    quern_writer_free(result);
    task_fini(&task);
    return 0;
}
