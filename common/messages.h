/*
 * Every message of the protocol and every field of it: the one list. From it come the structs, encoders and decoders
 * (message.h) and the field tables in PROTOCOL.md, which a test compares with this list. Includes nothing.
 *
 * On the wire a message is a msgpack array [kind, field, field, ...]. Fields are only ever added at the end; a reader
 * skips fields it does not know, and takes a field behind REQUIRED that is missing as zero, false or none.
 *
 * Field types:
 *   u64(name, max)  unsigned integer 0..max          i64(name, min, max)  integer
 *   flag(name)      boolean                          f64(name)            number
 *   str(name, max)  UTF-8, at most max bytes, or nil bin(name, max)       binary, at most max bytes, or nil
 *   id16(name)      binary of exactly 16 bytes       payload(name)        a tagged payload: binary = inline; an array
 *                                                                         [tag, ...] is reserved for blobs and results
 *                                                                         of other tasks; nil = none
 *   any(name)       one msgpack value, kept as bytes list(name, ITEM)     array of items, each itself an array
 *
 * C = client, W = worker, O = operator (a client without a session), B = broker.
 */
#ifndef QUERN_COMMON_MESSAGES_H
#define QUERN_COMMON_MESSAGES_H

#define PROTOCOL_MAJOR 1u
#define PROTOCOL_MINOR 0u

/* ---- items of lists ---- */
#define ITEM_range(T)                                                                                                  \
    T##_u64(first, UINT64_MAX)                                                                                         \
    T##_u64(last, UINT64_MAX)

#define ITEM_name(T) T##_str(name, FUNCTION_NAME_SIZE_MAX)

#define ITEM_token(T)                                                                                                  \
    T##_u64(task, INT64_MAX)                                                                                           \
    T##_u64(epoch, UINT32_MAX)                                                                                         \
    T##_u64(attempt, UINT32_MAX)

/* state: 0 leased (not started), 1 running, 2 finished without receipt */
#define ITEM_held(T)                                                                                                   \
    ITEM_token(T)                                                                                                      \
    T##_u64(state, 2)

/* ordinal: 0 if the task has none */
#define ITEM_submit(T)                                                                                                 \
    T##_payload(args)                                                                                                  \
    T##_u64(ordinal, INT64_MAX)

/* depth: as in OPTIONS. memory: limit of this attempt in bytes, 0: the worker's own. alone: nothing may run beside it. */
#define ITEM_dispatch(T)                                                                                               \
    T##_u64(task, INT64_MAX)                                                                                           \
    T##_u64(attempt, UINT32_MAX)                                                                                       \
    T##_payload(args)                                                                                                  \
    T##_u64(depth, TASK_DEPTH_MAX)                                                                                     \
    T##_u64(memory, INT64_MAX)                                                                                         \
    T##_flag(alone)

/* force: 0 only if not started, 1 kill it too */
#define ITEM_revoke(T)                                                                                                 \
    ITEM_token(T)                                                                                                      \
    T##_u64(force, 1)

#define ITEM_started(T)                                                                                                \
    ITEM_token(T)                                                                                                      \
    T##_u64(pid, INT32_MAX)

/* How an attempt ended. state: 0 done, 1 failed, 2 killed as ordered by REVOKE. cause: enum cause, 0 when done.
 * started: wall clock, ms since 1970. signal, exit_status: of a slot that died, or 0. peak: KiB. report: report.h.
 * output: what it wrote to stdout and stderr, output.h; none: nothing. */
#define ITEM_finished(T)                                                                                               \
    ITEM_token(T)                                                                                                      \
    T##_u64(state, 2)                                                                                                  \
    T##_u64(cause, 255)                                                                                                \
    T##_payload(result)                                                                                                \
    T##_str(kind, ERROR_KIND_SIZE_MAX)                                                                                 \
    T##_str(message, ERROR_MESSAGE_SIZE_MAX)                                                                           \
    T##_bin(detail, ERROR_DETAIL_SIZE_MAX)                                                                             \
    T##_u64(pid, INT32_MAX)                                                                                            \
    T##_u64(started, INT64_MAX)                                                                                        \
    T##_u64(run_us, INT64_MAX)                                                                                         \
    T##_u64(signal, 255)                                                                                               \
    T##_u64(exit_status, 255)                                                                                          \
    T##_u64(cpu_us, INT64_MAX)                                                                                         \
    T##_u64(peak, INT64_MAX)                                                                                           \
    T##_bin(report, REPORT_SIZE_MAX)                                                                                   \
    T##_bin(output, OUTPUT_SIZE_MAX)

