/*
 * fuzz_config.c owns what must hold of any file given as the broker's configuration: it is taken, or refused with a
 * sentence that names the file.
 * It must not know what settings mean.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "broker/config.h"
#include "common/check.h"
#include "fuzz/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    char path[32];
    char *why = NULL;
    int fd = memfd_create("config", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    config_init(&config);
    if (config_load(&config, path, &why) == QUERN_OK) {
        CHECK(why == NULL && config.listen_count <= LISTEN_COUNT_MAX);
        CHECK((config_check(&config, &why) == QUERN_OK) == (why == NULL));
    } else {
        CHECK(why != NULL && strstr(why, path) != NULL);
    }
    free(why);
    config_fini(&config);
    close(fd);
    return 0;
}
