/*
 * fuzz_slot.c owns a slot whose handler scribbles over all that it shares with its supervisor, as the input says: ring,
 * claims, progress, waiting, backtrace. Whatever stands there, every attempt ends once, and the books agree.
 * It must not know processes.
 * Start reading at step.
 */
#include "common/check.h"
#include "common/log.h"
#include "fuzz/input.h"
#include "worker/crash.h"
#include "worker/slot.h"
#include "worker/slotwire.h"

#include <stdlib.h>
#include <unistd.h>

#define STEP_COUNT_MAX 200u

struct scene {
    struct input input;
    struct ledger ledger;
    struct pace pace;
    struct slot slot;
    struct slot_yard yard;
    struct statuspage *page; /* as the slot sees it */
    uint64_t task_last;
};

/* ---- the supervisor ---- */

static void dispatch(struct scene *scene, unsigned how)
{
    struct msg_DISPATCH call = {.function = bytes_text("f"), .timeout_ms = how};
    struct item_dispatch item = {.task = ++scene->task_last, .attempt = 1, .args = bytes_text("\x90")};
    struct attempt *attempt = ledger_dispatch(&scene->ledger, how % 2, &call, &item);
    CHECK(attempt != NULL);
    if (slot_has_room(&scene->slot)) {
        slot_hand(&scene->slot, &scene->yard, attempt, 1000);
    }
}

static void look(struct scene *scene)
{
    struct slot *slot = &scene->slot;
    struct progress progress;
    uint32_t version = 0;
    struct attempt *front = slot_running(slot, &scene->yard);
    if (front != NULL) {
        (void)slot_started_us(slot, front, 1000000);
        if (progress_read(slot->page, front->number, &version, &progress)) {
            CHECK(progress.text_size <= sizeof progress.text);
        }
    }
    if (place_read(slot->page) == PLACE_ASKED) {
        wait_answer(slot->page, true);
    }
    (void)statuspage_waited_us(slot->page, 1000000);
    struct buf output = {0};
    const uint64_t known[OUTPUT_STREAM_COUNT] = {input_u8(&scene->input), 0};
    if (front != NULL) {
        struct output_reader reader;
        (void)slot_look(slot, &scene->yard, front, known, &output);
        CHECK(output_open(&reader, buf_bytes(&output)));
    }
    buf_fini(&output);
    front = slot_front(slot);
    struct buf backtrace = {0};
    crash_read(slot->page, front != NULL ? front->number : 0, &backtrace);
    buf_fini(&backtrace);
}

static void order(struct scene *scene, unsigned how)
{
    struct attempt *front = slot_front(&scene->slot);
    if (front == NULL) {
        return;
    }
    switch (how % 4) {
    case 0:
        (void)slot_stop(&scene->slot, &scene->yard, front, how % 8 == 0 ? STOP_TIMEOUT : STOP_MEMORY, 1000);
        break;
    case 1:
        slot_revoke_all(&scene->slot, &scene->yard);
        break;
    case 2:
        slot_forget(&scene->slot, &scene->yard, front);
        ledger_drop(&scene->ledger, &front);
        break;
    default:
        if (front->state == ATTEMPT_HANDED) {
            (void)slot_revoke(&scene->slot, &scene->yard, front);
        }
    }
}

/* ---- the handler ---- */

static void scribble(struct scene *scene)
{
    size_t at = ((size_t)input_u8(&scene->input) << 8 | input_u8(&scene->input)) * 8;
    size_t from = at % (sizeof *scene->page - 64);
    struct bytes bytes = input_bytes(&scene->input, input_below(&scene->input, 64));
    if (bytes.n > 0) {
        memcpy((uint8_t *)scene->page + from, bytes.p, bytes.n);
    }
}

static void scribble_output(struct scene *scene, unsigned which, uint64_t word)
{
    struct statuspage *page = scene->page;
    struct board_stream *stream = &page->board.streams[which / 4 % 2];
    switch (which % 4) {
    case 0:
        atomic_store(&page->output_from[which / 4 % 2], word);
        break;
    case 1:
        atomic_store(&page->board.number, scene->slot.first);
        break;
    case 2:
        atomic_store(&stream->size, word);
        break;
    default:
        atomic_store(&stream->end, word);
    }
}

