/*
 * fuzz_client.c owns a client without sockets whose broker says what the input chooses: sound conversations, sound
 * messages at the wrong time with numbers of others, and damaged frames. It is told of every task once at most.
 * It must not know what the protocol wants of a broker.
 * Start reading at step.
 */
#include "client/ledger.h"
#include "common/check.h"
#include "fuzz/made.h"

#include <stdlib.h>

#define FRAME_COUNT_MAX 64u
#define STEP_COUNT_MAX 400u
#define OWNER_COUNT_MAX 256u

struct scene {
    struct client_ledger ledger;
    struct known known;
    struct input input;
    int64_t now_ms;
    bool is_up;
    unsigned owner_count;
    uint8_t told[OWNER_COUNT_MAX];  /* of a submit: how it was answered */
    uint64_t held[OWNER_COUNT_MAX]; /* completions that came and were not taken */
    size_t held_count;
    uint64_t sizes[OWNER_COUNT_MAX];
    struct unfinished lost;
};

/* ---- what it tells ---- */

static void answered(struct scene *scene, const void *owner)
{
    size_t index = (size_t)((const uint8_t *)owner - scene->told);
    CHECK(index < scene->owner_count && scene->told[index] == 0);
    scene->told[index] = 1;
}

static void on_accepted(void *context, void *owner, uint64_t id)
{
    (void)id;
    answered(context, owner);
}

static void on_refused(void *context, void *owner, const struct submit_refusal *refusal)
{
    CHECK(refusal->code != QUERN_OK);
    answered(context, owner);
}

static void on_lost(void *context, void *owner, uint64_t id, uint64_t ordinal)
{
    (void)id;
    (void)ordinal;
    answered(context, owner);
}

static void on_renumbered(void *context, void *owner, uint64_t old_id, uint64_t id)
{
    struct scene *scene = context;
    size_t index = (size_t)((const uint8_t *)owner - scene->told);
    CHECK(index < scene->owner_count && scene->told[index] == 0 && old_id != id);
}

static void on_outcome(void *context, const struct item_outcome *outcome)
{
    struct scene *scene = context;
    for (size_t i = 0; i < scene->held_count; i++) {
        CHECK(scene->held[i] != outcome->completion);
    }
    if (scene->held_count < OWNER_COUNT_MAX) {
        scene->sizes[scene->held_count] = outcome_payload_size(outcome);
        scene->held[scene->held_count++] = outcome->completion;
    }
}

static void on_session_lost(void *context, struct unfinished *unfinished, const char *why)
{
    struct scene *scene = context;
    CHECK(why != NULL);
    scene->held_count = 0; /* numbers of the next session begin anew */
    unfinished_fini(&scene->lost);
    unfinished_move(&scene->lost, unfinished);
}

static void on_replied(void *context)
{
    (void)context;
}

/* ---- steps ---- */

static void listen(struct scene *scene)
{
    struct buf frame = {0};
    unsigned count = 0;
    while (client_ledger_write(&scene->ledger, scene->now_ms, &frame)) {
        known_note_frame(&scene->known, buf_bytes(&frame), NULL, NULL);
        buf_fini(&frame);
        CHECK(++count < FRAME_COUNT_MAX);
    }
    buf_fini(&frame);
}

static void heed(struct scene *scene, enum ledger_verdict verdict)
{
    CHECK(verdict != LEDGER_END || scene->ledger.phase == LEDGER_ENDED);
    if (verdict != LEDGER_GO_ON) {
        CHECK(scene->ledger.why[0] != '\0');
        client_ledger_down(&scene->ledger);
        scene->is_up = false;
    }
}

static void say(struct scene *scene)
{
    static const uint8_t kinds[] = {
        MSG_CHALLENGE, MSG_WELCOME_CLIENT, MSG_WELCOME_CLIENT, MSG_ACCEPTED, MSG_ACCEPTED, MSG_REFUSED,
        MSG_FORGOTTEN, MSG_OUTCOME,        MSG_OUTCOME,        MSG_CREDIT,   MSG_REPLY,    MSG_PING,
        MSG_PONG,      MSG_DENIED,         MSG_ERROR,          MSG_BYE,      MSG_DISPATCH, MSG_WELCOME_OPERATOR};
    struct buf frame = {0};
    unsigned how = input_u8(&scene->input);
    uint32_t generation = scene->ledger.generation;
    frame_begin(&frame, how % 16 == 15 ? generation - 1 : generation);
    for (unsigned count = 1 + how / 16 % 4; count > 0; count--) {
        enum message_kind kind = (enum message_kind)kinds[input_below(&scene->input, sizeof kinds)];
        message_make(&frame, &scene->input, &scene->known, kind);
    }
    if (how % 16 == 14) {
        frame_damage(&frame, &scene->input);
    }
    uint8_t *copy = input_copy(frame.p, frame.n);
    heed(scene, client_ledger_frame(&scene->ledger, bytes_of(copy, frame.n), scene->now_ms));
    free(copy);
    buf_fini(&frame);
}

