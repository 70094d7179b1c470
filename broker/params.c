/*
 * params.c owns reading the parameters of queries.
 * It must not know what is asked.
 */
#include "broker/params.h"

#include "common/codec.h"
#include "common/limits.h"

bool params_read(struct bytes map, struct params *params)
{
    struct cursor cursor = cursor_of(map);
    struct value head;
    struct value key;
    struct value value;
    *params = (struct params){.limit = 100};
    if (map.n == 0 || map.p[0] == 0xc0) {
        return true;
    }
    if (!cursor_next(&cursor, &head) || head.type != VALUE_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < head.count; i++) {
        struct cursor at;
        if (!cursor_next(&cursor, &key) || key.type != VALUE_STR) {
            return false;
        }
        at = cursor;
        if (!cursor_skip(&cursor, ENVELOPE_DEPTH_MAX, NULL) || !cursor_next(&at, &value)) {
            return false;
        }
        if (bytes_is(key.bytes, "id") && value.type == VALUE_UINT) {
            params->id = value.u;
        } else if (bytes_is(key.bytes, "limit") && value.type == VALUE_UINT) {
            params->limit = value.u;
        } else if (bytes_is(key.bytes, "after") && value.type == VALUE_UINT) {
            params->after = value.u;
        } else if (bytes_is(key.bytes, "completion") && value.type == VALUE_UINT) {
            params->completion = value.u;
        } else if (bytes_is(key.bytes, "attempt") && value.type == VALUE_UINT && value.u <= UINT32_MAX) {
            params->attempt = value.u;
        } else if (bytes_is(key.bytes, "stdout") && value.type == VALUE_UINT && value.u <= INT64_MAX) {
            params->known[OUTPUT_STDOUT - 1] = value.u;
        } else if (bytes_is(key.bytes, "stderr") && value.type == VALUE_UINT && value.u <= INT64_MAX) {
            params->known[OUTPUT_STDERR - 1] = value.u;
        } else if (bytes_is(key.bytes, "wait") && value.type == VALUE_FLAG) {
            params->wait = value.flag;
        } else if (bytes_is(key.bytes, "ack") && value.type == VALUE_FLAG) {
            params->ack = value.flag;
        } else if (bytes_is(key.bytes, "state") && value.type == VALUE_STR) {
            params->state = value.bytes;
        } else if (bytes_is(key.bytes, "cause") && value.type == VALUE_STR) {
            params->cause = value.bytes;
        } else if (bytes_is(key.bytes, "session") && value.type == VALUE_STR) {
            params->session = value.bytes;
        } else if (bytes_is(key.bytes, "file") && (value.type == VALUE_STR || value.type == VALUE_BIN)) {
            params->file = value.bytes;
        } else if (value.type != VALUE_NIL) {
            return false;
        }
    }
    return true;
}