/* verdict: 0 recorded, 1 stale, 2 unknown: each frees the worker's copy */
#define ITEM_receipt(T)                                                                                                \
    ITEM_token(T)                                                                                                      \
    T##_u64(verdict, 2)

#define ITEM_progress(T)                                                                                               \
    ITEM_token(T)                                                                                                      \
    T##_f64(fraction)                                                                                                  \
    T##_str(text, PROGRESS_TEXT_SIZE_MAX)

/* state: enum task_state (done, failed or cancelled). worker: "HOST:PID" of the last attempt or nil.
 * args: only if HELLO asked for it and they are kept. attempt to report: of the last attempt. */
#define ITEM_outcome(T)                                                                                                \
    T##_u64(task, INT64_MAX)                                                                                           \
    T##_u64(completion, INT64_MAX)                                                                                     \
    T##_u64(ordinal, INT64_MAX)                                                                                        \
    T##_u64(state, 255)                                                                                                \
    T##_u64(cause, 255)                                                                                                \
    T##_payload(result)                                                                                                \
    T##_str(kind, ERROR_KIND_SIZE_MAX)                                                                                 \
    T##_str(message, ERROR_MESSAGE_SIZE_MAX)                                                                           \
    T##_bin(detail, ERROR_DETAIL_SIZE_MAX)                                                                             \
    T##_u64(attempts, UINT32_MAX)                                                                                      \
    T##_str(worker, WORKER_NAME_SIZE_MAX)                                                                              \
    T##_u64(created, INT64_MAX)                                                                                        \
    T##_u64(started, INT64_MAX)                                                                                        \
    T##_u64(finished, INT64_MAX)                                                                                       \
    T##_u64(run_us, INT64_MAX)                                                                                         \
    T##_u64(signal, 255)                                                                                               \
    T##_u64(exit_status, 255)                                                                                          \
    T##_payload(args)                                                                                                  \
    T##_u64(attempt, UINT32_MAX)                                                                                       \
    T##_u64(cpu_us, INT64_MAX)                                                                                         \
    T##_u64(peak, INT64_MAX)                                                                                           \
    T##_bin(report, REPORT_SIZE_MAX)

#define WHOLE_ITEM_LIST(X)                                                                                             \
    X(range)                                                                                                           \
    X(name)                                                                                                            \
    X(token)                                                                                                           \
    X(held)                                                                                                            \
    X(submit)                                                                                                          \
    X(revoke)                                                                                                          \
    X(started)                                                                                                         \
    X(progress)

/* ---- short items ---- */
/* Towards a peer that takes them (take_short) an item may be written as an array of the fields below and nothing else,
 * if it follows another in its list and is the same in every field that is not named here. next(name): not written,
 * one more than in the item before. */
#define SHORT_dispatch(T)                                                                                              \
    T##_next(task)                                                                                                     \
    T##_payload(args)

#define SHORT_finished(T)                                                                                              \
    T##_next(task)                                                                                                     \
    T##_payload(result)                                                                                                \
    T##_u64(run_us, INT64_MAX)                                                                                         \
    T##_u64(cpu_us, INT64_MAX)

#define SHORT_receipt(T) T##_next(task)

#define SHORT_outcome(T)                                                                                               \
    T##_next(task)                                                                                                     \
    T##_next(completion)                                                                                               \
    T##_payload(result)                                                                                                \
    T##_u64(run_us, INT64_MAX)                                                                                         \
    T##_u64(cpu_us, INT64_MAX)

#define SHORT_ITEM_LIST(X)                                                                                             \
    X(dispatch)                                                                                                        \
    X(finished)                                                                                                        \
    X(receipt)                                                                                                         \
    X(outcome)

