/*
 * message.c owns structs to bytes and back for everything messages.h lists, frames, and the task options.
 * It must not know what a message means, nor who sends it.
 * Start reading at message_next; the macros above it write one function per message and item of messages.h.
 */
#include "common/message.h"

#include "common/check.h"

#include <endian.h>
#include <string.h>

/* ================= words ================= */

const char *task_state_word(unsigned state)
{
    switch (state) {
#define X(number, name, word)                                                                                          \
    case number:                                                                                                       \
        return word;
        TASK_STATE_LIST(X)
#undef X
    default:
        return "unknown";
    }
}

int task_state_of_word(const char *word)
{
#define X(number, name, text)                                                                                          \
    if (strcmp(word, text) == 0) {                                                                                     \
        return number;                                                                                                 \
    }
    TASK_STATE_LIST(X)
#undef X
    return -1;
}

const char *cause_word(unsigned cause)
{
    switch (cause) {
#define X(number, name, word)                                                                                          \
    case number:                                                                                                       \
        return word;
        CAUSE_LIST(X)
#undef X
    default:
        return "unknown";
    }
}

int cause_of_word(const char *word)
{
#define X(number, name, text)                                                                                          \
    if (strcmp(word, text) == 0) {                                                                                     \
        return number;                                                                                                 \
    }
    CAUSE_LIST(X)
#undef X
    return -1;
}

const char *message_word(unsigned kind)
{
    switch (kind) {
#define X(number, name, required, direction)                                                                           \
    case number:                                                                                                       \
        return #name;
        MESSAGE_LIST(X)
#undef X
    default:
        return "unknown";
    }
}

/* ================= how many fields ================= */

#define COUNT_u64(name, max) +1
#define COUNT_i64(name, min, max) +1
#define COUNT_flag(name) +1
#define COUNT_f64(name) +1
#define COUNT_str(name, max) +1
#define COUNT_bin(name, max) +1
#define COUNT_id16(name) +1
#define COUNT_payload(name) +1
#define COUNT_any(name) +1
#define COUNT_list(name, item) +1

