/*
 * Every bound of quern, by name: unit in the name, default here, shown by `quern status`.
 * Knows nothing. A bound that a configuration file may change is listed in LIMITS_TUNABLE and read through
 * `struct limits`; every other bound is a constant.
 */
#ifndef QUERN_COMMON_LIMITS_H
#define QUERN_COMMON_LIMITS_H

#include <stdint.h>

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* ---- names and texts, in bytes of UTF-8 ---- */
#define FUNCTION_NAME_SIZE_MAX 128u
#define QUEUE_NAME_SIZE_MAX 128u
#define SESSION_NAME_SIZE_MAX 128u
#define WORKER_NAME_SIZE_MAX 256u
#define WORKER_MEMORY_SIZE_MAX 256u
#define HOST_NAME_SIZE_MAX 255u
#define PROGRAM_NAME_SIZE_MAX 128u
#define ERROR_KIND_SIZE_MAX 128u
#define ERROR_MESSAGE_SIZE_MAX 4096u
#define ERROR_DETAIL_SIZE_MAX (64u * 1024u)
/* Of what an attempt wrote to stderr: its end, kept if it failed. */
#define ERROR_STDERR_SIZE_MAX 4096u
#define BACKTRACE_SIZE_MAX (8u * 1024u)
/* The same of stdout. All together, and what else is told of a failure: see report.h. */
#define ERROR_STDOUT_SIZE_MAX 4096u
#define REPORT_SIZE_MAX (20u * 1024u)
/* Of what an attempt wrote to each of stdout and stderr: its beginning and its end; what lies between is counted. */
#define OUTPUT_HEAD_SIZE (16u * 1024u)
#define OUTPUT_TAIL_SIZE (48u * 1024u)
/* Both streams, in pieces in the order they came: see output.h. */
#define OUTPUT_CHUNK_COUNT_MAX 1024u
#define OUTPUT_SIZE_MAX (160u * 1024u)
/* Of one task: the output of its last attempts, by their numbers. */
#define OUTPUT_ATTEMPT_COUNT_MAX 8u
/* Output of attempts that have ended, kept by one worker until the broker has it; of more only the sizes. */
#define OUTPUT_HELD_BYTES_MAX (32u * 1024u * 1024u)
/* What a worker is asked about output at once; a broker waits so long for its answer. */
#define LOOK_COUNT_MAX 64u
#define LOOK_WAIT_MS 2000
#define PROGRESS_TEXT_SIZE_MAX 256u
#define DESCRIPTION_SIZE_MAX (64u * 1024u)
#define OPTIONS_SIZE_MAX 256u
#define URL_SIZE_MAX 256u
#define URL_COUNT_MAX 16u
#define DIGEST_SIZE 32u
#define UUID_SIZE 16u

/* ---- payloads and frames ---- */
/* Arguments of a task, or its result: bytes of msgpack. */
#define PAYLOAD_SIZE_MAX (16u * 1024u * 1024u)
/* One ZeroMQ message: a payload, its arguments beside it where asked for, and room for an envelope. */
#define FRAME_SIZE_MAX (34u * 1024u * 1024u)
/* Bytes that a local socket holds on their way out: a megabyte goes through in a step or two, not in ten, each of which
 * has both ends switch. The kernel may allow less (net.core.wmem_max). */
#define LOCAL_BUFFER_SIZE (1024 * 1024)
/* A batch is closed when it has grown to this; an empty one takes a message of any legal size. */
#define BATCH_SIZE_SOFT (256u * 1024u)
#define BATCH_COUNT_SOFT 4096u
/* Levels of nesting in a message, itself included, and in a payload where it is decoded (arguments, JSON). */
#define ENVELOPE_DEPTH_MAX 8u
#define VALUE_DEPTH_MAX 64u
/* What is longer is malformed: nobody is to be busy with one frame for long. */
#define LIST_ITEM_COUNT_MAX 65536u
#define FRAME_MESSAGE_COUNT_MAX 65536u
/* Protocol errors after which a peer is dropped. */
#define PEER_ERROR_COUNT_MAX 8u
/* Messages of unknown kinds after which it is dropped too: a newer peer may send some, each is answered. */
#define PEER_UNKNOWN_COUNT_MAX 1024u