#define ITEM_LIST(X)                                                                                                   \
    WHOLE_ITEM_LIST(X)                                                                                                 \
    SHORT_ITEM_LIST(X)

/* How many fields at the end of an item came later than the rest: they may be missing. */
enum {
    LATER_range = 0,
    LATER_name = 0,
    LATER_token = 0,
    LATER_held = 0,
    LATER_submit = 0,
    LATER_revoke = 0,
    LATER_started = 0,
    LATER_progress = 0,
    LATER_dispatch = 0,
    LATER_finished = 1, /* output */
    LATER_receipt = 0,
    LATER_outcome = 0,
};

/* ---- messages ---- */

/* Opens a session (session and series 0: session name or none, description kept if the session is made now), or
 * resumes one this very instance was welcomed to (session and series from WELCOME, name not looked at).
 * credit: outcomes and bytes the client will take on this connection before it sends CREDIT.
 * expire_ms: of a session made now: it ends after this time without a client; 0: as its kind does.
 * take_short: in lists to this peer items may be short. */
#define FIELDS_HELLO_CLIENT(F)                                                                                         \
    F##_id16(instance)                                                                                                 \
    F##_str(host, HOST_NAME_SIZE_MAX)                                                                                  \
    F##_u64(pid, INT32_MAX)                                                                                            \
    F##_str(program, PROGRAM_NAME_SIZE_MAX)                                                                            \
    F##_u64(session, INT64_MAX)                                                                                        \
    F##_u64(series, SERIES_MAX)                                                                                        \
    F##_str(name, SESSION_NAME_SIZE_MAX)                                                                               \
    F##_bin(description, DESCRIPTION_SIZE_MAX)                                                                         \
    F##_flag(take_over)                                                                                                \
    F##_flag(is_volatile)                                                                                              \
    F##_flag(must_exist)                                                                                               \
    F##_flag(keep)                                                                                                     \
    F##_flag(want_args)                                                                                                \
    F##_u64(taken_prefix, INT64_MAX)                                                                                   \
    F##_list(taken, range)                                                                                             \
    F##_u64(credit_count, INT64_MAX)                                                                                   \
    F##_u64(credit_bytes, INT64_MAX)                                                                                   \
    F##_u64(expire_ms, DURATION_MS_MAX)                                                                                \
    F##_flag(take_short)

/* store: the store uuid of the last WELCOME, zeros before the first. queues: none = every queue.
 * held: everything the worker holds. memory: for people: how much there is, and how it keeps limits of it.
 * take_short: as a client's. */
#define FIELDS_HELLO_WORKER(F)                                                                                         \
    F##_id16(instance)                                                                                                 \
    F##_str(host, HOST_NAME_SIZE_MAX)                                                                                  \
    F##_u64(pid, INT32_MAX)                                                                                            \
    F##_str(name, WORKER_NAME_SIZE_MAX)                                                                                \
    F##_id16(store)                                                                                                    \
    F##_u64(slots, SLOT_COUNT_MAX)                                                                                     \
    F##_u64(capacity_count, WORKER_HELD_COUNT_MAX)                                                                     \
    F##_u64(capacity_bytes, INT64_MAX)                                                                                 \
    F##_list(functions, name)                                                                                          \
    F##_list(queues, name)                                                                                             \
    F##_list(held, held)                                                                                               \
    F##_str(memory, WORKER_MEMORY_SIZE_MAX)                                                                            \
    F##_flag(take_short)

#define FIELDS_HELLO_OPERATOR(F)                                                                                       \
    F##_id16(instance)                                                                                                 \
    F##_str(host, HOST_NAME_SIZE_MAX)                                                                                  \
    F##_u64(pid, INT32_MAX)                                                                                            \
    F##_str(program, PROGRAM_NAME_SIZE_MAX)

#define FIELDS_CHALLENGE(F) F##_id16(nonce)

#define FIELDS_ECHO(F) F##_id16(nonce)

/* failed: failed outcomes of the session so far; live: its tasks without outcome; is_ending: it takes no submits;
 * untaken: outcomes not acknowledged, HELLO's taken ones counted as acknowledged: they follow, in order */
