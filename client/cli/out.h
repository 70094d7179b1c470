/*
 * Standard output, buffered: what was put counts as written only after out_flush answered true. Must not know what is
 * printed. A signal ends a write that waits for a slow reader.
 */
#ifndef QUERN_CLI_OUT_H
#define QUERN_CLI_OUT_H

#include "common/bytes.h"

enum out_state {
    OUT_OK,
    OUT_CLOSED,      /* the reader is gone (EPIPE) */
    OUT_BROKEN,      /* another error: disk full ... (said once) */
    OUT_INTERRUPTED, /* a signal came while the reader was slow */
};

struct out {
    int fd;
    bool is_file;     /* a regular file: writes do not wait */
    bool is_terminal; /* the progress line may stand there */
    enum out_state state;
    size_t written; /* after a failure: bytes of buf that were written before it */
    struct buf buf;
};

void out_init(struct out *out, int fd);
void out_fini(struct out *out); /* does not write */
/* Writes everything that was put into out->buf. False for good after the first failure. */
bool out_flush(struct out *out);
/* Flush and answer the exit status: `status`, or what the failure means. */
int out_finish(struct out *out, int status);

#endif
