/*
 * Owns the decision whether a session that exists is the same work: by its description, and by the digest of the
 * arguments of the lines that were accepted. Must not print outcomes. Start at resume.
 */
#include "client/cli/feed.h"

#include "client/cli/describe.h"
#include "client/cli/signals.h"
#include "common/limits.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void refuse_other(struct feed *feed, const char *what)
{
    say("session '%s': %s; take another session name, or end this one with `quern close '%s' --cancel`",
        feed->options->session, what, feed->options->session);
    feed->stop = FEED_REFUSED;
}

static void compare_description(struct feed *feed, struct bytes now)
{
    char text[DESCRIBE_TEXT_SIZE];
    struct bytes kept = bytes_of(feed->info.description, feed->info.description_size);
    if (kept.n == 0) {
        refuse_other(feed, "it was not begun by `quern map` or `quern run`");
    } else if (!describe_equal(kept, now, text)) {
        refuse_other(feed, text);
    }
}

/* A bad item among the lines that were accepted is reported once they have proved to be the same. */
static void keep_bad_item(struct feed *feed, const struct line *line, const char *why)
{
    uint64_t place;
    if (!spool_put(&feed->bad, line->number, bytes_of(why, strlen(why) + 1), line->text, &place)) {
        feed_fail_system(feed, "a temporary file (TMPDIR)", errno);
    }
}

/* Keeps what the broker may not send back with the outcome. */
static void keep_input(struct feed *feed, uint64_t ordinal)
{
    if (feed->options->jsonl && !inputs_put(&feed->inputs, ordinal, buf_bytes(&feed->args))) {
        feed_fail_system(feed, "a temporary file (TMPDIR)", errno);
    }
}

static bool compare_item(struct feed *feed, enum feed_item found, const struct line *line, const char *why,
                         unsigned char digest[DIGEST_SIZE])
{
    if (found == FEED_BAD_ITEM) {
        keep_bad_item(feed, line, why);
    } else {
        quern_digest_step(digest, line->number, feed->args.p, feed->args.n);
        keep_input(feed, line->number);
    }
    return line->number < feed->info.ordinal_high;
}

/* Reads up to the highest accepted line. False if the input ends before it (or something stopped the feed). */
static bool read_accepted(struct feed *feed, unsigned char digest[DIGEST_SIZE])
{
    bool goes_on = true;
    while (goes_on && feed->stop == FEED_GO_ON) {
        struct line line;
        const char *why;
        enum feed_item found = feed_read_item(feed, &line, &why);
        if (found == FEED_END) {
            return false;
        }
        if (found == FEED_WAIT) {
            feed_wait(feed, false);
            cli_watch_say();
            feed->stop = signals_came() ? FEED_INTERRUPTED : feed->stop;
        } else {
            goes_on = compare_item(feed, found, &line, why, digest);
        }
    }
    return feed->stop == FEED_GO_ON;
}

static void compare_lines(struct feed *feed)
{
    unsigned char digest[DIGEST_SIZE] = {0};
    char text[DESCRIBE_TEXT_SIZE];
    uint64_t high = feed->info.ordinal_high;
    bool is_there = read_accepted(feed, digest);
    if (feed->stop != FEED_GO_ON) {
        return;
    }
    if (!is_there) {
        (void)snprintf(text, sizeof text,
                       "the first %" PRIu64 " lines were accepted, but the input ends after %" PRIu64, high,
                       feed->lines.number);
        refuse_other(feed, text);
    } else if (memcmp(digest, feed->info.digest, sizeof digest) != 0) {
        (void)snprintf(text, sizeof text, "the first %" PRIu64 " lines of the input are not those that were accepted",
                       high);
        refuse_other(feed, text);
    }
}

void resume(struct feed *feed, struct bytes description)
{
    compare_description(feed, description);
    if (feed->stop == FEED_GO_ON && feed->info.ordinal_high > 0) {
        compare_lines(feed);
    }
    if (feed->stop == FEED_GO_ON && !feed->options->keep_order) {
        taking_earlier_bad(feed, UINT64_MAX);
    }
}
