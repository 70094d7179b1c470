/*
 * Owns making and comparing descriptions. Must not talk to the broker. Start at describe_equal.
 */
#include "client/cli/describe.h"

#include "client/cli/answer.h"
#include "client/cli/json.h"
#include "common/codec.h"
#include "common/limits.h"
#include <stdio.h>
#include <string.h>

static void put_long(struct buf *to, struct bytes value)
{
    unsigned char digest[DIGEST_SIZE] = {0};
    if (value.n == 0) {
        put_nil(to);
    } else if (value.n <= DESCRIBE_VALUE_SIZE_MAX) {
        put_raw(to, value);
    } else {
        quern_digest_step(digest, 0, value.p, value.n);
        put_bin(to, bytes_of(digest, sizeof digest));
    }
}

static void put_named_text(struct buf *to, const char *name, const char *text)
{
    put_text(to, name);
    if (text != NULL && !bytes_is_utf8(bytes_text(text))) {
        put_bin(to, bytes_text(text));
    } else {
        put_text(to, text);
    }
}

static void put_named_flag(struct buf *to, const char *name, bool flag)
{
    put_text(to, name);
    put_flag(to, flag);
}

static void put_named_u64(struct buf *to, const char *name, uint64_t value)
{
    put_text(to, name);
    put_u64(to, value);
}

void describe(const struct description *description, struct buf *to)
{
    const struct task_options *task = description->task;
    put_map(to, 25);
    put_named_text(to, "command", description->command);
    put_named_text(to, "function", description->function);
    put_named_flag(to, "raw", description->is_raw);
    put_named_flag(to, "null", description->is_null);
    put_named_text(to, "queue", task->queue != NULL ? task->queue : "default");
    put_text(to, "priority");
    put_i64(to, task->priority);
    put_named_u64(to, "delay_ms", task->delay_ms);
    put_named_u64(to, "timeout_ms", task->timeout_ms);
    put_named_u64(to, "attempts", (uint64_t)task->attempts);
    put_named_u64(to, "retry_on", task->retry_on);
    put_named_u64(to, "backoff_ms", task->backoff_ms);
    put_named_u64(to, "backoff_cap_ms", task->backoff_cap_ms);
    put_named_flag(to, "at_most_once", task->at_most_once);
    put_named_u64(to, "memory_bytes", task->memory_bytes);
    put_named_u64(to, "memory_growth", task->memory_growth);
    put_named_u64(to, "memory_cap_bytes", task->memory_cap_bytes);
    put_named_u64(to, "alone", task->is_alone ? 1 : task->is_alone_retried ? 2 : 0);
    put_named_u64(to, "expires_ms", task->expires_ms);
    put_named_text(to, "at", task->at_text);
    put_named_flag(to, "known", task->known);
    put_named_u64(to, "crashes", (uint64_t)task->crashes);
    put_named_u64(to, "losses", (uint64_t)task->losses);
    put_text(to, "argv");
    put_long(to, description->argv);
    put_text(to, "env");
    put_long(to, description->env);
    put_named_text(to, "cwd", description->cwd);
}

/* A value for people, cut if it is long. */
static void shown(struct bytes value, char text[DESCRIBE_SHOWN_SIZE + 4])
{
    struct buf json = {0};
    if (value.n == 0) {
        buf_printf(&json, "nothing");
    } else if (json_from_msgpack(value, &json) != QUERN_OK) {
        buf_printf(&json, "?");
    }
    size_t size = json.n < DESCRIBE_SHOWN_SIZE ? json.n : DESCRIBE_SHOWN_SIZE;
    (void)snprintf(text, DESCRIBE_SHOWN_SIZE + 4, "%.*s%s", (int)size, (const char *)json.p,
                   json.n > size ? "..." : "");
    buf_fini(&json);
}

static void tell(struct bytes name, struct bytes kept, struct bytes now, char text[DESCRIBE_TEXT_SIZE])
{
    char was[DESCRIBE_SHOWN_SIZE + 4];
    char is[DESCRIBE_SHOWN_SIZE + 4];
    shown(kept, was);
    shown(now, is);
    (void)snprintf(text, DESCRIBE_TEXT_SIZE, "%.*s was %s, now it is %s", (int)name.n, (const char *)name.p, was, is);
}

/* Every field of a has the same value in b. */
static bool fields_are_in(struct bytes a, struct bytes b, bool a_is_kept, char text[DESCRIBE_TEXT_SIZE])
{
    struct answer_walk walk;
    struct bytes name;
    struct bytes value;
    for (answer_walk_map(&walk, a); answer_walk_pair(&walk, &name, &value);) {
        struct bytes other = answer_get(b, name);
        if (!bytes_equal(value, other)) {
            tell(name, a_is_kept ? value : other, a_is_kept ? other : value, text);
            return false;
        }
    }
    return true;
}

bool describe_equal(struct bytes kept, struct bytes now, char text[DESCRIBE_TEXT_SIZE])
{
    return fields_are_in(now, kept, false, text) && fields_are_in(kept, now, true, text);
}

char *describe_field(struct bytes description, const char *name)
{
    return answer_text(description, name);
}
