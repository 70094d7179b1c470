/*
 * made.c owns how the bytes of an input become the fields of messages.
 * It must not know what a message means, nor who reads it.
 * Start reading at message_make.
 */
#include "fuzz/made.h"

#include "common/check.h"

#include <stdlib.h>

#define ARENA_SIZE (64u * 1024u)
#define ITEM_COUNT_MAX 4u
#define TEXT_SIZE_MAX 40u

/* What made messages point to, until the next is made. */
static uint8_t arena[ARENA_SIZE];
static size_t arena_used;

static struct bytes arena_keep(struct bytes bytes)
{
    if (bytes.p == NULL || bytes.n > ARENA_SIZE - arena_used) {
        return (struct bytes){NULL, 0};
    }
    uint8_t *p = arena + arena_used;
    memcpy(p, bytes.p, bytes.n);
    arena_used += bytes.n;
    return bytes_of(p, bytes.n);
}

/* ---- what is known ---- */

/* Fields of different names that mean the same. */
static const char *canonical_name(const char *name)
{
    static const char *const same[][2] = {
        {"first", "completion"},           {"last", "completion"},
        {"prefix", "completion"},          {"taken_prefix", "completion"},
        {"completion_last", "completion"}, {"predecessor", "ordinal"},
        {"ordinal_high", "ordinal"},       {"submitted_high", "sequence"},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        if (strcmp(same[i][0], name) == 0) {
            return same[i][1];
        }
    }
    return name;
}