#define FIELDS_WELCOME_CLIENT(F)                                                                                       \
    F##_id16(store)                                                                                                    \
    F##_u64(epoch, UINT32_MAX)                                                                                         \
    F##_u64(session, INT64_MAX)                                                                                        \
    F##_u64(series, SERIES_MAX)                                                                                        \
    F##_u64(submitted_high, SEQUENCE_MAX)                                                                              \
    F##_u64(completion_last, INT64_MAX)                                                                                \
    F##_u64(acked_prefix, INT64_MAX)                                                                                   \
    F##_u64(ordinal_high, INT64_MAX)                                                                                   \
    F##_bin(digest, DIGEST_SIZE)                                                                                       \
    F##_bin(description, DESCRIPTION_SIZE_MAX)                                                                         \
    F##_flag(is_new)                                                                                                   \
    F##_flag(is_ending)                                                                                                \
    F##_u64(live, INT64_MAX)                                                                                           \
    F##_u64(failed, INT64_MAX)                                                                                         \
    F##_u64(heartbeat_ms, DURATION_MS_MAX)                                                                             \
    F##_u64(dead_ms, DURATION_MS_MAX)                                                                                  \
    F##_u64(credit_count, INT64_MAX)                                                                                   \
    F##_u64(credit_bytes, INT64_MAX)                                                                                   \
    F##_u64(untaken, INT64_MAX)                                                                                        \
    F##_flag(is_volatile)

#define FIELDS_WELCOME_WORKER(F)                                                                                       \
    F##_id16(store)                                                                                                    \
    F##_u64(epoch, UINT32_MAX)                                                                                         \
    F##_u64(lease_ms, DURATION_MS_MAX)                                                                                 \
    F##_u64(heartbeat_ms, DURATION_MS_MAX)                                                                             \
    F##_u64(dead_ms, DURATION_MS_MAX)                                                                                  \
    F##_flag(take_short)

#define FIELDS_WELCOME_OPERATOR(F)                                                                                     \
    F##_id16(store)                                                                                                    \
    F##_u64(epoch, UINT32_MAX)                                                                                         \
    F##_u64(heartbeat_ms, DURATION_MS_MAX)                                                                             \
    F##_u64(dead_ms, DURATION_MS_MAX)

/* The end of a connection, or of an attempt at one. code: enum quern_err. owner: "HOST:PID" for IN_USE, TAKEN_OVER.
 * endpoint: another broker to try, or nil (for standby brokers, later). */
#define FIELDS_DENIED(F)                                                                                               \
    F##_u64(code, UINT16_MAX)                                                                                          \
    F##_str(text, ERROR_MESSAGE_SIZE_MAX)                                                                              \
    F##_str(owner, WORKER_NAME_SIZE_MAX)                                                                               \
    F##_str(endpoint, URL_SIZE_MAX)

/* A worker's PING renews its lease from the moment it was sent, once the PONG with its number is there. */
#define FIELDS_PING(F) F##_u64(number, INT64_MAX)
#define FIELDS_PONG(F) F##_u64(number, INT64_MAX)
#define FIELDS_BYE(F) F##_u64(code, UINT16_MAX)

/* A message was not taken: kind of it, why. The connection goes on unless DENIED follows. */
#define FIELDS_ERROR(F)                                                                                                \
    F##_u64(code, UINT16_MAX)                                                                                          \
    F##_u64(kind, UINT32_MAX)                                                                                          \
    F##_str(text, ERROR_MESSAGE_SIZE_MAX)

/* Tasks sequence, sequence + 1, ... of the series. options: see OPTIONS below, or nil for all defaults.
 * delay_ms: not before this time from acceptance; above DURATION_MS_MAX: not before this time of the broker's wall clock,
 * in ms since 1970.
 * predecessor: the ordinal before the first item's (0: none); every further item's predecessor is the item before. */
