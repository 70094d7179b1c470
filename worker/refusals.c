/*
 * refusals.c owns what becomes of a worker when slots, or the zygote, cannot be made: who is told, and when it is tried
 * again.
 * It must not know how they are made.
 * Start reading at birth_refused.
 */
#include "common/check.h"
#include "worker/complaint.h"
#include "worker/supervisor_private.h"

#include <stdlib.h>
#include <string.h>

/* So many slots in a row that die before they are ready are no accident. */
#define STILLBORN_COUNT_MAX 3
/* In a row: with no more than this between them. */
#define STILLBORN_ROW_MS 5000
/* Pause after the second, four times as long after each further one, up to AGAIN_MS. */
#define STILLBORN_PAUSE_MS 10

/* Nothing runs without what could not be loaded or initialised. Before the first slot was ready, whoever started the
 * worker is told, and it ends; later it is tried again, and told again only if the reason is another. */
void birth_refused(struct supervisor *supervisor, char *why)
{
    bool is_news = supervisor->refusal == NULL || strcmp(supervisor->refusal, why) != 0;
    if (!supervisor->had_slot && supervisor->exit_status < 0) {
        complain("%s", why);
        supervisor->exit_status = 1;
    } else if (supervisor->had_slot && is_news) {
        log_event(LOG_ERROR, "no slot can be made", "why=\"%s\"", why);
    }
    free(supervisor->refusal);
    supervisor->refusal = why;
}

/* Once may be an accident, and the next is made at once; whatever kills one after another gets ever fewer to kill. */
void slot_died_unused(struct supervisor *supervisor, const struct slot *slot, const struct reaped *death)
{
    int64_t now_ms = supervisor->now_us / 1000;
    if (now_ms > supervisor->stillborn_ms + STILLBORN_ROW_MS) {
        supervisor->stillborn = 0;
    }
    supervisor->stillborn_ms = now_ms;
    supervisor->stillborn++;
    log_event(LOG_WARN, "a slot died before it ran anything", "pid=%d status=%d", slot->pid, death->status);
    int64_t pause_ms = STILLBORN_PAUSE_MS;
    for (unsigned i = 2; i < supervisor->stillborn && pause_ms < AGAIN_MS; i++) {
        pause_ms *= 4;
    }
    if (supervisor->stillborn > 1) {
        supervisor->ask_ms = now_ms + (pause_ms < AGAIN_MS ? pause_ms : AGAIN_MS);
    }
    if (!slot->is_ready && supervisor->stillborn >= STILLBORN_COUNT_MAX) {
        char text[DEATH_TEXT_SIZE];
        stillborn(death->status, text);
        birth_refused(supervisor, xstrdup(text));
    }
}

static size_t ready_count(const struct supervisor *supervisor)
{
    size_t count = 0;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        count += supervisor->slots[i].state == SLOT_LIVE && supervisor->slots[i].is_ready;
    }
    return count;
}

bool herd_is_barren(const struct supervisor *supervisor)
{
    return supervisor->refusal != NULL && ready_count(supervisor) == 0;
}

/* All there are to be, or at least one where not all can be made. */
bool herd_is_complete(const struct supervisor *supervisor)
{
    return ready_count(supervisor) >= supervisor->places.slots ||
           (supervisor->had_slot && (supervisor->refusal != NULL || supervisor->stillborn > 0));
}