static void submit_one(struct scene *scene)
{
    unsigned how = input_u8(&scene->input);
    if (scene->owner_count == OWNER_COUNT_MAX || !client_ledger_has_room(&scene->ledger)) {
        return;
    }
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text(how % 2 == 0 ? "f" : "g")};
    uint64_t ordinal = how % 4 == 3 ? scene->ledger.submits.ordinal_last + 1 : 0;
    uint8_t *owner = &scene->told[scene->owner_count];
    struct submit *submit = submit_make(bytes_text("\x90"), ordinal, how / 8 % 2 == 0, owner);
    uint64_t id;
    if (client_ledger_submit(&scene->ledger, &head, &options, &submit, &id) == QUERN_OK) {
        scene->owner_count++;
    } else {
        free(submit);
    }
}

static void take_one(struct scene *scene)
{
    if (scene->held_count == 0) {
        return;
    }
    size_t index = input_u8(&scene->input) % scene->held_count;
    uint64_t completion = scene->held[index];
    uint64_t size = scene->sizes[index];
    scene->held_count--;
    scene->held[index] = scene->held[scene->held_count];
    scene->sizes[index] = scene->sizes[scene->held_count];
    client_ledger_take(&scene->ledger, completion, size);
}

/* Questions are dropped when they are answered. */
static void ask(struct scene *scene)
{
    struct message message = {.kind = MSG_QUERY, .QUERY = {.what = bytes_text("list")}};
    struct request *request = NULL;
    if (input_below(&scene->input, 2) == 0) {
        message = (struct message){.kind = MSG_RETRY, .RETRY = {.task = 1}};
    }
    if (scene->ledger.phase == LEDGER_UP && scene->ledger.requests.count < 4) {
        CHECK(requests_ask(&scene->ledger.requests, &message, &request) == QUERN_OK);
    }
    for (request = scene->ledger.requests.first; request != NULL; request = request->next) {
        if (request->is_done) {
            uint64_t id;
            uint64_t session;
            (void)reply_retry_read(buf_bytes(&request->body), &id, &session);
            requests_drop(&scene->ledger.requests, &request);
            return;
        }
    }
}

static void step(struct scene *scene)
{
    struct client_ledger *ledger = &scene->ledger;
    unsigned what = input_u8(&scene->input);
    if (!scene->is_up && ledger->phase != LEDGER_ENDED) {
        client_ledger_up(ledger, scene->now_ms);
        scene->is_up = true;
        listen(scene);
    }
    switch (what % 12) {
    case 0:
        if (scene->is_up) {
            client_ledger_down(ledger);
            scene->is_up = false;
        }
        break;
    case 1:
        scene->now_ms += what / 16 * 1000;
        break;
    case 2:
    case 3:
        submit_one(scene);
        break;
    case 4:
        take_one(scene);
        break;
    case 5:
        client_ledger_want(ledger, what > 127);
        break;
    case 6:
        if (what > 250 && ledger->phase == LEDGER_UP) {
            client_ledger_bye(ledger);
        } else if (what > 200) {
            client_ledger_barrier(ledger);
        } else {
            ask(scene);
        }
        break;
    default:
        if (scene->is_up) {
            say(scene);
        }
    }
    if (scene->is_up) {
        heed(scene, client_ledger_tick(ledger, scene->now_ms));
    }
    if (scene->is_up) {
        listen(scene);
    }
    (void)client_ledger_outstanding(ledger);
    (void)client_ledger_wake_ms(ledger);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene; /* large */
    scene = (struct scene){.input = input_of(data, size), .now_ms = 1000};
    unsigned how = input_u8(&scene.input);
    struct ledger_options options = {
        .instance = {{9, 9}},
        .host = "here",
        .pid = 42,
        .program = "fuzz",
        .is_operator = how % 16 == 15,
        .session = how % 4 == 0 ? NULL : "w",
        .is_volatile = how % 16 == 6,
        .may_be_volatile = how % 16 == 7,
        .series_renew_at = how % 16 == 8 ? 4 : 0,
        .window_count = 16,
        .window_bytes = 1000,
        .submit_count_max = 8,
        .submit_bytes_max = 1000,
        .heartbeat_ms = 3000,
        .dead_ms = 10000,
    };
    struct ledger_sink sink = {
        .context = &scene,
        .submits = {.accepted = on_accepted, .refused = on_refused, .renumbered = on_renumbered, .lost = on_lost},
        .outcome = on_outcome,
        .session_lost = on_session_lost,
        .replied = on_replied,
    };
    CHECK(client_ledger_init(&scene.ledger, &options, &sink));
    for (unsigned i = 0; i < STEP_COUNT_MAX && scene.input.left > 0; i++) {
        step(&scene);
    }
    while (scene.ledger.requests.first != NULL) {
        struct request *request = scene.ledger.requests.first;
        requests_drop(&scene.ledger.requests, &request);
    }
    client_ledger_fini(&scene.ledger);
    unfinished_fini(&scene.lost);
    return 0;
}