#define FIELDS_SUBMIT(F)                                                                                               \
    F##_u64(series, SERIES_MAX)                                                                                        \
    F##_u64(sequence, SEQUENCE_MAX)                                                                                    \
    F##_str(function, FUNCTION_NAME_SIZE_MAX)                                                                          \
    F##_str(queue, QUEUE_NAME_SIZE_MAX)                                                                                \
    F##_any(options)                                                                                                   \
    F##_u64(delay_ms, WALL_MS_MAX)                                                                                     \
    F##_u64(predecessor, INT64_MAX)                                                                                    \
    F##_list(items, submit)

#define FIELDS_ACCEPTED(F)                                                                                             \
    F##_u64(series, SERIES_MAX)                                                                                        \
    F##_u64(sequence, SEQUENCE_MAX)                                                                                    \
    F##_u64(count, SEQUENCE_MAX)

#define FIELDS_REFUSED(F)                                                                                              \
    F##_u64(series, SERIES_MAX)                                                                                        \
    F##_u64(sequence, SEQUENCE_MAX)                                                                                    \
    F##_u64(count, SEQUENCE_MAX)                                                                                       \
    F##_u64(code, UINT16_MAX)                                                                                          \
    F##_u64(ordinal_high, INT64_MAX)                                                                                   \
    F##_str(text, ERROR_MESSAGE_SIZE_MAX)

#define FIELDS_FORGOTTEN(F)                                                                                            \
    F##_u64(series, SERIES_MAX)                                                                                        \
    F##_u64(sequence, SEQUENCE_MAX)                                                                                    \
    F##_u64(count, SEQUENCE_MAX)

#define FIELDS_OUTCOME(F) F##_list(items, outcome)

#define FIELDS_TAKEN(F)                                                                                                \
    F##_u64(prefix, INT64_MAX)                                                                                         \
    F##_list(ranges, range)

/* Totals since the WELCOME of this connection (a client's total starts with what HELLO said): outcomes and bytes the
 * client will take, or submits and bytes the broker will take. Bytes count payloads (arguments, results, details). */
#define FIELDS_CREDIT(F)                                                                                               \
    F##_u64(count, INT64_MAX)                                                                                          \
    F##_u64(bytes, INT64_MAX)

#define FIELDS_CANCEL(F)                                                                                               \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_u64(task, INT64_MAX)                                                                                           \
    F##_flag(force)

/* session: 0 the old task's session, or a new one if that is closed */
#define FIELDS_RETRY(F)                                                                                                \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_u64(task, INT64_MAX)

/* session: number, or 0 and name. cancel: what has not started too. drop: acknowledge all outcomes as well (bench). */
#define FIELDS_CLOSE(F)                                                                                                \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_u64(session, INT64_MAX)                                                                                        \
    F##_str(name, SESSION_NAME_SIZE_MAX)                                                                               \
    F##_flag(cancel)                                                                                                   \
    F##_flag(drop)

/* what: "status", "sessions", "list", "open", "show", "explain", "result", "backup",
 * "logs". params: a map, or nil. */
#define FIELDS_QUERY(F)                                                                                                \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_str(what, FUNCTION_NAME_SIZE_MAX)                                                                              \
    F##_any(params)

/* The answer to CANCEL, RETRY, CLOSE, QUERY: code (enum quern_err), text for people, body (a map, or nil; for a query
 * of many rows an array of maps; more: further replies to this request follow). */
#define FIELDS_REPLY(F)                                                                                                \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_u64(code, UINT16_MAX)                                                                                          \
    F##_str(text, ERROR_MESSAGE_SIZE_MAX)                                                                              \
    F##_flag(more)                                                                                                     \
    F##_any(body)

/* timeout_ms: of each attempt, 0 none. at_most_once: for the worker's information. */
#define FIELDS_DISPATCH(F)                                                                                             \
    F##_str(function, FUNCTION_NAME_SIZE_MAX)                                                                          \
    F##_u64(timeout_ms, DURATION_MS_MAX)                                                                               \
    F##_flag(at_most_once)                                                                                             \
    F##_list(items, dispatch)

#define FIELDS_REVOKE(F) F##_list(items, revoke)
#define FIELDS_DROP(F) F##_list(items, token)
#define FIELDS_RETURNED(F) F##_list(items, token)
#define FIELDS_STARTED(F) F##_list(items, started)
#define FIELDS_FINISHED(F) F##_list(items, finished)
#define FIELDS_RECEIPT(F) F##_list(items, receipt)
#define FIELDS_PROGRESS(F) F##_list(items, progress)

