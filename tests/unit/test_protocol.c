/*
 * test_protocol.c owns that common/PROTOCOL.md says what messages.h, limits.h and err.h say: every message with its
 * number, direction and fields, every item, word, code and limit, in order, none left out and none too many.
 * It must not know whether the prose is good. Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/message.h"

#define PROTOCOL_PATH TESTS_DIR "/../common/PROTOCOL.md"
#define FILE_SIZE_MAX (1024u * 1024u)

static struct buf doc;

static int doc_read(void **state)
{
    FILE *file = fopen(PROTOCOL_PATH, "rb");

    (void)state;
    if (file == NULL) {
        return -1;
    }
    buf_reserve(&doc, FILE_SIZE_MAX);
    doc.n = fread(doc.p, 1, FILE_SIZE_MAX - 1, file);
    doc.p[doc.n] = '\0';
    fclose(file);
    return 0;
}

static int doc_free(void **state)
{
    (void)state;
    buf_fini(&doc);
    return 0;
}

/* ---- sections and their rows ---- */

/* Where the section of that heading begins and ends (at the next heading). */
static struct bytes section_of(const char *heading)
{
    char line[128];
    const char *at;
    const char *end;

    snprintf(line, sizeof line, "\n%s\n", heading);
    at = strstr((const char *)doc.p, line);
    if (at == NULL) {
        fail_msg("PROTOCOL.md has no section '%s'", heading);
    }
    at += strlen(line);
    end = strstr(at, "\n#");
    return bytes_of(at, end != NULL ? (size_t)(end + 1 - at) : strlen(at));
}

/* Each row begins with a line of rows, in that order; and there are no other rows that begin with a number. */
static void assert_rows(const char *heading, const struct buf *rows)
{
    struct bytes section = section_of(heading);
    const char *row = (const char *)rows->p;

    for (const char *line = (const char *)section.p; line < (const char *)section.p + section.n;
         line += strcspn(line, "\n") + 1) {
        size_t size = strcspn(row, "\n");

        if (strncmp(line, "| ", 2) != 0 || line[2] < '0' || line[2] > '9') {
            continue;
        }
        if (*row == '\0' || strncmp(line, row, size) != 0) {
            fail_msg("%s\nPROTOCOL.md has %.*s\nthe headers  %.*s", heading, (int)strcspn(line, "\n"), line, (int)size,
                     row);
        }
        row += size + 1;
    }
    if (*row != '\0') {
        fail_msg("%s: PROTOCOL.md lacks %s", heading, row);
    }
}

static void rows_check(const char *heading, struct buf *rows)
{
    buf_put_u8(rows, '\0');
    assert_rows(heading, rows);
    buf_fini(rows);
}

/* ---- fields as the document writes them ---- */

static void bound_put(struct buf *rows, uint64_t max)
{
    switch (max) {
    case UINT64_MAX:
        buf_printf(rows, "2^64-1");
        break;
    case INT64_MAX:
        buf_printf(rows, "2^63-1");
        break;
    case UINT32_MAX:
        buf_printf(rows, "2^32-1");
        break;
    case INT32_MAX:
        buf_printf(rows, "2^31-1");
        break;
    default:
        buf_printf(rows, "%" PRIu64, max);
    }
}

static void row_put(struct buf *rows, unsigned *number, const char *name, const char *type, const uint64_t *max)
{
    buf_printf(rows, "| %u | %s | %s", ++*number, name, type);
    if (max != NULL) {
        buf_printf(rows, " ≤ ");
        bound_put(rows, *max);
    }
    buf_printf(rows, " |\n");
}

