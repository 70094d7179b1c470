/*
 * frames.c owns messages as text, and writing again what was read.
 * It must not know what a message means.
 * Start reading at message_text.
 */
#include "support/frames.h"

#include <inttypes.h>

/* ---- as text ---- */

static void bytes_text_put(struct buf *out, struct bytes bytes)
{
    if (bytes.p == NULL) {
        buf_printf(out, "nil");
        return;
    }
    buf_printf(out, "h'");
    for (size_t i = 0; i < bytes.n; i++) {
        buf_printf(out, "%02x", bytes.p[i]);
    }
    buf_printf(out, "'");
}

static void str_text_put(struct buf *out, struct bytes text)
{
    if (text.p == NULL) {
        buf_printf(out, "nil");
        return;
    }
    buf_put_u8(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < ' ' || text.p[i] == '"' || text.p[i] == '\\') {
            buf_printf(out, "\\u%04x", text.p[i]);
        } else {
            buf_put_u8(out, text.p[i]);
        }
    }
    buf_put_u8(out, '"');
}

#define TEXT_u64(name, max) buf_printf(out, " " #name "=%" PRIu64, m->name);
#define TEXT_i64(name, min, max) buf_printf(out, " " #name "=%" PRId64, m->name);
#define TEXT_flag(name) buf_printf(out, " " #name "=%s", m->name ? "true" : "false");
#define TEXT_f64(name) buf_printf(out, " " #name "=%.17g", m->name);
#define TEXT_str(name, max)                                                                                            \
    buf_printf(out, " " #name "=");                                                                                    \
    str_text_put(out, m->name);
#define TEXT_bin(name, max)                                                                                            \
    buf_printf(out, " " #name "=");                                                                                    \
    bytes_text_put(out, m->name);
#define TEXT_id16(name)                                                                                                \
    buf_printf(out, " " #name "=");                                                                                    \
    bytes_text_put(out, bytes_of(m->name.b, UUID_SIZE));
#define TEXT_payload(name) TEXT_bin(name, 0)
#define TEXT_any(name) TEXT_bin(name, 0)
#define TEXT_list(name, item)                                                                                          \
    {                                                                                                                  \
        struct list list = m->name;                                                                                    \
        struct item_##item each;                                                                                       \
        const char *separator = "";                                                                                    \
                                                                                                                       \
        buf_printf(out, " " #name "=[");                                                                               \
        while (item_##item##_next(&list, &each)) {                                                                     \
            buf_printf(out, "%s{", separator);                                                                         \
            item_##item##_text(out, &each);                                                                            \
            buf_printf(out, " }");                                                                                     \
            separator = " ";                                                                                           \
        }                                                                                                              \
        buf_printf(out, "]");                                                                                          \
    }

#define X(item)                                                                                                        \
    static void item_##item##_text(struct buf *out, const struct item_##item *m)                                       \
    {                                                                                                                  \
        ITEM_##item(TEXT)                                                                                              \
    }
ITEM_LIST(X)
#undef X

#define X(number, kind, required, direction)                                                                           \
    static void msg_##kind##_text(struct buf *out, const struct msg_##kind *m)                                         \
    {                                                                                                                  \
        buf_printf(out, #kind);                                                                                        \
        FIELDS_##kind(TEXT)                                                                                            \
    }
MESSAGE_LIST(X)
#undef X

void message_text(struct buf *out, const struct message *message)
{
    switch (message->kind) {
#define X(number, name, required, direction)                                                                           \
    case number:                                                                                                       \
        msg_##name##_text(out, &message->name);                                                                        \
        break;
        MESSAGE_LIST(X)
#undef X
    }
}

/* ---- written again ---- */

#define X(item)                                                                                                        \
    static struct list list_##item##_again(struct list list, struct buf *memory)                                       \
    {                                                                                                                  \
        struct list again = {.count = list.count};                                                                     \
        struct item_##item each;                                                                                       \
                                                                                                                       \
        while (item_##item##_next(&list, &each)) {                                                                     \
            item_##item##_put(memory, &each);                                                                          \
        }                                                                                                              \
        again.items = buf_bytes(memory);                                                                               \
        return again;                                                                                                  \
    }
ITEM_LIST(X)
#undef X

#define AGAIN_u64(name, max)
#define AGAIN_flag(name)
#define AGAIN_str(name, max)
#define AGAIN_bin(name, max)
#define AGAIN_id16(name)
#define AGAIN_any(name)
#define AGAIN_list(name, item) again->name = list_##item##_again(m->name, &memory[list_count++]);

#define LIST_COUNT_MAX 3u /* of one message: HELLO_WORKER has three */

/* A copy of the message whose lists were encoded anew, into memory. */
#define X(number, kind, required, direction)                                                                           \
    static void msg_##kind##_again(struct msg_##kind *again, struct buf memory[LIST_COUNT_MAX])                        \
    {                                                                                                                  \
        const struct msg_##kind *m = again;                                                                            \
        size_t list_count = 0;                                                                                         \
                                                                                                                       \
        FIELDS_##kind(AGAIN);                                                                                          \
        (void)m;                                                                                                       \
        (void)memory;                                                                                                  \
        (void)list_count;                                                                                              \
    }
MESSAGE_LIST(X)
#undef X

static void lists_again(struct message *message, struct buf memory[LIST_COUNT_MAX])
{
    switch (message->kind) {
#define X(number, name, required, direction)                                                                           \
    case number:                                                                                                       \
        msg_##name##_again(&message->name, memory);                                                                    \
        break;
        MESSAGE_LIST(X)
#undef X
    }
}

/* As a run, if it is one. */
static bool run_again(struct buf *out, const struct message *message)
{
    struct run run;
    struct list items;

    switch (message->kind) {
#define X(name)                                                                                                        \
    case MSG_##name:                                                                                                   \
        items = message->name.items;                                                                                   \
        break;
        RUN_LIST(X)
#undef X
    default:
        return false;
    }
    run_open(&run, out, message);
    buf_put(run.out, items.items.p, items.items.n);
    run.count = items.count;
    run_close(&run);
    return true;
}

static void whole_again(struct buf *out, const struct message *message)
{
    switch (message->kind) {
#define X(number, name, required, direction)                                                                           \
    case number:                                                                                                       \
        msg_##name##_put(out, &message->name);                                                                         \
        break;
        MESSAGE_LIST(X)
#undef X
    }
}

void message_again(struct buf *out, const struct message *message)
{
    struct message again = *message;
    struct buf memory[LIST_COUNT_MAX] = {{0}};

    lists_again(&again, memory);
    if (!run_again(out, &again)) {
        whole_again(out, &again);
    }
    for (size_t i = 0; i < LIST_COUNT_MAX; i++) {
        buf_fini(&memory[i]);
    }
}