/* What the worker will hold at once: the broker dispatches while what it knows the worker to hold (dispatched, without
 * FINISHED or RETURNED) is below both. Zero: dispatch nothing. A worker that drains sends zero.
 * nested: attempts it holds that do not count for tasks of at least this depth: for those its handlers may wait.
 * scarce: why it takes less than it could: 0 it does not, 1 free memory is below its floor, 2 a task runs alone, or
 * waits until it can. */
#define FIELDS_CAPACITY(F)                                                                                             \
    F##_u64(count, WORKER_HELD_COUNT_MAX)                                                                              \
    F##_u64(bytes, INT64_MAX)                                                                                          \
    F##_u64(nested, WORKER_HELD_COUNT_MAX)                                                                             \
    F##_u64(depth, TASK_DEPTH_MAX)                                                                                     \
    F##_u64(scarce, 2)

/* What has this attempt written so far? stdout, stderr: bytes of each that are known already. */
#define FIELDS_LOOK(F)                                                                                                 \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_u64(task, INT64_MAX)                                                                                           \
    F##_u64(epoch, UINT32_MAX)                                                                                         \
    F##_u64(attempt, UINT32_MAX)                                                                                       \
    F##_u64(stdout_known, INT64_MAX)                                                                                   \
    F##_u64(stderr_known, INT64_MAX)

/* The answer, at once. is_running: it runs here. output: output.h; none: nothing further. */
#define FIELDS_OUTPUT(F)                                                                                               \
    F##_u64(request, INT64_MAX)                                                                                        \
    F##_flag(is_running)                                                                                               \
    F##_bin(output, OUTPUT_SIZE_MAX)

/* number, NAME, fields required, direction */
#define MESSAGE_LIST(X)                                                                                                \
    X(1, HELLO_CLIENT, 17, "C>B")                                                                                      \
    X(2, HELLO_WORKER, 11, "W>B")                                                                                      \
    X(3, HELLO_OPERATOR, 4, "O>B")                                                                                     \
    X(4, CHALLENGE, 1, "B>C")                                                                                          \
    X(5, ECHO, 1, "C>B")                                                                                               \
    X(6, WELCOME_CLIENT, 19, "B>C")                                                                                    \
    X(7, WELCOME_WORKER, 5, "B>W")                                                                                     \
    X(8, WELCOME_OPERATOR, 4, "B>O")                                                                                   \
    X(9, DENIED, 4, "B>any")                                                                                           \
    X(10, PING, 1, "both")                                                                                             \
    X(11, PONG, 1, "both")                                                                                             \
    X(12, BYE, 1, "both")                                                                                              \
    X(13, ERROR, 3, "both")                                                                                            \
    X(20, SUBMIT, 8, "C>B")                                                                                            \
    X(21, ACCEPTED, 3, "B>C")                                                                                          \
    X(22, REFUSED, 6, "B>C")                                                                                           \
    X(23, FORGOTTEN, 3, "B>C")                                                                                         \
    X(24, OUTCOME, 1, "B>C")                                                                                           \
    X(25, TAKEN, 2, "C>B")                                                                                             \
    X(26, CREDIT, 2, "both")                                                                                           \
    X(27, CANCEL, 3, "C,O>B")                                                                                          \
    X(28, RETRY, 2, "C,O>B")                                                                                           \
    X(29, CLOSE, 5, "C,O>B")                                                                                           \
    X(30, QUERY, 3, "C,O>B")                                                                                           \
    X(31, REPLY, 5, "B>C,O")                                                                                           \
    X(40, DISPATCH, 4, "B>W")                                                                                          \
    X(41, REVOKE, 1, "B>W")                                                                                            \
    X(42, DROP, 1, "B>W")                                                                                              \
    X(43, RETURNED, 1, "W>B")                                                                                          \
    X(44, STARTED, 1, "W>B")                                                                                           \
    X(45, FINISHED, 1, "W>B")                                                                                          \
    X(46, RECEIPT, 1, "B>W")                                                                                           \
    X(47, PROGRESS, 1, "W>B")                                                                                     \
    X(48, CAPACITY, 4, "W>B")                                                                                          \
    X(49, LOOK, 6, "B>W")                                                                                              \
    X(50, OUTPUT, 3, "W>B")

