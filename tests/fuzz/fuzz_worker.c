/*
 * fuzz_worker.c owns a worker without processes whose broker says what the input chooses: sound conversations, sound
 * messages at the wrong time with numbers of others, and damaged frames. After every step its books must agree.
 * It must not know what the protocol wants of a broker.
 * Start reading at step.
 */
#include "common/check.h"
#include "common/log.h"
#include "fuzz/made.h"
#include "worker/dialogue.h"

#define FRAME_COUNT_MAX 64u
/* A connection costs the supervisor nothing, but the input should not be connections only. */
#define STEP_COUNT_MAX 400u

struct scene {
    struct ledger ledger;
    struct dialogue dialogue;
    struct known known;
    struct input input;
    int64_t now_ms;
    bool is_up;
};

/* ---- slots: chance decides ---- */

static bool on_revoke(void *self, struct attempt *attempt)
{
    struct scene *scene = self;
    if (input_below(&scene->input, 2) == 0) {
        ledger_start(&scene->ledger, attempt);
        return false;
    }
    ledger_take_back(&scene->ledger, attempt);
    return true;
}

static void on_kill(void *self, struct attempt *attempt)
{
    struct scene *scene = self;
    struct outcome outcome = {.state = FINISHED_KILLED, .pid = 1};
    if (input_below(&scene->input, 2) == 0) {
        ledger_start(&scene->ledger, attempt);
        ledger_finish(&scene->ledger, attempt, &outcome);
    }
}

static void on_forget(void *self, struct attempt *attempt)
{
    (void)self;
    CHECK(attempt->state == ATTEMPT_HANDED || attempt->state == ATTEMPT_RUNNING);
}

/* ---- steps ---- */

/* What it says is sound, always. */
static void listen(struct scene *scene)
{
    struct buf frame = {0};
    unsigned count = 0;
    while (dialogue_next(&scene->dialogue, &frame)) {
        known_note_frame(&scene->known, buf_bytes(&frame), NULL, NULL);
        CHECK(++count < FRAME_COUNT_MAX);
    }
    buf_fini(&frame);
}

static void heed(struct scene *scene, enum dialogue_verdict verdict)
{
    if (verdict != DIALOGUE_OK) {
        CHECK(scene->dialogue.why != NULL);
        dialogue_down(&scene->dialogue);
        scene->is_up = false;
    }
}

static void say(struct scene *scene)
{
    static const uint8_t kinds[] = {MSG_WELCOME_WORKER, MSG_DISPATCH, MSG_DISPATCH, MSG_DISPATCH, MSG_REVOKE,
                                    MSG_DROP,           MSG_RECEIPT,  MSG_RECEIPT,  MSG_PONG,     MSG_PING,
                                    MSG_DENIED,         MSG_ERROR,    MSG_BYE,      MSG_OUTCOME,  MSG_WELCOME_CLIENT,
                                    MSG_HELLO_WORKER};
    struct buf frame = {0};
    unsigned how = input_u8(&scene->input);
    uint32_t generation = scene->dialogue.lease.generation;
    frame_begin(&frame, how % 16 == 15 ? generation - 1 : generation);
    for (unsigned count = 1 + how / 16 % 4; count > 0; count--) {
        enum message_kind kind = (enum message_kind)kinds[input_below(&scene->input, sizeof kinds)];
        message_make(&frame, &scene->input, &scene->known, kind);
    }
    if (how % 16 == 14) {
        frame_damage(&frame, &scene->input);
    }
    uint8_t *copy = input_copy(frame.p, frame.n);
    heed(scene, dialogue_frame(&scene->dialogue, bytes_of(copy, frame.n), scene->now_ms));
    free(copy);
    buf_fini(&frame);
}

static void finish_one(struct scene *scene)
{
    static const enum cause causes[] = {CAUSE_ERROR, CAUSE_CRASHED, CAUSE_TIMEOUT};
    struct attempt *attempt = scene->ledger.handed.first;
    if (attempt == NULL) {
        return;
    }
    unsigned how = input_u8(&scene->input);
    struct outcome outcome = {.state = how % 2 == 0 ? FINISHED_DONE : FINISHED_FAILED,
                              .cause = how % 2 == 0 ? CAUSE_NONE : causes[how / 2 % 3],
                              .result = input_bytes(&scene->input, how / 8),
                              .pid = 1};
    if (attempt->state == ATTEMPT_HANDED && how % 2 == 0) {
        dialogue_started(&scene->dialogue, attempt, 1);
        ledger_start(&scene->ledger, attempt);
    }
    ledger_finish(&scene->ledger, attempt, &outcome);
}

static void step(struct scene *scene)
{
    struct dialogue *dialogue = &scene->dialogue;
    struct ledger *ledger = &scene->ledger;
    unsigned what = input_u8(&scene->input);
    if (!scene->is_up) {
        dialogue_up(dialogue, scene->now_ms);
        scene->is_up = true;
        listen(scene);
    }
    switch (what % 12) {
    case 0:
        dialogue_down(dialogue);
        scene->is_up = false;
        break;
    case 1:
        scene->now_ms += what / 16 * 1000;
        heed(scene, dialogue_tick(dialogue, scene->now_ms));
        break;
    case 2:
        while (dialogue_may_start(dialogue, scene->now_ms) && ledger->waiting.first != NULL) {
            ledger_hand(ledger, ledger->waiting.first);
        }
        break;
    case 3:
        finish_one(scene);
        break;
    case 4:
        dialogue_set_capacity(dialogue, what / 16);
        dialogue_set_nested(dialogue, what / 64, 1 + what % 5);
        break;
    case 5:
        if (what > 240) {
            dialogue_drain(dialogue);
        } else if (ledger->handed.first != NULL && ledger->handed.first->state == ATTEMPT_RUNNING) {
            dialogue_progress(dialogue, ledger->handed.first, 0.5, bytes_text("half"));
        }
        break;
    default:
        say(scene);
    }
    if (scene->is_up) {
        listen(scene);
    }
    ledger_check(ledger);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const functions[] = {"f", "g", "quern.command"};
    static struct scene scene; /* large */
    struct limits limits = limits_default();
    struct dialogue_facts facts = {
        .host = "host", .name = "host-1", .pid = 1, .slot_count = 2, .functions = functions, .function_count = 3};
    struct dialogue_slots slots = {.self = &scene, .revoke = on_revoke, .kill = on_kill, .forget = on_forget};
    log_open("fuzz", LOG_ERROR);
    scene = (struct scene){.input = input_of(data, size), .now_ms = 1000};
    ledger_init(&scene.ledger);
    dialogue_init(&scene.dialogue, &facts, &slots, &scene.ledger, &limits);
    for (unsigned i = 0; i < STEP_COUNT_MAX && scene.input.left > 0; i++) {
        step(&scene);
    }
    dialogue_fini(&scene.dialogue);
    ledger_fini(&scene.ledger);
    return 0;
}
