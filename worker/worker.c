/*
 * worker.c owns the way into a worker: quern-worker's main and programs of users both come through quern_worker_main.
 * It must not know how a worker works.
 */
#include "quern/worker.h"

#include "common/log.h"
#include "worker/backtrace.h"
#include "worker/birth.h"
#include "worker/nursery.h"
#include "worker/options.h"
#include "worker/supervisor.h"
#include "worker/zygotewire.h"

#include <string.h>

int quern_worker_main(int argc, char **argv, const struct quern_module *module)
{
    if (argc > 1 && strcmp(argv[1], ZYGOTE_ARGUMENT) == 0) {
        return nursery_main(argc, argv, module);
    }
    if (argc > 1 && strcmp(argv[1], SLOT_ARGUMENT) == 0) {
        return birth_main(argc, argv, module);
    }
    if (argc > 1 && strcmp(argv[1], BACKTRACE_ARGUMENT) == 0) {
        return backtrace_main(argc, argv);
    }
    if (argc > 1 && strcmp(argv[1], QUERN_WORKER_ARGUMENT) == 0) {
        argv[1] = argv[0];
        argv++;
        argc--;
    }
    struct options options;
    switch (options_read(&options, argc, argv, module != NULL)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_USAGE:
        return 2;
    default:
        log_open("worker", options.level);
        return supervisor_run(&options);
    }
}