/* ---- OPTIONS of SUBMIT: an array, grows at the end, what is missing has its default; kept as it came ---- */
/* depth: 0 submitted from outside, else one more than that of the task that submits it: deeper ones go first.
 * retry_on: bit (1 << cause). attempts 1..ATTEMPTS_MAX. backoff grows by doubling from backoff_ms to backoff_cap_ms.
 * memory_bytes: limit of the first attempt, 0: the worker's own; with every failed attempt it is multiplied by
 * memory_growth percent (0: it is not), up to memory_cap_bytes (0: MEMORY_GROWTH_CAP times memory_bytes).
 * alone: 0 no, 1 nothing may run beside it on its worker, 2 the same from the second attempt on.
 * expires_ms: from acceptance; if no attempt has started by then it fails as expired; 0 never.
 * known: it fails at once, as an error of kind UnknownFunction, if no worker serves its function in its queue. */
#define FIELDS_OPTIONS(F)                                                                                              \
    F##_i64(priority, PRIORITY_MIN, PRIORITY_MAX)                                                                      \
    F##_u64(timeout_ms, DURATION_MS_MAX)                                                                               \
    F##_u64(attempts, ATTEMPTS_MAX)                                                                                    \
    F##_u64(retry_on, UINT16_MAX)                                                                                      \
    F##_u64(backoff_ms, DURATION_MS_MAX)                                                                               \
    F##_u64(backoff_cap_ms, DURATION_MS_MAX)                                                                           \
    F##_flag(at_most_once)                                                                                             \
    F##_u64(crashes_max, ATTEMPTS_MAX)                                                                                 \
    F##_u64(losses_max, ATTEMPTS_MAX)                                                                                  \
    F##_u64(depth, TASK_DEPTH_MAX)                                                                                     \
    F##_u64(memory_bytes, INT64_MAX)                                                                                   \
    F##_u64(memory_growth, MEMORY_GROWTH_MAX)                                                                          \
    F##_u64(memory_cap_bytes, INT64_MAX)                                                                               \
    F##_u64(alone, ALONE_RETRIED)                                                                                      \
    F##_u64(expires_ms, DURATION_MS_MAX)                                                                               \
    F##_flag(known)

/* ---- words with numbers on the wire and in the store; append-only ---- */
#define TASK_STATE_LIST(X)                                                                                             \
    X(1, DELAYED, "delayed")                                                                                           \
    X(2, WAITING, "waiting")                                                                                           \
    X(3, READY, "ready")                                                                                               \
    X(4, LEASED, "leased")                                                                                             \
    X(5, RUNNING, "running")                                                                                           \
    X(6, BACKOFF, "backoff")                                                                                           \
    X(7, DONE, "done")                                                                                                 \
    X(8, FAILED, "failed")                                                                                             \
    X(9, CANCELLED, "cancelled")

#define CAUSE_LIST(X)                                                                                                  \
    X(0, NONE, "none")                                                                                                 \
    X(1, ERROR, "error")                                                                                               \
    X(2, CRASHED, "crashed")                                                                                           \
    X(3, TIMEOUT, "timeout")                                                                                           \
    X(4, EXPIRED, "expired")                                                                                           \
    X(5, MEMORY, "memory")                                                                                             \
    X(6, LOST, "lost")                                                                                                 \
    X(7, QUARANTINED, "quarantined")                                                                                   \
    X(8, UNENCODABLE, "unencodable")

/* Function names that begin with this are quern's own. */
#define FUNCTION_RESERVED_PREFIX "quern."
/* Arguments: [[argv...], {"stdin": bin, "env": {NAME: VALUE}, "cwd": str}]; result: {"exit_status", "stdout", "stderr"} */
#define FUNCTION_COMMAND "quern.command"

#endif