static unsigned name_slot(const char *name)
{
    uint32_t hash = 2166136261u;
    for (const char *p = canonical_name(name); *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    return hash % KNOWN_NAME_COUNT;
}

static void note_number(struct known *known, const char *name, uint64_t number)
{
    unsigned slot = name_slot(name);
    uint32_t count = known->number_count[slot];
    for (uint32_t i = 0; i < count && i < KNOWN_COUNT; i++) {
        if (known->numbers[slot][i] == number) {
            return;
        }
    }
    known->numbers[slot][count % KNOWN_COUNT] = number;
    known->number_count[slot]++;
}

static void note_id(struct known *known, const char *name, const struct uuid *id)
{
    unsigned slot = name_slot(name);
    uint32_t count = known->id_count[slot];
    for (uint32_t i = 0; i < count && i < KNOWN_COUNT; i++) {
        if (uuid_equal(&known->ids[slot][i], id)) {
            return;
        }
    }
    known->ids[slot][count % KNOWN_COUNT] = *id;
    known->id_count[slot]++;
}

#define NOTE_u64(name, max) note_number(known, #name, m->name);
#define NOTE_i64(name, min, max)
#define NOTE_flag(name)
#define NOTE_f64(name)
#define NOTE_str(name, max)
#define NOTE_bin(name, max)
#define NOTE_id16(name) note_id(known, #name, &m->name);
#define NOTE_payload(name)
#define NOTE_any(name)
#define NOTE_list(name, item)                                                                                          \
    {                                                                                                                  \
        struct list list = m->name;                                                                                    \
        struct item_##item each;                                                                                       \
        while (item_##item##_next(&list, &each)) {                                                                     \
            note_item_##item(known, &each);                                                                            \
        }                                                                                                              \
    }

#define X(item)                                                                                                        \
    static void note_item_##item(struct known *known, const struct item_##item *m)                                     \
    {                                                                                                                  \
        (void)known;                                                                                                   \
        (void)m;                                                                                                       \
        ITEM_##item(NOTE)                                                                                              \
    }
ITEM_LIST(X)
#undef X

#define X(number, kind, required, direction)                                                                           \
    static void note_##kind(struct known *known, const struct msg_##kind *m)                                           \
    {                                                                                                                  \
        FIELDS_##kind(NOTE)                                                                                            \
    }
MESSAGE_LIST(X)
#undef X

void known_note(struct known *known, const struct message *message)
{
    switch (message->kind) {
#define X(number, name, required, direction)                                                                           \
    case MSG_##name:                                                                                                   \
        note_##name(known, &message->name);                                                                            \
        break;
        MESSAGE_LIST(X)
#undef X
    }
    /* A dispatch names its epoch nowhere, and its task is (series, sequence). */
    if (message->kind == MSG_ACCEPTED) {
        note_number(known, "task", message->ACCEPTED.series << 32 | message->ACCEPTED.sequence);
    }
}

void known_note_frame(struct known *known, struct bytes frame,
                      void (*each)(void *context, const struct message *message), void *context)
{
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown;
    const char *why;
    if (frame.n == 0 || frame_open(frame, &generation, &cursor) != QUERN_OK) {
        /* Who has begun with something that is no frame is answered without a generation. */
        CHECK(frame.n > 3 && frame.p[1] == PROTOCOL_MAJOR && frame.p[2] == 0);
        return;
    }
    note_number(known, "generation", generation);
    while (!cursor_done(&cursor)) {
        CHECK(message_next(&cursor, &message, &unknown, &why) == QUERN_OK);
        known_note(known, &message);
        if (each != NULL) {
            each(context, &message);
        }
    }
}

/* ---- fields ---- */

static uint64_t make_number(struct input *input, const struct known *known, const char *name, uint64_t max)
{
    unsigned slot = name_slot(name);
    unsigned how = input_u8(input);
    uint32_t count = known->number_count[slot] < KNOWN_COUNT ? known->number_count[slot] : KNOWN_COUNT;
    uint64_t seen = count > 0 ? known->numbers[slot][(how >> 4) % count] : how >> 4;
    uint64_t number;
    switch (how % 16) {
    case 8:
    case 9:
        number = seen + 1;
        break;
    case 10:
        number = seen - 1;
        break;
    case 11:
    case 12:
        number = how >> 4;
        break;
    case 13:
        number = input_u8(input);
        break;
    case 14:
        number = max - (how >> 4) % 2;
        break;
    case 15:
        return input_u64(input); /* over its limit too */
    default:
        number = seen;
        break;
    }
    return number <= max ? number : max;
}

static struct uuid make_id(struct input *input, const struct known *known, const char *name)
{
    unsigned slot = name_slot(name);
    unsigned how = input_u8(input);
    uint32_t count = known->id_count[slot] < KNOWN_COUNT ? known->id_count[slot] : KNOWN_COUNT;
    if (count > 0 && how % 4 != 3) {
        return known->ids[slot][(how >> 2) % count];
    }
    return (struct uuid){{(uint8_t)(how >> 2), 1}};
}

static struct bytes make_text(struct input *input, size_t max)
{
    static const char *const words[] = {"",         "f",    "g",    "quern.command", "default", "w",   "status",
                                        "sessions", "list", "show", "explain",       "result",  "open"};
    unsigned how = input_u8(input);
    if (how == 255) {
        return (struct bytes){NULL, 0};
    }
    if (how >= 250) {
        return arena_keep(input_bytes(input, max < TEXT_SIZE_MAX ? max : TEXT_SIZE_MAX));
    }
    return bytes_text(words[how % (sizeof words / sizeof words[0])]);
}

static struct bytes make_bytes(struct input *input, size_t max)
{
    size_t size = input_u8(input);
    if (size == 255) {
        return (struct bytes){NULL, 0};
    }
    if (size >= 250) {
        size *= size; /* some are large */
    }
    size = size % 7 == 0 ? size : size % 8;
    size = size < max ? size : max;
    struct bytes given = input_bytes(input, size < TEXT_SIZE_MAX ? size : TEXT_SIZE_MAX);
    if (size <= TEXT_SIZE_MAX || size > ARENA_SIZE - arena_used) {
        return arena_keep(given);
    }
    uint8_t *p = arena + arena_used;
    memset(p, 0x90, size);
    arena_used += size;
    return bytes_of(p, size);
}

static struct bytes make_any(struct input *input, struct known *known, const char *name);

#define MAKE_u64(name, max) m->name = make_number(input, known, #name, (max));
/* Unsigned, where the least number times -1 is defined. */
#define MAKE_i64(name, min, max)                                                                                       \
    m->name = (int64_t)(make_number(input, known, #name, (max)) * (uint64_t)(int64_t)(input_u8(input) % 3 - 1));
#define MAKE_flag(name) m->name = input_u8(input) % 4 == 1;
#define MAKE_f64(name) m->name = (double)input_u8(input) / 64 - 1;
#define MAKE_str(name, max) m->name = make_text(input, (max));
#define MAKE_bin(name, max) m->name = make_bytes(input, (max));
#define MAKE_id16(name) m->name = make_id(input, known, #name);
#define MAKE_payload(name) m->name = make_bytes(input, PAYLOAD_SIZE_MAX);
#define MAKE_any(name) m->name = make_any(input, known, #name);
#define MAKE_list(name, item)                                                                                          \
    {                                                                                                                  \
        struct buf items = {0};                                                                                        \
        unsigned count = input_below(input, ITEM_COUNT_MAX + 1);                                                       \
        for (unsigned i = 0; i < count; i++) {                                                                         \
            struct item_##item each = {0};                                                                             \
            make_item_##item(&each, input, known);                                                                     \
            item_##item##_put(&items, &each);                                                                          \
        }                                                                                                              \
        m->name.items = arena_keep(buf_bytes(&items));                                                                 \
        m->name.count = m->name.items.p != NULL ? count : 0;                                                           \
        buf_fini(&items);                                                                                              \
    }

#define X(item)                                                                                                        \
    static void make_item_##item(struct item_##item *m, struct input *input, struct known *known)                      \
    {                                                                                                                  \
        (void)known;                                                                                                   \
        ITEM_##item(MAKE)                                                                                              \
    }
ITEM_LIST(X)
#undef X

static void make_options(struct task_options *m, struct input *input, struct known *known)
{
    FIELDS_OPTIONS(MAKE)
}

/* Parameters of a query, as a map. */
static void put_params(struct buf *to, struct input *input, struct known *known)
{
    static const char *const keys[] = {"id", "session", "state", "cause", "limit", "wait", "ack", "from"};
    static const char *const words[] = {"done", "failed", "error", "crashed", "ready", "running", "w", "#1"};
    unsigned count = input_below(input, 4);
    put_map(to, count);
    for (unsigned i = 0; i < count; i++) {
        put_text(to, keys[input_below(input, 8)]);
        switch (input_below(input, 4)) {
        case 0:
            put_text(to, words[input_below(input, 8)]);
            break;
        case 1:
            put_flag(to, input_below(input, 2) != 0);
            break;
        default:
            put_u64(to, make_number(input, known, "task", UINT64_MAX));
        }
    }
}

static struct bytes make_any(struct input *input, struct known *known, const char *name)
{
    struct buf value = {0};
    unsigned how = input_u8(input);
    if (how % 4 == 0) {
        return (struct bytes){NULL, 0};
    }
    if (how % 16 == 15) {
        struct bytes raw = input_bytes(input, how >> 4);
        if (value_is_whole(raw, ENVELOPE_DEPTH_MAX)) {
            buf_put(&value, raw.p, raw.n);
        } else {
            put_bin(&value, raw);
        }
    } else if (strcmp(name, "options") == 0) {
        struct task_options options = task_options_default();
        if (how % 4 != 1) {
            make_options(&options, input, known);
        }
        task_options_put(&value, &options);
    } else {
        put_params(&value, input, known);
    }
    struct bytes kept = arena_keep(buf_bytes(&value));
    buf_fini(&value);
    return kept;
}

/* ---- messages ---- */

#define X(number, name, required, direction)                                                                           \
    static void make_##name(struct buf *frame, struct input *input, struct known *known)                               \
    {                                                                                                                  \
        struct message message = {.kind = MSG_##name};                                                                 \
        struct msg_##name *m = &message.name;                                                                          \
        FIELDS_##name(MAKE) msg_##name##_put(frame, m);                                                                \
    }
MESSAGE_LIST(X)
#undef X

/* Not what is over its limit: it cannot be read. */
static void note_made(struct known *known, struct bytes made)
{
    struct cursor cursor = cursor_of(made);
    struct message message;
    uint64_t unknown;
    const char *why;
    if (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        known_note(known, &message);
    }
}

void message_make(struct buf *frame, struct input *input, struct known *known, enum message_kind kind)
{
    size_t from = frame->n;
    arena_used = 0;
    switch (kind) {
#define X(number, name, required, direction)                                                                           \
    case MSG_##name:                                                                                                   \
        make_##name(frame, input, known);                                                                              \
        break;
        MESSAGE_LIST(X)
#undef X
    }
    note_made(known, bytes_of(frame->p + from, frame->n - from));
}

void frame_damage(struct buf *frame, struct input *input)
{
    for (unsigned times = 1 + input_below(input, 3); times > 0 && frame->n > 0; times--) {
        size_t at = ((size_t)input_u8(input) << 8 | input_u8(input)) % frame->n;
        switch (input_below(input, 3)) {
        case 0:
            frame->p[at] = input_u8(input);
            break;
        case 1:
            frame->n = at;
            break;
        default:
            memmove(frame->p + at, frame->p + at + 1, frame->n - at - 1);
            frame->n--;
        }
    }
}
