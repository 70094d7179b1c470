/*
 * pool_process.h: one program that a pool runs beside itself, broker or worker: starting it, hearing whether it is
 * ready or what its last words were, ending it. Belongs to one thread at a time. Without lock.
 */
#ifndef QUERN_CLIENT_POOL_PROCESS_H
#define QUERN_CLIENT_POOL_PROCESS_H

#include "quern/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define POOL_WORDS_SIZE_MAX 2048u

/* What all processes of a pool are given, as it was when the pool was opened. */
struct pool_ground {
    char **environment;
    int directory; /* the program's working directory */
    int tie[2];    /* a pipe; its write end is the program's */
    int self;      /* pidfd of the program */
};

struct pool_process {
    char *path;  /* of the program */
    char **argv; /* ends with NULL */
    size_t argc;
    bool is_short; /* there was no memory for an argument */
    pid_t pid;     /* 0: none */
    int pidfd;     /* -1: none */
    int ready_fd;  /* -1: it is ready, or gone */
    bool is_ready;
    char words[POOL_WORDS_SIZE_MAX]; /* its errors before it was ready */
    size_t words_size;
    bool was_killed; /* how it ended: by a signal, */
    int end_number;  /* which, or the exit status; -1: the program was told by somebody else */
};

/* Numbers of descriptors in a process of a pool; argv says them. */
#define POOL_TIE_WORD "3"
#define POOL_SELF_WORD "4"
#define POOL_READY_WORD "5"

/* QUERN_IO, QUERN_NO_MEMORY with the text set. */
QUERN_MUST_USE enum quern_err pool_ground_open(struct pool_ground *ground_out);
void pool_ground_close(struct pool_ground *ground); /* cuts the tie: processes that hold it end at once */

void pool_process_init(struct pool_process *process);
void pool_process_fini(struct pool_process *process); /* one that does not run */
/* Copies; notes in is_short if it cannot. NULL: what the argument was made from could not. */
void pool_process_add(struct pool_process *process, const char *argument);

/* 0, or errno. */
int pool_process_start(struct pool_process *process, const struct pool_ground *ground);
bool pool_process_is_running(const struct pool_process *process);
/* Takes in what it said, and its end. After pidfd or ready_fd have reported something. */
void pool_process_look(struct pool_process *process);
/* In words how it ended; into text. */
void pool_process_obituary(const struct pool_process *process, char *text, size_t size);
void pool_process_signal(const struct pool_process *process, int number);
/* Waits for its end; false: not within that time. */
bool pool_process_await_end(struct pool_process *process, int timeout_ms);

#endif