/* ---- numbers of a task ---- */
#define PRIORITY_MIN (-1000)
#define PRIORITY_MAX 1000
#define DURATION_MS_MAX ((uint64_t)366 * 24 * 3600 * 1000)
/* A wall clock time: the end of the year 9999. */
#define WALL_MS_MAX ((uint64_t)253402300799999)
/* While tasks wait for such a time the broker looks at its clock at least this often: somebody may have set it. */
#define WALL_LOOK_MS 1000
/* Tasks that expire in one step of the broker: a million of them must not hold up the others. */
#define EXPIRE_COUNT_MAX 4096u
#define ATTEMPTS_MAX 1000u
/* A limit of memory that grows with every failed attempt: by so many percent of the one before, */
#define MEMORY_GROWTH_MAX 10000u
/* and, if no other cap is named, up to so many times the first. */
#define MEMORY_GROWTH_CAP 16u
/* What `alone` of a task can be: nothing may run beside it on its worker. */
#define ALONE_NEVER 0u
#define ALONE_ALWAYS 1u
#define ALONE_RETRIED 2u /* from its second attempt on */
/* Tasks that wait for one another, one inside the other. */
#define TASK_DEPTH_MAX 64u
/* An attempt's number rises with every dispatch, blamed or not; a higher one is not believed. */
#define ATTEMPT_NUMBER_MAX 0x7fffffffu
#define CRASHES_MAX_DEFAULT 3u
#define LOSSES_MAX_DEFAULT 10u
/* Where doubling ends if a retry policy names no cap. */
#define BACKOFF_CAP_MS_DEFAULT ((uint64_t)3600 * 1000)
#define SEQUENCE_MAX 0x7fffffffu
#define SERIES_MAX 0x7fffffffu
/* Series of a session that are kept: its owner's, and those of the last ones before it. */
#define SESSION_SERIES_COUNT_MAX 4u
#define REFUSED_RANGE_COUNT_MAX 1024u
/* Numbers of sessions and series that are reserved at once; a crash leaves the rest of them unused. */
#define NUMBER_BLOCK_COUNT 256u
#define TAKEN_RANGE_COUNT_MAX 256u

/* ---- what one broker holds ---- */
#define CONNECTION_COUNT_MAX 16384u
#define LANE_COUNT_MAX 16384u
#define CALL_COUNT_MAX 65536u
#define SESSION_COUNT_MAX 65536u
#define WORKER_COUNT_MAX 4096u
#define WORKER_FUNCTION_COUNT_MAX 1024u
#define WORKER_QUEUE_COUNT_MAX 256u
#define WORKER_HELD_COUNT_MAX 65536u
/* The broker looks this often whether what waits at one worker could begin at another, and at so much at most. */
#define BALANCE_MS 20
#define BALANCE_LOOK_COUNT_MAX 1024u
#define WORKER_HELD_BYTES_MAX (256u * 1024u * 1024u)
#define SLOT_COUNT_MAX 1024u
/* Slots of one worker whose handlers wait for other tasks; of one with more than half as many slots, twice those. */
#define WORKER_WAITING_COUNT_MAX 64u
/* Threads and processes of one command that wait for other tasks. */
#define COMMAND_WAITER_COUNT_MAX 256u
#define QUERY_ROW_COUNT_MAX 10000u
#define QUERY_OPEN_COUNT_MAX 50000u
#define QUERY_COUNT_MAX 64u
#define QUERY_SLICE_US 2000u
/* The name of a backup's file, its end included; clients that wait for one backup. */
#define BACKUP_PATH_SIZE_MAX 4000u
#define BACKUP_WAITER_COUNT_MAX 16u

/* name, value: bounds on what a peer may say that are the same for every broker of this version. */
#define LIMITS_FIXED(X)                                                                                                \
    X(frame_size_max, FRAME_SIZE_MAX)                                                                                  \
    X(payload_size_max, PAYLOAD_SIZE_MAX)                                                                              \
    X(connection_count_max, CONNECTION_COUNT_MAX)                                                                      \
    X(peer_error_count_max, PEER_ERROR_COUNT_MAX)                                                                      \
    X(peer_unknown_count_max, PEER_UNKNOWN_COUNT_MAX)                                                                  \
    X(session_count_max, SESSION_COUNT_MAX)                                                                            \
    X(session_series_count_max, SESSION_SERIES_COUNT_MAX)                                                              \
    X(refused_range_count_max, REFUSED_RANGE_COUNT_MAX)                                                                \
    X(taken_range_count_max, TAKEN_RANGE_COUNT_MAX)                                                                    \
    X(lane_count_max, LANE_COUNT_MAX)                                                                                  \
    X(call_count_max, CALL_COUNT_MAX)                                                                                  \
    X(worker_count_max, WORKER_COUNT_MAX)                                                                              \
    X(worker_function_count_max, WORKER_FUNCTION_COUNT_MAX)                                                            \
    X(worker_queue_count_max, WORKER_QUEUE_COUNT_MAX)                                                                  \
    X(worker_held_count_max, WORKER_HELD_COUNT_MAX)                                                                    \
    X(worker_held_bytes_max, WORKER_HELD_BYTES_MAX)                                                                    \
    X(query_count_max, QUERY_COUNT_MAX)                                                                                \
    X(query_row_count_max, QUERY_ROW_COUNT_MAX)                                                                        \
    X(query_open_count_max, QUERY_OPEN_COUNT_MAX)                                                                      \
    X(task_depth_max, TASK_DEPTH_MAX)                                                                                  \
    X(attempts_max, ATTEMPTS_MAX)                                                                                      \
    X(duration_ms_max, DURATION_MS_MAX)                                                                                \
    X(function_name_size_max, FUNCTION_NAME_SIZE_MAX)                                                                  \
    X(queue_name_size_max, QUEUE_NAME_SIZE_MAX)                                                                        \
    X(session_name_size_max, SESSION_NAME_SIZE_MAX)                                                                    \
    X(worker_name_size_max, WORKER_NAME_SIZE_MAX)                                                                      \
    X(description_size_max, DESCRIPTION_SIZE_MAX)                                                                      \
    X(error_message_size_max, ERROR_MESSAGE_SIZE_MAX)                                                                  \
    X(error_detail_size_max, ERROR_DETAIL_SIZE_MAX)