#define ROW_BOUND(name, type, max) row_put(&rows, &number, #name, type, &(const uint64_t){(max)});
#define ROW_PLAIN(name, type) row_put(&rows, &number, #name, type, NULL);
#define ROW_u64(name, max) ROW_BOUND(name, "u64", max)
#define ROW_str(name, max) ROW_BOUND(name, "str", max)
#define ROW_bin(name, max) ROW_BOUND(name, "bin", max)
#define ROW_i64(name, min, max)                                                                                        \
    buf_printf(&rows, "| %u | " #name " | i64 %" PRId64 " to %" PRId64 " |\n", ++number, (int64_t)(min),               \
               (int64_t)(max));
#define ROW_flag(name) ROW_PLAIN(name, "flag")
#define ROW_f64(name) ROW_PLAIN(name, "f64")
#define ROW_id16(name) ROW_PLAIN(name, "id16")
#define ROW_payload(name) ROW_PLAIN(name, "payload")
#define ROW_any(name) ROW_PLAIN(name, "any")
#define ROW_list(name, item) ROW_PLAIN(name, "list of " #item)

/* ---- tests ---- */

#define X(kind, name, required, direction)                                                                             \
    static void check_##name(void)                                                                                     \
    {                                                                                                                  \
        struct buf rows = {0};                                                                                         \
        unsigned number = 0;                                                                                           \
                                                                                                                       \
        FIELDS_##name(ROW);                                                                                            \
        assert_in_range(number, required, UINT8_MAX); /* what was added later may be missing */                        \
        rows_check("### " #kind " " #name " (" direction ")", &rows);                                                  \
    }
MESSAGE_LIST(X)
#undef X

#define X(name)                                                                                                        \
    static void check_item_##name(void)                                                                                \
    {                                                                                                                  \
        struct buf rows = {0};                                                                                         \
        unsigned number = 0;                                                                                           \
                                                                                                                       \
        ITEM_##name(ROW);                                                                                              \
        rows_check("### item " #name, &rows);                                                                          \
    }
ITEM_LIST(X)
#undef X

/* Who writes a client from the page must find every field at its place with its bound. */
static void test_every_message_is_documented_field_by_field(void **state)
{
    (void)state;
#define X(kind, name, required, direction) check_##name();
    MESSAGE_LIST(X)
#undef X
}

static void test_every_item_is_documented_field_by_field(void **state)
{
    (void)state;
#define X(name) check_item_##name();
    ITEM_LIST(X)
#undef X
}

/* A message that was taken out of messages.h must not live on in the document. */
static void test_nothing_else_is_documented_as_a_message(void **state)
{
    unsigned expected = 0;
    unsigned found = 0;

    (void)state;
#define X(kind, name, required, direction) expected++;
    MESSAGE_LIST(X)
#undef X
    for (const char *at = strstr((char *)doc.p, "\n### "); at != NULL; at = strstr(at + 1, "\n### ")) {
        const char *behind = at + strlen("\n### ");
        size_t digits = strspn(behind, "0123456789");

        found += digits > 0 && behind[digits] == ' ' ? 1 : 0; /* "### 6.1 ..." is a section of prose */
    }
    assert_int_equal(found, expected);
}

static void test_task_options_are_documented(void **state)
{
    struct buf rows = {0};
    unsigned number = 0;

    (void)state;
    FIELDS_OPTIONS(ROW);
    rows_check("### OPTIONS", &rows);
}

static void test_states_causes_and_codes_are_documented(void **state)
{
    struct buf states = {0};
    struct buf causes = {0};
    struct buf codes = {0};

    (void)state;
#define X(number, name, word) buf_printf(&states, "| " #number " | " word " |\n");
    TASK_STATE_LIST(X)
#undef X
#define X(number, name, word) buf_printf(&causes, "| " #number " | " word " |\n");
    CAUSE_LIST(X)
#undef X
#define X(code, name, word, text) buf_printf(&codes, "| " #code " | " word " | " text " |\n");
    QUERN_ERR_LIST(X)
#undef X
    rows_check("### States", &states);
    rows_check("### Causes", &causes);
    rows_check("## 12. Error codes", &codes);
}

/* The limits a peer must keep are named with their values. */
static void test_limits_are_documented_with_their_values(void **state)
{
    static const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
#define L(name) {#name, name}
        L(FRAME_SIZE_MAX),         L(PAYLOAD_SIZE_MAX),
        L(BATCH_SIZE_SOFT),        L(BATCH_COUNT_SOFT),
        L(ENVELOPE_DEPTH_MAX),     L(PEER_ERROR_COUNT_MAX),
        L(FUNCTION_NAME_SIZE_MAX), L(OPTIONS_SIZE_MAX),
        L(TAKEN_RANGE_COUNT_MAX),  L(WORKER_FUNCTION_COUNT_MAX),
        L(WORKER_QUEUE_COUNT_MAX), L(WORKER_HELD_COUNT_MAX),
        L(TASK_DEPTH_MAX),         L(SLOT_COUNT_MAX),
        L(QUERY_COUNT_MAX),        L(QUERY_ROW_COUNT_MAX),
        L(QUERY_OPEN_COUNT_MAX),   L(REFUSED_RANGE_COUNT_MAX),
#undef L
    };
    struct bytes section = section_of("## 13. Limits");
    size_t row_count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char row[128];
        const char *at;

        snprintf(row, sizeof row, "\n| %s | %" PRIu64 " | ", limits[i].name, limits[i].value);
        at = strstr((const char *)section.p, row);
        if (at == NULL || at > (const char *)section.p + section.n) {
            fail_msg("PROTOCOL.md lacks%s", row);
        }
    }
    for (size_t i = 0; i + 3 < section.n; i++) {
        row_count += memcmp(section.p + i, "\n| ", 3) == 0 && section.p[i + 3] >= 'A' && section.p[i + 3] <= 'Z';
    }
    assert_int_equal(row_count, sizeof limits / sizeof *limits); /* and no other */
    assert_int_equal(FUNCTION_NAME_SIZE_MAX, QUEUE_NAME_SIZE_MAX);
    assert_int_equal(FUNCTION_NAME_SIZE_MAX, SESSION_NAME_SIZE_MAX);
}