static void scribble_word(struct scene *scene)
{
    struct statuspage *page = scene->page;
    unsigned which = input_u8(&scene->input);
    uint64_t word = which >= 128 ? input_u64(&scene->input) : input_u8(&scene->input);
    switch (which % 12) {
    case 0:
        atomic_store(&page->written, word);
        break;
    case 1:
        atomic_store(&page->claims[word % SLOT_QUEUE_COUNT_MAX], input_u64(&scene->input));
        break;
    case 2:
        atomic_store(&page->running, word);
        break;
    case 3:
        atomic_store(&page->started_us, (int64_t)word);
        break;
    case 4:
        atomic_store(&page->place, (uint32_t)word);
        break;
    case 5:
        atomic_store(&page->progress.text_size, (uint32_t)word);
        atomic_store(&page->progress.number, which >= 64 ? word : scene->slot.next - 1);
        break;
    case 6:
        atomic_store(&page->progress.version, (uint32_t)word);
        break;
    case 7:
        atomic_store(&page->crash.number, which >= 64 ? word : scene->slot.first);
        break;
    case 8:
        atomic_store(&page->crash.text_size, (uint32_t)word);
        break;
    case 9:
        atomic_store(&page->crash.list_size, (uint32_t)word);
        break;
    case 10:
        atomic_store(&page->wait_since_us, (int64_t)word);
        atomic_store(&page->waited_us, word);
        break;
    default:
        scribble_output(scene, which / 12, word);
        atomic_store(&page->cpu_counted_us, word);
    }
}

/* A result of a valid shape. */
static void publish(struct scene *scene)
{
    unsigned how = input_u8(&scene->input);
    uint64_t number = how < 192 ? scene->slot.first + how % 4 : input_u64(&scene->input);
    struct bytes body = input_bytes(&scene->input, input_u8(&scene->input));
    struct slot_result result = {.number = number,
                                 .run_us = how < 250 ? input_u8(&scene->input) : input_u64(&scene->input),
                                 .waited_us = how % 16 == 1 ? input_u8(&scene->input) : 0,
                                 .output_to = {how % 16 == 2 ? input_u64(&scene->input) : 0, how % 16 == 4 ? 9 : 0},
                                 .result_size = (uint32_t)(body.n / 2),
                                 .kind_size = (uint8_t)(body.n / 4),
                                 .message_size = (uint16_t)(body.n / 4),
                                 .detail_size = how % 16 == 3 ? (uint32_t)input_u64(&scene->input) : 0,
                                 .state = how % 4 == 0    ? 1
                                          : how % 64 == 5 ? 3
                                                          : 0,
                                 .cause = how % 8 == 0    ? CAUSE_ERROR
                                          : how % 64 == 6 ? 77
                                                          : 0};
    (void)claim_start(scene->page, number);
    (void)ring_put(scene->page, bytes_of(&result, sizeof result));
    (void)ring_put(scene->page, body);
}

static void step(struct scene *scene)
{
    unsigned what = input_u8(&scene->input);
    switch (what % 8) {
    case 0:
        dispatch(scene, what);
        break;
    case 1:
        publish(scene);
        break;
    case 2:
        scribble(scene);
        break;
    case 3:
        scribble_word(scene);
        break;
    case 4:
        order(scene, what / 8);
        break;
    case 5:
        (void)claim_start(scene->page, scene->slot.first + what / 64);
        statuspage_run(scene->page, scene->slot.first, 900000, 1000);
        break;
    case 6:
        look(scene);
        break;
    default:
        (void)slot_read(&scene->slot, &scene->yard);
    }
    ledger_check(&scene->ledger);
}

static void refusal_check(struct scene *scene)
{
    scene->slot.is_ready = false;
    char *why = slot_refusal(&scene->slot);
    CHECK(why == NULL || strlen(why) <= SLOT_WHY_SIZE_MAX);
    free(why);
    scene->slot.is_ready = true;
}

static void begin(struct scene *scene)
{
    int fd = statuspage_create();
    int fds[ZYGOTE_FD_COUNT] = {-1, fd, -1, -1, -1};
    CHECK(fd >= 0);
    scene->page = statuspage_map(fd);
    CHECK(scene->page != NULL && slot_open(&scene->slot, 2, fds, 0) == 0);
    close(fd);
    scene->slot.is_ready = true;
    scene->slot.fd = dup(1); /* for slot_has_room only: nothing is sent */
    ledger_init(&scene->ledger);
    pace_init(&scene->pace, 2);
    scene->yard =
        (struct slot_yard){.ledger = &scene->ledger, .pace = &scene->pace, .host = "host", .proc = "/nowhere"};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene; /* large */
    scene = (struct scene){.input = input_of(data, size)};
    log_open("fuzz", LOG_ERROR);
    begin(&scene);
    if (input_below(&scene.input, 16) == 0) {
        scribble_word(&scene);
        statuspage_birth(scene.page, BIRTH_REFUSED);
        refusal_check(&scene);
    }
    for (unsigned i = 0; i < STEP_COUNT_MAX && scene.input.left > 0; i++) {
        step(&scene);
    }
    slot_bury(&scene.slot, &scene.yard, 9, 100, 100, 1000000);
    ledger_check(&scene.ledger);
    CHECK(scene.ledger.handed.count == 0); /* each has ended, or waits again */
    statuspage_unmap(&scene.page);
    pace_fini(&scene.pace);
    ledger_fini(&scene.ledger);
    return 0;
}