/* Fields a message has now, its kind not counted; and below which it is refused. */
#define X(number, name, required, direction) name##_COUNT = FIELDS_##name(COUNT), name##_REQUIRED = required,
enum { MESSAGE_LIST(X) OPTIONS_COUNT = FIELDS_OPTIONS(COUNT) };
#undef X
#define X(name) item_##name##_COUNT = ITEM_##name(COUNT),
enum { ITEM_LIST(X) };
#undef X
#define COUNT_next(name)
#define X(name) item_##name##_SHORT = 0 SHORT_##name(COUNT),
enum { SHORT_ITEM_LIST(X) };
#undef X
#define X(number, name, required, direction)                                                                           \
    _Static_assert((int)name##_REQUIRED <= (int)name##_COUNT, #name " requires fields it does not have");
MESSAGE_LIST(X)
#undef X

/* ================= writing ================= */

static void list_put(struct buf *buf, struct list list)
{
    put_array(buf, list.count);
    buf_put(buf, list.items.p, list.items.n);
}

#define PUT_u64(name, max) put_u64(buf, m->name);
#define PUT_i64(name, min, max) put_i64(buf, m->name);
#define PUT_flag(name) put_flag(buf, m->name);
#define PUT_f64(name) put_f64(buf, m->name);
#define PUT_str(name, max) put_str(buf, m->name);
#define PUT_bin(name, max) put_bin(buf, m->name);
#define PUT_id16(name) put_bin(buf, bytes_of(m->name.b, UUID_SIZE));
#define PUT_payload(name) put_bin(buf, m->name);
#define PUT_any(name) put_raw(buf, m->name);
#define PUT_list(name, item) list_put(buf, m->name);

#define X(kind, message, required, direction)                                                                          \
    void msg_##message##_put(struct buf *buf, const struct msg_##message *m)                                           \
    {                                                                                                                  \
        put_array(buf, 1 + message##_COUNT);                                                                           \
        put_u64(buf, kind);                                                                                            \
        FIELDS_##message(PUT)                                                                                          \
    }
MESSAGE_LIST(X)
#undef X

#define X(item)                                                                                                        \
    void item_##item##_put(struct buf *buf, const struct item_##item *m)                                               \
    {                                                                                                                  \
        put_array(buf, item_##item##_COUNT);                                                                           \
        ITEM_##item(PUT)                                                                                               \
    }
ITEM_LIST(X)
#undef X

/* ---- short items ---- */

/* Mostly there is none on either side. */
static inline __attribute__((always_inline)) bool is_same(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.p == b.p || (a.p != NULL && b.p != NULL && memcmp(a.p, b.p, a.n) == 0));
}

/* Of what was put before only a text is kept; an item that says more is no pattern for the next. */
static bool text_keep(struct item_last *last, struct bytes *text)
{
    if (text->n > sizeof last->text) {
        return false;
    }
    if (text->n > 0) {
        memcpy(last->text, text->p, text->n);
        text->p = (const uint8_t *)last->text;
    }
    return true;
}

#define AS_next(name) expected->name++;
#define AS_u64(name, max) expected->name = m->name;
#define AS_payload(name) expected->name = m->name;
#define SAME_u64(name, max) &&m->name == expected->name
#define SAME_flag(name) &&m->name == expected->name
#define SAME_str(name, max) &&is_same(m->name, expected->name)
#define SAME_bin(name, max) &&is_same(m->name, expected->name)
#define SAME_payload(name) &&m->name.p == expected->name.p && m->name.n == expected->name.n
#define KEEP_u64(name, max)
#define KEEP_flag(name)
#define KEEP_str(name, max) &&(text_count += kept->name.n > 0) <= 1 && text_keep(last, &kept->name)
#define KEEP_bin(name, max) &&kept->name.p == NULL
#define KEEP_payload(name) &&kept->name.p == NULL
#define DROP_next(name)
#define DROP_u64(name, max)
#define DROP_payload(name) kept->name = (struct bytes){NULL, 0};
#define ROOM_next(name)
#define ROOM_u64(name, max) +HEAD_SIZE_MAX
#define ROOM_payload(name) +HEAD_SIZE_MAX + m->name.n
#define BRIEF_next(name)
#define BRIEF_u64(name, max) at = u64_at(at, m->name);
#define BRIEF_payload(name) at = bin_at(at, m->name);

#define X(item)                                                                                                        \
    static bool item_##item##_is_next(const struct item_##item *restrict m, struct item_##item *restrict expected)     \
    {                                                                                                                  \
        SHORT_##item(AS) return true ITEM_##item(SAME);                                                                \
    }                                                                                                                  \
                                                                                                                       \
    static void item_##item##_keep(struct item_last *last, const struct item_##item *m)                                \
    {                                                                                                                  \
        struct item_##item *kept = &last->item;                                                                        \
        unsigned text_count = 0;                                                                                       \
                                                                                                                       \
        *kept = *m;                                                                                                    \
        (void)text_count;                                                                                              \
        SHORT_##item(DROP) last->has = true ITEM_##item(KEEP);                                                         \
    }                                                                                                                  \
                                                                                                                       \
    static void item_##item##_put_brief(struct buf *buf, const struct item_##item *m)                                  \
    {                                                                                                                  \
        (void)m;                                                                                                       \
        buf_reserve(buf, 1 SHORT_##item(ROOM));                                                                        \
        uint8_t *at = buf->p + buf->n;                                                                                 \
        *at++ = ARRAY_HEAD_OF(item_##item##_SHORT);                                                                    \
        SHORT_##item(BRIEF) buf->n = (size_t)(at - buf->p);                                                            \
    }                                                                                                                  \
                                                                                                                       \
    void item_##item##_put_after(struct buf *buf, const struct item_##item *m, struct item_last *last)                 \
    {                                                                                                                  \
        if (last != NULL && last->has && item_##item##_is_next(m, &last->item)) {                                      \
            item_##item##_put_brief(buf, m);                                                                           \
        } else {                                                                                                       \
            item_##item##_put(buf, m);                                                                                 \
            if (last != NULL) {                                                                                        \
                item_##item##_keep(last, m);                                                                           \
            }                                                                                                          \
        }                                                                                                              \
    }
SHORT_ITEM_LIST(X)
#undef X

/* ---- runs: the list is last, so writing it item by item is writing the message up to it ---- */

#define RUN_u64 PUT_u64
#define RUN_flag PUT_flag
#define RUN_str PUT_str
#define RUN_any PUT_any
#define RUN_list(name, item) run->count_at = array_open(buf);

#define X(message)                                                                                                     \
    static void run_##message##_open(struct run *run, const struct msg_##message *m)                                   \
    {                                                                                                                  \
        struct buf *buf = run->out;                                                                                    \
                                                                                                                       \
        (void)m;                                                                                                       \
        put_array(buf, 1 + message##_COUNT);                                                                           \
        put_u64(buf, MSG_##message);                                                                                   \
        FIELDS_##message(RUN)                                                                                          \
    }
RUN_LIST(X)
#undef X

void run_open(struct run *run, struct buf *out, const struct message *head)
{
    *run = (struct run){.out = out};
    switch (head->kind) {
#define X(message)                                                                                                     \
    case MSG_##message:                                                                                                \
        run_##message##_open(run, &head->message);                                                                     \
        break;
        RUN_LIST(X)
#undef X
    default:
        CHECK_THAT(false, "%s is not a run", message_word(head->kind));
    }
}

void run_close(struct run *run)
{
    array_close(run->out, run->count_at, run->count);
}

/* ================= reading ================= */

/* What is left of the array that is being read. */
struct fields {
    struct cursor *cursor;
    uint32_t left;
};

/* What is most frequent is read here at once, the rest by the cursor: items of tasks pass here six times. */
static size_t bytes_left(const struct cursor *cursor)
{
    return (size_t)(cursor->end - cursor->p);
}

static bool u64_read_wide(struct cursor *cursor, uint64_t max, uint64_t *number_out)
{
    struct value value;

    if (bytes_left(cursor) > sizeof *number_out && (*cursor->p & 0xfc) == 0xcc) {
        unsigned size = 1u << (*cursor->p - 0xcc);
        uint64_t big;
        memcpy(&big, cursor->p + 1, sizeof big);
        *number_out = be64toh(big) >> (64 - 8 * size);
        cursor->p += 1 + size;
        return *number_out <= max;
    }
    if (!cursor_next(cursor, &value) || value.type != VALUE_UINT || value.u > max) {
        return false;
    }
    *number_out = value.u;
    return true;
}

/* Without a call: most of what is read are short items. */
static inline __attribute__((always_inline)) bool u64_read(struct cursor *cursor, uint64_t max, uint64_t *number_out)
{
    if (cursor->p < cursor->end && *cursor->p < 0x80) {
        *number_out = *cursor->p++;
        return *number_out <= max;
    }
    return u64_read_wide(cursor, max, number_out);
}

static bool i64_read(struct cursor *cursor, int64_t min, int64_t max, int64_t *number_out)
{
    struct value value;

    if (!cursor_next(cursor, &value)) {
        return false;
    }
    if (value.type == VALUE_UINT && value.u <= INT64_MAX) {
        *number_out = (int64_t)value.u;
    } else if (value.type == VALUE_INT) {
        *number_out = value.i;
    } else {
        return false;
    }
    return *number_out >= min && *number_out <= max;
}

static bool flag_read(struct cursor *cursor, bool *flag_out)
{
    struct value value;

    if (!cursor_next(cursor, &value) || value.type != VALUE_FLAG) {
        return false;
    }
    *flag_out = value.flag;
    return true;
}

static bool f64_read(struct cursor *cursor, double *number_out)
{
    struct value value;

    if (!cursor_next(cursor, &value)) {
        return false;
    }
    switch (value.type) {
    case VALUE_F64:
        *number_out = value.f;
        return true;
    case VALUE_UINT:
        *number_out = (double)value.u;
        return true;
    case VALUE_INT:
        *number_out = (double)value.i;
        return true;
    default:
        return false;
    }
}

static bool nil_read(struct cursor *cursor, struct bytes *none_out)
{
    if (cursor->p == cursor->end || *cursor->p != 0xc0) {
        return false;
    }
    cursor->p++;
    *none_out = (struct bytes){NULL, 0};
    return true;
}

static bool text_read(struct cursor *cursor, size_t max, struct bytes *text_out)
{
    struct value value;

    if (nil_read(cursor, text_out)) {
        return true;
    }
    if (cursor->p < cursor->end && *cursor->p == 0xa0) {
        *text_out = bytes_of(++cursor->p, 0);
        return true;
    }
    if (!cursor_next(cursor, &value) || value.type != VALUE_STR || value.bytes.n > max || !bytes_is_utf8(value.bytes)) {
        return false;
    }
    *text_out = value.bytes;
    return true;
}

static bool bin_read_wide(struct cursor *cursor, size_t max, struct bytes *bytes_out)
{
    struct value value;

    if (nil_read(cursor, bytes_out)) {
        return true;
    }
    if (!cursor_next(cursor, &value) || value.type != VALUE_BIN || value.bytes.n > max) {
        return false;
    }
    *bytes_out = value.bytes;
    return true;
}

/* Without a call, too. */
static inline __attribute__((always_inline)) bool bin_read(struct cursor *cursor, size_t max, struct bytes *bytes_out)
{
    if (bytes_left(cursor) > 2 && *cursor->p == 0xc4 && cursor->p[1] <= bytes_left(cursor) - 2) {
        *bytes_out = bytes_of(cursor->p + 2, cursor->p[1]);
        cursor->p += 2 + bytes_out->n;
        return bytes_out->n <= max;
    }
    return bin_read_wide(cursor, max, bytes_out);
}

static bool id16_read(struct cursor *cursor, struct uuid *id_out)
{
    struct value value;

    if (!cursor_next(cursor, &value) || value.type != VALUE_BIN || value.bytes.n != UUID_SIZE) {
        return false;
    }
    memcpy(id_out->b, value.bytes.p, UUID_SIZE);
    return true;
}

static bool any_read(struct cursor *cursor, struct bytes *value_out)
{
    /* The message itself is the first level. */
    return nil_read(cursor, value_out) || cursor_skip(cursor, ENVELOPE_DEPTH_MAX - 1, value_out);
}

/* Fields this version does not know. */
static bool rest_skip(struct fields *fields)
{
    for (; fields->left > 0; fields->left--) {
        if (!cursor_skip(fields->cursor, ENVELOPE_DEPTH_MAX - 1, NULL)) {
            return false;
        }
    }
    return true;
}

static bool array_read_wide(struct cursor *cursor, uint32_t *count_out)
{
    struct value value;

    if (bytes_left(cursor) > 2 && *cursor->p == 0xdc) {
        *count_out = (uint32_t)cursor->p[1] << 8 | cursor->p[2];
        cursor->p += 3;
        return bytes_left(cursor) >= *count_out;
    }
    if (!cursor_next(cursor, &value) || value.type != VALUE_ARRAY) {
        return false;
    }
    *count_out = value.count;
    return true;
}

/* Without a call, too. */
static inline __attribute__((always_inline)) bool array_read(struct cursor *cursor, uint32_t *count_out)
{
    if (cursor->p < cursor->end && (*cursor->p & 0xf0) == 0x90) {
        *count_out = *cursor->p & 0x0fu;
        cursor->p++;
        return bytes_left(cursor) >= *count_out;
    }
    return array_read_wide(cursor, count_out);
}

#define READ_FIELD(name, is_read, what)                                                                                \
    if (fields.left == 0) {                                                                                            \
        memset(&m->name, 0, sizeof m->name);                                                                           \
    } else if (fields.left--, !(is_read)) {                                                                            \
        *why_out = "field '" #name "': not " what;                                                                     \
        return false;                                                                                                  \
    }
#define READ_u64(name, max)                                                                                            \
    READ_FIELD(name, u64_read(fields.cursor, (max), &m->name), "an unsigned integer up to " #max)
#define READ_i64(name, min, max)                                                                                       \
    READ_FIELD(name, i64_read(fields.cursor, (min), (max), &m->name), "an integer from " #min " to " #max)
#define READ_flag(name) READ_FIELD(name, flag_read(fields.cursor, &m->name), "a boolean")
#define READ_f64(name) READ_FIELD(name, f64_read(fields.cursor, &m->name), "a number")
#define READ_str(name, max)                                                                                            \
    READ_FIELD(name, text_read(fields.cursor, (max), &m->name), "UTF-8 text of up to " #max " bytes, or nil")
#define READ_bin(name, max)                                                                                            \
    READ_FIELD(name, bin_read(fields.cursor, (max), &m->name), "binary of up to " #max " bytes, or nil")
#define READ_id16(name) READ_FIELD(name, id16_read(fields.cursor, &m->name), "binary of 16 bytes")
#define READ_payload(name)                                                                                             \
    READ_FIELD(name, bin_read(fields.cursor, PAYLOAD_SIZE_MAX, &m->name),                                              \
               "an inline payload (binary) of up to 16 MiB, or nil")
#define READ_any(name) READ_FIELD(name, any_read(fields.cursor, &m->name), "a value of a few levels")
#define READ_list(name, item)                                                                                          \
    if (fields.left == 0) {                                                                                            \
        memset(&m->name, 0, sizeof m->name);                                                                           \
    } else if (fields.left--, !list_##item##_read(fields.cursor, &m->name, why_out)) {                                 \
        return false;                                                                                                  \
    }

/* A short item: m is the one before it, and becomes the next. */
#define STEP_next(name)                                                                                                \
    if (m->name++ >= INT64_MAX) {                                                                                      \
        *why_out = "a short item's '" #name "' is beyond the largest number";                                          \
        return false;                                                                                                  \
    }
#define STEP_u64 READ_u64
#define STEP_payload READ_payload
#define X(item)                                                                                                        \
    static inline __attribute__((always_inline)) bool item_##item##_step(struct fields fields, struct item_##item *m,  \
                                                                         const char **why_out)                         \
    {                                                                                                                  \
        SHORT_##item(STEP) return fields.left == 0;                                                                    \
    }
SHORT_ITEM_LIST(X)
#undef X
#define X(item)                                                                                                        \
    enum { item_##item##_SHORT = UINT16_MAX }; /* none has so many fields */                                           \
    static bool item_##item##_step(struct fields fields, struct item_##item *m, const char **why_out)                  \
    {                                                                                                                  \
        (void)m;                                                                                                       \
        *why_out = "an item '" #item "' cannot be short";                                                              \
        return fields.left > UINT16_MAX;                                                                               \
    }
WHOLE_ITEM_LIST(X)
#undef X

/* One item: an array of at least the fields that are not LATER; or a short one, if another stands before it. */
#define X(item)                                                                                                        \
    static inline bool item_##item##_read_whole(struct fields fields, struct item_##item *m, const char **why_out)     \
    {                                                                                                                  \
        if (fields.left < item_##item##_COUNT - (unsigned)LATER_##item) {                                              \
            *why_out = "an item '" #item "' is not an array, or has too few fields";                                   \
            return false;                                                                                              \
        }                                                                                                              \
        ITEM_##item(READ) if (!rest_skip(&fields))                                                                     \
        {                                                                                                              \
            *why_out = "an item '" #item "' ends with what is not msgpack, or is nested too deep";                     \
            return false;                                                                                              \
        }                                                                                                              \
        return true;                                                                                                   \
    }                                                                                                                  \
                                                                                                                       \
    static inline __attribute__((always_inline)) bool item_##item##_read(struct cursor *cursor, struct item_##item *m, \
                                                                         bool is_first, const char **why_out)          \
    {                                                                                                                  \
        struct fields fields = {.cursor = cursor};                                                                     \
                                                                                                                       \
        if (!array_read(cursor, &fields.left)) {                                                                       \
            *why_out = "an item '" #item "' is not an array, or has too few fields";                                   \
            return false;                                                                                              \
        }                                                                                                              \
        return !is_first && fields.left == item_##item##_SHORT ? item_##item##_step(fields, m, why_out)                \
                                                               : item_##item##_read_whole(fields, m, why_out);         \
    }
ITEM_LIST(X)
#undef X

/* A list is checked whole when its message is decoded, so that item_NAME_next cannot fail. */
#define X(item)                                                                                                        \
    static inline bool list_##item##_read(struct cursor *cursor, struct list *list, const char **why_out)              \
    {                                                                                                                  \
        struct item_##item each;                                                                                       \
        const uint8_t *first;                                                                                          \
                                                                                                                       \
        if (!array_read(cursor, &list->count)) {                                                                       \
            *why_out = "a list of '" #item "' is not an array";                                                        \
            return false;                                                                                              \
        }                                                                                                              \
        if (list->count > LIST_ITEM_COUNT_MAX) {                                                                       \
            *why_out = "a list of '" #item "' has too many items";                                                     \
            return false;                                                                                              \
        }                                                                                                              \
        first = cursor->p;                                                                                             \
        for (uint32_t i = 0; i < list->count; i++) {                                                                   \
            if (!item_##item##_read(cursor, &each, i == 0, why_out)) {                                                 \
                return false;                                                                                          \
            }                                                                                                          \
        }                                                                                                              \
        list->items = bytes_of(first, (size_t)(cursor->p - first));                                                    \
        return true;                                                                                                   \
    }                                                                                                                  \
                                                                                                                       \
    bool item_##item##_next(struct list *list, struct item_##item *item_out)                                           \
    {                                                                                                                  \
        const char *why;                                                                                               \
                                                                                                                       \
        if (list->count == 0) {                                                                                        \
            return false;                                                                                              \
        }                                                                                                              \
        struct cursor cursor = {.p = list->items.p, .end = list->items.p + list->items.n};                             \
        CHECK_THAT(item_##item##_read(&cursor, item_out, false, &why), "%s", why);                                     \
        list->count--;                                                                                                 \
        list->items = bytes_of(cursor.p, (size_t)(cursor.end - cursor.p));                                             \
        return true;                                                                                                   \
    }
ITEM_LIST(X)
#undef X

#define X(number, message, required, direction)                                                                        \
    static bool msg_##message##_read(struct fields fields, struct msg_##message *m, const char **why_out)              \
    {                                                                                                                  \
        if (fields.left < message##_REQUIRED) {                                                                        \
            *why_out = #message ": too few fields";                                                                    \
            return false;                                                                                              \
        }                                                                                                              \
        FIELDS_##message(READ) if (!rest_skip(&fields))                                                                \
        {                                                                                                              \
            *why_out = #message ": ends with what is not msgpack, or is nested too deep";                              \
            return false;                                                                                              \
        }                                                                                                              \
        return true;                                                                                                   \
    }
MESSAGE_LIST(X)
#undef X

static enum quern_err message_read(struct cursor *cursor, struct message *message, uint64_t *unknown_out,
                                   const char **why_out)
{
    struct fields fields = {.cursor = cursor};
    uint64_t kind;
    bool is_read;

    if (!array_read(cursor, &fields.left) || fields.left == 0) {
        *why_out = "a message is an array that begins with its kind";
        return QUERN_PROTOCOL;
    }
    fields.left--;
    if (!u64_read(cursor, UINT32_MAX, &kind)) {
        *why_out = "the kind of a message is an unsigned integer of 32 bits";
        return QUERN_PROTOCOL;
    }
    switch (kind) {
#define X(number, name, required, direction)                                                                           \
    case number:                                                                                                       \
        message->kind = MSG_##name;                                                                                    \
        is_read = msg_##name##_read(fields, &message->name, why_out);                                                  \
        break;
        MESSAGE_LIST(X)
#undef X
    default:
        *unknown_out = kind;
        *why_out = "a message of unknown kind is not msgpack, or is nested too deep";
        return rest_skip(&fields) ? QUERN_UNSUPPORTED : QUERN_PROTOCOL;
    }
    return is_read ? QUERN_OK : QUERN_PROTOCOL;
}

uint64_t message_peek(const struct cursor *cursor)
{
    struct cursor ahead = *cursor;
    uint32_t count;
    uint64_t kind;

    return !cursor_done(&ahead) && array_read(&ahead, &count) && count > 0 && u64_read(&ahead, UINT32_MAX, &kind) ? kind
                                                                                                                  : 0;
}

enum quern_err message_next(struct cursor *cursor, struct message *message_out, uint64_t *unknown_out,
                            const char **why_out)
{
    const uint8_t *start = cursor->p;
    enum quern_err err;

    if (cursor_done(cursor)) {
        return QUERN_END;
    }
    message_out->kind = 0;
    err = message_read(cursor, message_out, unknown_out, why_out);
    if (err == QUERN_PROTOCOL) {
        cursor->p = start;
        if (!cursor_skip(cursor, ENVELOPE_DEPTH_MAX, NULL)) {
            cursor->p = cursor->end; /* where the next message begins cannot be known */
        }
    }
    return err;
}

/* ================= frames ================= */

void frame_begin(struct buf *frame, uint32_t generation)
{
    put_array(frame, 2);
    put_u64(frame, PROTOCOL_MAJOR);
    put_u64(frame, generation);
}

enum quern_err frame_open(struct bytes frame, uint32_t *generation_out, struct cursor *cursor_out)
{
    struct cursor cursor = cursor_of(frame);
    struct fields fields = {.cursor = &cursor};
    uint64_t major;
    uint64_t generation;

    *generation_out = 0;
    if (!array_read(&cursor, &fields.left) || fields.left < 2 || !u64_read(&cursor, UINT32_MAX, &major) || major == 0 ||
        !u64_read(&cursor, UINT32_MAX, &generation) || generation == 0) {
        return QUERN_PROTOCOL;
    }
    *generation_out = (uint32_t)generation;
    if (major > PROTOCOL_MAJOR) {
        return QUERN_VERSION;
    }
    fields.left -= 2;
    if (!rest_skip(&fields)) {
        return QUERN_PROTOCOL;
    }
    *cursor_out = cursor;
    return QUERN_OK;
}

/* ================= task options ================= */

#define RETRY_ON_DEFAULT (1u << CAUSE_ERROR | 1u << CAUSE_TIMEOUT | 1u << CAUSE_MEMORY)

struct task_options task_options_default(void)
{
    return (struct task_options){
        .attempts = 1,
        .retry_on = RETRY_ON_DEFAULT,
        .backoff_cap_ms = BACKOFF_CAP_MS_DEFAULT,
        .crashes_max = CRASHES_MAX_DEFAULT,
        .losses_max = LOSSES_MAX_DEFAULT,
    };
}

void task_options_put(struct buf *buf, const struct task_options *options)
{
    const struct task_options *m = options;

    put_array(buf, OPTIONS_COUNT);
    FIELDS_OPTIONS(PUT)
}

static bool options_read(struct fields fields, struct task_options *m, const char **why_out)
{
    FIELDS_OPTIONS(READ)
    if (!rest_skip(&fields) || !cursor_done(fields.cursor)) {
        *why_out = "options: not one whole array";
        return false;
    }
    return true;
}

/* Zero, also by being left out, means the default. */
static void options_complete(struct task_options *options)
{
    struct task_options otherwise = task_options_default();

    options->attempts = options->attempts != 0 ? options->attempts : otherwise.attempts;
    options->retry_on = options->retry_on != 0 ? options->retry_on : otherwise.retry_on;
    options->backoff_cap_ms = options->backoff_cap_ms != 0 ? options->backoff_cap_ms : otherwise.backoff_cap_ms;
    options->crashes_max = options->crashes_max != 0 ? options->crashes_max : otherwise.crashes_max;
    options->losses_max = options->losses_max != 0 ? options->losses_max : otherwise.losses_max;
}

enum quern_err task_options_read(struct bytes options, struct task_options *options_out, const char **why_out)
{
    struct cursor cursor = cursor_of(options);
    struct fields fields = {.cursor = &cursor};
    struct bytes none;

    if (options.n == 0 || (options.n == 1 && nil_read(&cursor, &none))) {
        *options_out = task_options_default();
        return QUERN_OK;
    }
    if (options.n > OPTIONS_SIZE_MAX) {
        *why_out = "options: more than OPTIONS_SIZE_MAX bytes";
        return QUERN_PROTOCOL;
    }
    if (!array_read(&cursor, &fields.left)) {
        *why_out = "options: neither an array nor nil";
        return QUERN_PROTOCOL;
    }
    if (!options_read(fields, options_out, why_out)) {
        return QUERN_PROTOCOL;
    }
    options_complete(options_out);
    if (options_out->at_most_once && options_out->attempts > 1) {
        *why_out = "options: at_most_once and attempts > 1 contradict each other";
        return QUERN_PROTOCOL;
    }
    return QUERN_OK;
}
