/*
 * inspect.c: owns the words of `quern-broker --check`. Must not know SQL, nor what must hold of a store (store.h).
 * Start reading at inspect_text.
 */
#include "broker/inspect.h"

#include <inttypes.h>

/* What of a report is a count: name and what people read. */
#define COUNT_LIST(X)                                                                                                  \
    X(sessions)                                                                                                        \
    X(series)                                                                                                          \
    X(calls)                                                                                                           \
    X(workers)                                                                                                         \
    X(tasks)                                                                                                           \
    X(outcomes)                                                                                                        \
    X(failures)

static void put_json_text(struct buf *to, const char *text)
{
    buf_put_u8(to, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            buf_printf(to, "\\%c", *p);
        } else if (*p < 0x20) {
            buf_printf(to, "\\u%04x", *p);
        } else {
            buf_put_u8(to, *p);
        }
    }
    buf_put_u8(to, '"');
}

void inspect_json(struct buf *to, const char *path, const struct store_report *report)
{
    char uuid[2 * UUID_SIZE + 1];

    buf_printf(to, "{\"db\":");
    put_json_text(to, path);
    buf_printf(to,
               ",\"whole\":%s,\"store\":\"%s\",\"version\":%" PRIu32 ",\"epoch\":%" PRIu32
               ",\"clean\":%s,\"file_bytes\":%" PRIu64 ",\"wal_bytes\":%" PRIu64 ",\"rows\":{",
               report->fault_count == 0 ? "true" : "false", uuid_text(&report->uuid, uuid), report->version,
               report->epoch, report->was_clean ? "true" : "false", report->file_bytes, report->wal_bytes);
#define X(name) buf_printf(to, "\"" #name "\":%" PRIu64 ",", report->name);
    COUNT_LIST(X)
#undef X
    buf_printf(to, "\"all\":%" PRIu64 "},\"faults\":[",
               report->sessions + report->series + report->calls + report->workers + report->tasks + report->outcomes +
                   report->failures);
    for (size_t i = 0; i < report->fault_count; i++) {
        buf_printf(to, "%s{\"count\":%" PRIu64 ",\"text\":", i == 0 ? "" : ",", report->faults[i].count);
        put_json_text(to, report->faults[i].text);
        buf_put_u8(to, '}');
    }
    buf_printf(to, "]}\n");
}

void inspect_text(struct buf *to, const char *path, const struct store_report *report)
{
    char uuid[2 * UUID_SIZE + 1];

    buf_printf(to, "store      %s\n", path);
    buf_printf(to, "identity   %s, epoch %" PRIu32 ", schema %" PRIu32 ", %s\n", uuid_text(&report->uuid, uuid),
               report->epoch, report->version,
               report->was_clean ? "ended cleanly" : "not ended cleanly (the next start recovers)");
    buf_printf(to, "size       %" PRIu64 " bytes, %" PRIu64 " in the log\n", report->file_bytes, report->wal_bytes);
#define X(name) buf_printf(to, "%-10s %" PRIu64 "\n", #name, report->name);
    COUNT_LIST(X)
#undef X
    for (size_t i = 0; i < report->fault_count; i++) {
        buf_printf(to, "FAULT      %" PRIu64 ": %s\n", report->faults[i].count, report->faults[i].text);
    }
    buf_printf(to, "%s",
               report->fault_count == 0 ? "whole: nothing is wrong with it\n"
                                        : "NOT WHOLE: restore a backup (`quern backup` makes them)\n");
}
