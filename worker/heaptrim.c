/*
 * heaptrim.c owns giving back to the kernel what this process has freed.
 * It must not know what the memory was for.
 * Start reading at heaptrim_look.
 */
#include "worker/heaptrim.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

/* Memory of this process that is not files or shared, in bytes; 0: it cannot be told. */
static size_t resident_size(void)
{
    size_t resident = 0;
    size_t shared = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%*u %zu %zu", &resident, &shared) != 2 || resident < shared) {
        resident = shared = 0;
    }
    fclose(file);
    return (resident - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t used_size(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

void heaptrim_look(struct heaptrim *trim, int64_t mono_ms)
{
    if (mono_ms < trim->again_ms) {
        return;
    }
    trim->again_ms = mono_ms + HEAPTRIM_LOOK_MS;
    if (resident_size() > used_size() + HEAPTRIM_KEEP_SIZE) {
        (void)malloc_trim(0);
    }
}