/* What the prose says of numbers that come from limits.h. */
static void test_defaults_in_the_prose_are_those_of_the_code(void **state)
{
    struct limits limits = limits_default();
    struct task_options options = task_options_default();
    char text[128];

    (void)state;
    snprintf(text, sizeof text, "`heartbeat_ms` is %" PRIu64 " and `dead_ms` %" PRIu64 ".", limits.heartbeat_ms,
             limits.dead_ms);
    assert_non_null(strstr((char *)doc.p, text));
    snprintf(text, sizeof text, "0: error, timeout, memory (%" PRIu64 ")", options.retry_on);
    assert_non_null(strstr((char *)doc.p, text));
    snprintf(text, sizeof text, "quarantined; 0: %" PRIu64 " ", options.crashes_max);
    assert_non_null(strstr((char *)doc.p, text));
    snprintf(text, sizeof text, "fails as lost; 0: %" PRIu64 " ", options.losses_max);
    assert_non_null(strstr((char *)doc.p, text));
    assert_int_equal(options.backoff_cap_ms, 3600 * 1000); /* "0: an hour" */
    assert_int_equal(limits.session_gone_ms, 60 * 1000);   /* "gone for 60 seconds" */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_message_is_documented_field_by_field),
        cmocka_unit_test(test_every_item_is_documented_field_by_field),
        cmocka_unit_test(test_nothing_else_is_documented_as_a_message),
        cmocka_unit_test(test_task_options_are_documented),
        cmocka_unit_test(test_states_causes_and_codes_are_documented),
        cmocka_unit_test(test_limits_are_documented_with_their_values),
        cmocka_unit_test(test_defaults_in_the_prose_are_those_of_the_code),
    };
    return cmocka_run_group_tests_name("protocol", tests, doc_read, doc_free);
}
