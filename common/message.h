/*
 * The structs, encoders and decoders of messages.h, and frames: what one ZeroMQ message holds.
 *
 * A frame is a msgpack array [PROTOCOL_MAJOR, generation] followed by messages, one behind the other. The generation is
 * chosen by the peer (client, worker, operator): 1 for its first connection, one more for every further one; the broker
 * writes the generation of the connection it answers. Frames of another generation are ignored on both sides.
 *
 * Decoded views point into the frame and live as long as it does. Pure; any thread.
 */
#ifndef QUERN_COMMON_MESSAGE_H
#define QUERN_COMMON_MESSAGE_H

#include "common/bytes.h"
#include "common/codec.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/messages.h"

/* A list inside a message: count elements, still encoded; read with item_NAME_next. Already checked to be well-formed.
 */
struct list {
    uint32_t count;
    struct bytes items;
};

#define FIELD_u64(name, max) uint64_t name;
#define FIELD_i64(name, min, max) int64_t name;
#define FIELD_flag(name) bool name;
#define FIELD_f64(name) double name;
#define FIELD_str(name, max) struct bytes name;
#define FIELD_bin(name, max) struct bytes name;
#define FIELD_id16(name) struct uuid name;
#define FIELD_payload(name) struct bytes name; /* inline bytes; {NULL, 0} none */
#define FIELD_any(name) struct bytes name;     /* one encoded value; {NULL, 0} or nil: none */
#define FIELD_list(name, item) struct list name;

#define X(name)                                                                                                        \
    struct item_##name {                                                                                               \
        ITEM_##name(FIELD)                                                                                             \
    };
ITEM_LIST(X)
#undef X

#define X(number, name, required, direction)                                                                           \
    struct msg_##name {                                                                                                \
        FIELDS_##name(FIELD)                                                                                           \
    };
MESSAGE_LIST(X)
#undef X

struct task_options {
    FIELDS_OPTIONS(FIELD)
};

enum message_kind {
#define X(number, name, required, direction) MSG_##name = number,
    MESSAGE_LIST(X)
#undef X
};

enum task_state {
#define X(number, name, word) TASK_##name = number,
    TASK_STATE_LIST(X)
#undef X
};

enum cause {
#define X(number, name, word) CAUSE_##name = number,
    CAUSE_LIST(X)
#undef X
};

enum held_state { HELD_LEASED = 0, HELD_RUNNING = 1, HELD_FINISHED = 2 };
/* Why a worker takes less than it could. */
enum scarce { SCARCE_NOTHING = 0, SCARCE_MEMORY = 1, SCARCE_ALONE = 2 };
enum finished_state { FINISHED_DONE = 0, FINISHED_FAILED = 1, FINISHED_KILLED = 2 };
enum receipt_verdict { RECEIPT_RECORDED = 0, RECEIPT_STALE = 1, RECEIPT_UNKNOWN = 2 };

/* Word of a number, "unknown" if there is none; number of a word, -1 if there is none. */
const char *task_state_word(unsigned state);
int task_state_of_word(const char *word);
const char *cause_word(unsigned cause);
int cause_of_word(const char *word);
const char *message_word(unsigned kind);

/* A decoded message: kind says which member holds. */
struct message {
    enum message_kind kind;
    union {
#define X(number, name, required, direction) struct msg_##name name;
        MESSAGE_LIST(X)
#undef X
    };
};

/* ---- frames ---- */
void frame_begin(struct buf *frame, uint32_t generation);
/* Reads the head; the cursor then stands at the first message. QUERN_VERSION: a newer major version (generation_out is
 * set, so that it can be answered); QUERN_PROTOCOL: not a frame. */
QUERN_MUST_USE enum quern_err frame_open(struct bytes frame, uint32_t *generation_out, struct cursor *cursor_out);
/* The kind of the next message, without a look at its fields; 0: none, or malformed. */
uint64_t message_peek(const struct cursor *cursor);
/* Decodes the next message. QUERN_OK; QUERN_END at the end of the frame; QUERN_UNSUPPORTED: a kind this version does
 * not know, stepped over, *unknown_out is its number; QUERN_PROTOCOL: malformed, a value out of bounds or over its
 * limit: what, in *why_out (static text), and message_out->kind says which message if that could be read, else 0; if
 * the value itself was well-formed it was stepped over and the next call goes on behind it, else the next call answers
 * QUERN_END. */
QUERN_MUST_USE enum quern_err message_next(struct cursor *cursor, struct message *message_out, uint64_t *unknown_out,
                                           const char **why_out);

/* ---- encoding: msg_NAME_put appends a whole message (list fields are copied as they are) ---- */
#define X(number, name, required, direction) void msg_##name##_put(struct buf *buf, const struct msg_##name *msg);
MESSAGE_LIST(X)
#undef X

/* ---- lists ---- */
/* item_NAME_put appends one item; item_NAME_next reads the next and shortens the list, false at its end. Items were
 * checked when the message was decoded, so that reading cannot fail. */
#define X(name)                                                                                                        \
    void item_##name##_put(struct buf *buf, const struct item_##name *item);                                           \
    bool item_##name##_next(struct list *list, struct item_##name *item_out);
ITEM_LIST(X)
#undef X

/*
 * Short items: item_NAME_put_after appends the item as short as what was put before it allows. last: of this list, its
 * `has` false before the first; NULL: the peer takes no short ones. Reading shortens nothing: item_NAME_next fills in
 * what is not there from the item before, so *item_out must be left as it was between two calls.
 */
struct item_last {
    bool has;
    union {
#define X(name) struct item_##name name;
        SHORT_ITEM_LIST(X)
#undef X
    };
    char text[WORKER_NAME_SIZE_MAX]; /* what a text of it looks into */
};
#define X(name) void item_##name##_put_after(struct buf *buf, const struct item_##name *item, struct item_last *last);
SHORT_ITEM_LIST(X)
#undef X

/*
 * A run: a message whose last field is a list that is filled item by item.
 *   run_open(&run, out, MSG_DISPATCH, &message)   writes every field before the list (message.DISPATCH.items is unused)
 *   item_dispatch_put(run.out, &item); run.count++;
 *   run_close(&run)
 * Only for the messages of RUN_LIST, whose last field is their only list. Nothing else may be appended to out between
 * open and close.
 */
#define RUN_LIST(X)                                                                                                    \
    X(SUBMIT)                                                                                                          \
    X(OUTCOME)                                                                                                         \
    X(DISPATCH)                                                                                                        \
    X(REVOKE)                                                                                                          \
    X(DROP)                                                                                                            \
    X(RETURNED)                                                                                                        \
    X(STARTED)                                                                                                         \
    X(FINISHED)                                                                                                        \
    X(RECEIPT)                                                                                                         \
    X(PROGRESS)

struct run {
    struct buf *out;
    size_t count_at;
    uint32_t count;
};
void run_open(struct run *run, struct buf *out, const struct message *head);
void run_close(struct run *run);

/* ---- task options ---- */
struct task_options task_options_default(void);
void task_options_put(struct buf *buf, const struct task_options *options);
/* nil or none: the defaults. QUERN_PROTOCOL with *why_out: a value out of bounds, or a combination that is refused
 * (at_most_once with attempts > 1). */
QUERN_MUST_USE enum quern_err task_options_read(struct bytes options, struct task_options *options_out,
                                                const char **why_out);

#endif
