/*
 * Owns looking into the broker's answers. Must not know queries. Start at answer_get.
 */
#include "client/cli/answer.h"

#include "common/codec.h"
#include "common/ids.h"
#include "common/limits.h"
#include <stdio.h>

#define SHOWN_COUNT 16u /* answer_shown: texts alive at once */
#define SHOWN_SIZE 512u

struct bytes answer_get(struct bytes map, struct bytes key)
{
    struct answer_walk walk;
    struct bytes name;
    struct bytes value;
    for (answer_walk_map(&walk, map); answer_walk_pair(&walk, &name, &value);) {
        if (bytes_equal(name, key)) {
            return value;
        }
    }
    return (struct bytes){0};
}

struct bytes answer_field(struct bytes map, const char *name)
{
    return answer_get(map, bytes_text(name));
}

static bool head(struct bytes value, struct value *value_out)
{
    struct cursor cursor = cursor_of(value);
    return value.n > 0 && cursor_next(&cursor, value_out);
}

static bool field_head(struct bytes map, const char *name, struct value *value_out)
{
    return head(answer_field(map, name), value_out);
}

uint64_t answer_u64(struct bytes map, const char *name)
{
    struct value value;
    return field_head(map, name, &value) && value.type == VALUE_UINT ? value.u : 0;
}

int64_t answer_i64(struct bytes map, const char *name)
{
    struct value value;
    if (!field_head(map, name, &value)) {
        return 0;
    }
    if (value.type == VALUE_UINT && value.u <= INT64_MAX) {
        return (int64_t)value.u;
    }
    return value.type == VALUE_INT ? value.i : 0;
}

double answer_f64(struct bytes map, const char *name)
{
    struct value value;
    if (!field_head(map, name, &value)) {
        return 0;
    }
    return value.type == VALUE_F64 ? value.f : (value.type == VALUE_UINT ? (double)value.u : 0);
}

bool answer_flag(struct bytes map, const char *name)
{
    struct value value;
    return field_head(map, name, &value) && value.type == VALUE_FLAG && value.flag;
}

bool answer_is_nil(struct bytes map, const char *name)
{
    struct value value;
    return !field_head(map, name, &value) || value.type == VALUE_NIL;
}

struct bytes answer_scalar_bytes(struct bytes encoded)
{
    struct value value;
    if (head(encoded, &value) && (value.type == VALUE_STR || value.type == VALUE_BIN)) {
        return value.bytes;
    }
    return (struct bytes){0};
}

struct bytes answer_bytes(struct bytes map, const char *name)
{
    return answer_scalar_bytes(answer_field(map, name));
}

char *answer_text(struct bytes map, const char *name)
{
    struct value value;
    return field_head(map, name, &value) && value.type == VALUE_STR ? bytes_dup_text(value.bytes) : NULL;
}

const char *answer_shown(struct bytes map, const char *name)
{
    static char texts[SHOWN_COUNT][SHOWN_SIZE];
    static unsigned next;
    struct bytes text = answer_bytes(map, name);
    char *shown = texts[next++ % SHOWN_COUNT];
    size_t size = text.n < SHOWN_SIZE - 1 ? text.n : SHOWN_SIZE - 1;
    for (size_t i = 0; i < size; i++) {
        shown[i] = text.p[i] < 0x20 || text.p[i] == 0x7f ? ' ' : (char)text.p[i];
    }
    shown[size] = '\0';
    return shown;
}

static void walk_begin(struct answer_walk *walk, struct bytes value, enum value_type type)
{
    struct value first;
    struct cursor cursor = cursor_of(value);
    *walk = (struct answer_walk){0};
    if (value.n > 0 && cursor_next(&cursor, &first) && first.type == type) {
        *walk = (struct answer_walk){.p = cursor.p, .end = cursor.end, .left = first.count};
    }
}

void answer_walk_array(struct answer_walk *walk, struct bytes value)
{
    walk_begin(walk, value, VALUE_ARRAY);
}

void answer_walk_map(struct answer_walk *walk, struct bytes value)
{
    walk_begin(walk, value, VALUE_MAP);
}

static bool walk_step(struct answer_walk *walk, struct bytes *value_out)
{
    struct cursor cursor = {.p = walk->p, .end = walk->end};
    bool is_ok = cursor_skip(&cursor, VALUE_DEPTH_MAX, value_out);
    walk->p = cursor.p;
    return is_ok;
}

bool answer_walk_next(struct answer_walk *walk, struct bytes *value_out)
{
    if (walk->left == 0) {
        return false;
    }
    walk->left--;
    return walk_step(walk, value_out);
}

bool answer_walk_pair(struct answer_walk *walk, struct bytes *key_out, struct bytes *value_out)
{
    struct bytes key;
    struct value value;
    if (walk->left == 0) {
        return false;
    }
    walk->left--;
    if (!walk_step(walk, &key) || !walk_step(walk, value_out) || !head(key, &value)) {
        return false;
    }
    *key_out = value.bytes;
    return true;
}

uint32_t answer_count(struct bytes value)
{
    struct value first;
    return head(value, &first) && (first.type == VALUE_ARRAY || first.type == VALUE_MAP) ? first.count : 0;
}

int query(struct quern_client *client, const char *what, const struct buf *params, const char *about,
          struct bytes *answer_out)
{
    void *p = NULL;
    size_t n = 0;
    const void *params_p = params != NULL ? params->p : NULL;
    enum quern_err err = quern_query(client, what, params_p, params != NULL ? params->n : 0, QUERN_FOREVER, &p, &n);
    if (err != QUERN_OK) {
        return say_error(err, about);
    }
    *answer_out = bytes_of(p, n);
    return STATUS_OK;
}

int query_id(struct quern_client *client, const char *what, uint64_t id, struct bytes *answer_out)
{
    struct buf params = {0};
    char text[ID_TEXT_SIZE];
    put_map(&params, 1);
    put_text(&params, "id");
    put_u64(&params, id);
    int status = query(client, what, &params, id_text(id, text), answer_out);
    buf_fini(&params);
    return status;
}