/* name, unit, default, meaning: bounds that the broker's configuration file may set (`limits/NAME = VALUE`) */
#define LIMITS_TUNABLE(X)                                                                                              \
    X(heartbeat_ms, 3000, "a peer with nothing to say sends a PING this often")                                        \
    X(dead_ms, 10000, "a peer that was silent for this long is dropped")                                               \
    X(lease_ms, 15000, "a worker that did not renew for this long has lost what it held")                              \
    X(claim_ms, 1000, "after an unclean end ready tasks wait this long at most for workers that still have them")      \
    X(lazy_commit_ms, 50, "lease rows commit by themselves after this time")                                           \
    X(session_gone_ms, 60000, "without its client: an unnamed session goes, a volatile one's unstarted work first")    \
    X(session_idle_ms, (uint64_t)7 * 24 * 3600 * 1000, "a named session without tasks or client ends after this time") \
    X(task_count_max, 20000000, "live tasks; beyond it submits are refused")                                           \
    X(task_bytes_max, 8 * GIB, "bytes of live tasks' arguments; beyond it submits are refused")                        \
    X(ready_count_max, 500000,                                                                                         \
      "ready tasks in memory; with more, each session keeps few there, the rest on disk only")                         \
    X(ready_bytes_max, 256 * MIB, "arguments in memory; the same")                                                     \
    X(ready_turn_count, 32768, "ready tasks of one session, queue and function in memory; the rest is on disk only")   \
    X(unacked_count_max, 20000000, "outcomes nobody has acknowledged; beyond it submits are refused")                  \
    X(unacked_bytes_max, 64 * GIB, "bytes of the same")                                                                \
    X(unacked_keep_ms, (uint64_t)7 * 24 * 3600 * 1000, "unacknowledged outcomes of a session without tasks or client") \
    X(left_keep_ms, (uint64_t)24 * 3600 * 1000, "the same of an unnamed session that its client left")                 \
    X(acked_keep_ms, (uint64_t)24 * 3600 * 1000, "acknowledged outcomes stay this long")                               \
    X(acked_count_max, 1000000, "acknowledged outcomes that stay")                                                     \
    X(acked_bytes_max, 1 * GIB, "bytes of the same")                                                                   \
    X(retention_row_count, 4000, "rows deleted in one batch")                                                          \
    X(args_keep_size, 4096, "arguments up to this size stay with a done outcome")                                      \
    X(client_window_count, 20000, "submits a client may have unanswered")                                              \
    X(client_window_bytes, 2 * MIB, "bytes of the same")                                                               \
    X(submit_pool_bytes, 512 * MIB, "bytes of the same over all clients; beyond it the windows shrink")                \
    X(volatile_bytes_max, 1 * GIB,                                                                                     \
      "arguments and outcomes of volatile sessions, all in memory; beyond it their submits are refused")               \
    X(resident_bytes_max, 128 * MIB, "outcomes kept in memory until their client takes them; others are read back")    \
    X(batch_row_count_max, 65536, "row changes in one batch")                                                          \
    X(batch_submit_count_max, 4096, "submits in one batch; who sends more than a few waits for the next one")          \
    X(batch_submit_bytes_max, 512 * KIB, "bytes of arguments and results in one batch, in the same way")               \
    X(batch_bytes_max, 2 * MIB, "bytes that wait for the disk; beyond it no credit and no dispatch until a commit")    \
    X(wal_bytes_max, 256 * MIB, "write-ahead log kept after a burst")                                                  \
    X(disk_reserve_bytes, 64 * MIB, "free disk below the log's limit plus this: submits are refused")                  \
    X(ballast_bytes, 16 * MIB, "preallocated file that is given up when the disk is full all the same")

struct limits {
#define X(name, value, meaning) uint64_t name;
    LIMITS_TUNABLE(X)
#undef X
    uint64_t series_used_max; /* whoever opens anew after so many submits gets a fresh series; clients count on it */
};

/* The defaults of the list above. */
struct limits limits_default(void);

/* Set one tunable by name; false if there is none of that name. */
_Bool limits_set(struct limits *limits, const char *name, uint64_t value);

#endif
