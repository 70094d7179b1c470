/*
 * quern/err.h: every way in which a call of quern can fail, and every error code on the wire: one list.
 * Codes are append-only and are never used again for something else.
 */
#ifndef QUERN_ERR_H
#define QUERN_ERR_H

/* code, NAME, word used on the wire's text and in --json, what happened */
#define QUERN_ERR_LIST(X)                                                                                              \
    X(0, OK, "ok", "all well")                                                                                         \
    X(1, INVALID, "invalid", "an argument is outside what is allowed")                                                 \
    X(2, NO_MEMORY, "no_memory", "memory is used up")                                                                  \
    X(3, NO_BROKER, "no_broker", "no broker could be reached")                                                         \
    X(4, TIMEOUT, "timeout", "the time to wait is over; nothing was changed")                                          \
    X(5, TOO_BIG, "too_big", "a name, payload or message is over its limit")                                           \
    X(6, FULL, "full", "a bound is reached; nothing was sent or stored")                                               \
    X(7, DISK, "disk", "the broker's disk is nearly full; nothing was stored")                                         \
    X(8, CLOSED, "closed", "the client or session is closed")                                                          \
    X(9, UNKNOWN, "unknown", "no such task, session or function")                                                      \
    X(10, IN_USE, "in_use", "another process owns the session")                                                        \
    X(11, TAKEN_OVER, "taken_over", "another process has taken the session over")                                      \
    X(12, PREDECESSOR, "predecessor", "the ordinal before this one was not accepted")                                  \
    X(13, DUPLICATE, "duplicate", "an ordinal at or below the highest was accepted already")                           \
    X(14, FORGOTTEN, "forgotten", "the task existed; retention has deleted it")                                        \
    X(15, NOT_FINISHED, "not_finished", "the task has no outcome yet")                                                 \
    X(16, RUNNING, "running", "the task runs already and was not to be forced")                                        \
    X(17, FINISHED, "finished", "the task had its outcome already")                                                    \
    X(18, PROTOCOL, "protocol", "the other side sent what the protocol does not allow")                                \
    X(19, VERSION, "version", "the other side speaks a newer protocol")                                                \
    X(20, DENIED, "denied", "the other side may not do this")                                                          \
    X(21, UNSUPPORTED, "unsupported", "this version cannot do that")                                                   \
    X(22, TYPE, "type", "a value is of another type than asked for")                                                   \
    X(23, RANGE, "range", "a value does not fit the type asked for")                                                   \
    X(24, END, "end", "there is nothing further")                                                                      \
    X(25, MALFORMED, "malformed", "bytes are not valid msgpack, JSON or UTF-8")                                        \
    X(26, IO, "io", "an operation of the system failed")                                                               \
    X(27, TASK_FAILED, "task_failed", "the task failed; its outcome says how")                                         \
    X(28, CANCELLED, "cancelled", "the task was cancelled")                                                            \
    X(29, INTERRUPTED, "interrupted", "a signal or another thread ended the wait")                                     \
    X(30, NEED_HELLO, "need_hello", "the broker does not know this connection: say HELLO again")                       \
    X(31, DRAINING, "draining", "the other side is going away; come back")

enum quern_err {
#define X(code, name, word, text) QUERN_##name = code,
    QUERN_ERR_LIST(X)
#undef X
};

#define QUERN_MUST_USE __attribute__((warn_unused_result))

/* What the INIT macros of structs are in C++, which has had named initialisers since C++20 only: set sets fields of it.
 */
#ifdef __cplusplus
#define QUERN_INIT_IN_CXX(type, set)                                                                                   \
    ([]() -> type {                                                                                                    \
        type it = {};                                                                                                  \
        it.size = sizeof(it);                                                                                          \
        set;                                                                                                           \
        return it;                                                                                                     \
    }())
#endif

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* The word of a code ("too_big"), for scripts; "unknown_code" for a number that is not in the list. Never NULL. */
const char *quern_err_word(enum quern_err err);

/* The sentence of a code, for people. Never NULL. */
const char *quern_err_text(enum quern_err err);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
