/*
 * real_client.c owns how the library's ledger stands in the world: its frames go onto wires, what it tells is checked
 * against what the application was told before.
 * It must not know the core; it never writes the ledger.
 * Start reading at real_frame, then the sink.
 */
#include "real_client.h"

#include "client/ledger.h"
#include "common/check.h"
#include "oracle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_ALL (1u << 30)
#define SUBMIT_BYTES_MAX (1u << 20)
/* Of the calls of quern_next, and of those who look at its descriptor, while there is something to take. */
#define WANTS_PERCENT 20u

struct real_client {
    struct client_ledger ledger;
    bool is_begun;
    bool may_wait;     /* whoever is refused for lack of room waits */
    uint64_t last_new; /* the highest completion that was told */
    uint64_t submit_count_max;
    struct request **asked; /* by index of client->requests; NULL: done */
    size_t asked_cap;
};

static struct client *client_of(struct peer *peer)
{
    return (struct client *)(void *)peer;
}

static struct piece *piece_of(struct client *client, const void *owner)
{
    return &client->submits[(uintptr_t)owner - 1];
}

/* ---- what the ledger tells ---- */

static void on_accepted(void *context, void *owner, uint64_t id)
{
    struct client *client = context;
    struct piece *piece = piece_of(client, owner);
    struct world *world = client->peer.world;
    world_say(world, "%s: accepted %" PRIx64 " (%s)", client->peer.name, id, piece->work);
    WORLD_CHECK(world, piece->answer == ANSWER_NONE && piece->task == id,
                "%s: %s is accepted as %" PRIx64 " and was %" PRIx64 " before, answer %d", client->peer.name,
                piece->work, id, piece->task, (int)piece->answer);
    piece->answer = ANSWER_ACCEPTED;
    oracle_accepted(world, id);
    if (piece->spec.ordinal > client->ordinal_high) {
        client->ordinal_high = piece->spec.ordinal;
    }
}

static void on_refused(void *context, void *owner, const struct submit_refusal *refusal)
{
    struct client *client = context;
    struct piece *piece = piece_of(client, owner);
    world_say(client->peer.world, "%s: refused %" PRIx64 " (%s): %s", client->peer.name, refusal->id, piece->work,
              quern_err_word(refusal->code));
    WORLD_CHECK(client->peer.world, piece->answer == ANSWER_NONE && piece->task == refusal->id,
                "%s: %s is refused, and had an answer or another id", client->peer.name, piece->work);
    piece->answer = refusal->code == QUERN_FORGOTTEN ? ANSWER_FORGOTTEN : ANSWER_REFUSED;
    piece->code = refusal->code;
    if (refusal->code == QUERN_DUPLICATE && piece->spec.ordinal > client->ordinal_high) {
        client->ordinal_high = piece->spec.ordinal; /* somebody has submitted this line */
    }
}

static void on_renumbered(void *context, void *owner, uint64_t old_id, uint64_t id)
{
    struct client *client = context;
    struct piece *piece = piece_of(client, owner);
    WORLD_CHECK(client->peer.world, piece->answer == ANSWER_NONE && piece->task == old_id,
                "%s: %s gets another id and had not the old one, or an answer", client->peer.name, piece->work);
    piece->task = id;
}

/* The application hears of the loss, of each task at most once and not beside its outcome. */
static void lose(struct client *client, uint64_t id)
{
    WORLD_CHECK(client->peer.world, sim_client_took(client, id) == NULL,
                "%s loses %" PRIx64 ", whose outcome it was given", client->peer.name, id);
    oracle_lost(client->peer.world, client, id);
}

static void on_lost(void *context, void *owner, uint64_t id, uint64_t ordinal)
{
    struct client *client = context;
    struct piece *piece = piece_of(client, owner);
    world_say(client->peer.world, "%s: %s is lost unanswered", client->peer.name, piece->work);
    WORLD_CHECK(client->peer.world, piece->answer == ANSWER_NONE && piece->task == id && piece->spec.ordinal == ordinal,
                "%s: %s is lost as something else", client->peer.name, piece->work);
    piece->answer = ANSWER_LOST;
    client->ordinal_high = ordinal > client->ordinal_high ? ordinal : client->ordinal_high;
    lose(client, id);
}

static void on_session_lost(void *context, struct unfinished *unfinished, const char *why)
{
    struct client *client = context;
    uint64_t id;
    uint64_t ordinal;
    world_say(client->peer.world, "%s: its session is lost: %s", client->peer.name, why);
    while ((id = unfinished_pop(unfinished, &ordinal)) != 0) {
        lose(client, id);
    }
    client->real->last_new = 0;
}

static void on_outcome(void *context, const struct item_outcome *item)
{
    struct client *client = context;
    struct world *world = client->peer.world;
    struct real_client *real = client->real;
    WORLD_CHECK(world, item->completion > real->last_new, "%s: completion %" PRIu64 " is told after %" PRIu64,
                client->peer.name, item->completion, real->last_new);
    real->last_new = item->completion;
    WORLD_CHECK(world, sim_client_took(client, item->task) == NULL, "%s: task %" PRIx64 " has two outcomes",
                client->peer.name, item->task);
    world_say(world, "%s: outcome %" PRIu64 " of %" PRIx64 ": %s %s", client->peer.name, item->completion, item->task,
              task_state_word((unsigned)item->state), cause_word((unsigned)item->cause));
    sim_client_came(client, (struct took){.completion = item->completion,
                                          .task = item->task,
                                          .state = (uint32_t)item->state,
                                          .cause = (uint32_t)item->cause,
                                          .size = outcome_payload_size(item),
                                          .losses = real->ledger.losses});
}

static void on_replied(void *context)
{
    struct client *client = context;
    for (size_t i = 0; i < client->request_count; i++) {
        const struct request *request = client->real->asked[i];
        if (request == NULL || !request->is_done || client->requests[i].is_answered) {
            continue;
        }
        client->requests[i].is_answered = true;
        client->requests[i].code = request->code;
        world_say(client->peer.world, "%s: %s of %" PRIx64 " answered %s", client->peer.name,
                  message_word(client->requests[i].kind), client->requests[i].task, quern_err_word(request->code));
    }
}

/* ---- frames ---- */

/* What leaves is what the application handed in, under the id it was told. */
static void note_submits(struct client *client, const struct msg_SUBMIT *submit)
{
    struct world *world = client->peer.world;
    struct list items = submit->items;
    struct item_submit item;
    for (uint64_t sequence = submit->sequence; item_submit_next(&items, &item); sequence++) {
        uint64_t id = id_make((uint32_t)submit->series, (uint32_t)sequence);
        size_t i = client->submit_count;
        while (i > 0 && client->submits[i - 1].task != id) {
            i--;
        }
        WORLD_CHECK(world, i > 0 && client->submits[i - 1].answer == ANSWER_NONE,
                    "%s submits %" PRIx64 ", which the application does not know or which has its answer",
                    client->peer.name, id);
        oracle_submitted(world, client, &client->submits[i - 1], id);
    }
}

static bool is_named(const struct msg_HELLO_CLIENT *hello, uint64_t completion)
{
    struct list items = hello->taken;
    struct item_range range;
    bool is = completion <= hello->taken_prefix;
    while (item_range_next(&items, &range)) {
        is = is || (range.first <= completion && completion <= range.last);
    }
    return is;
}

/* Whoever resumes says what was taken. */
static void note_hello(struct client *client, const struct msg_HELLO_CLIENT *hello)
{
    client->peer.wire->taken_prefix = hello->taken_prefix;
    bool is_whole = hello->session != 0 && hello->taken.count < TAKEN_RANGE_COUNT_MAX;
    for (size_t i = 0; is_whole && i < client->took_count; i++) {
        const struct took *took = &client->took[i];
        bool is_due = took->is_taken && took->losses == client->real->ledger.losses;
        WORLD_CHECK(client->peer.world, !is_due || is_named(hello, took->completion),
                    "%s has taken completion %" PRIu64 ", and its HELLO does not say so", client->peer.name,
                    took->completion);
    }
}

static void note_frame(struct client *client, struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    WORLD_CHECK(client->peer.world,
                frame_open(frame, &generation, &cursor) == QUERN_OK && generation == client->peer.wire->generation,
                "%s writes a frame that is none of this connection", client->peer.name);
    while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        if (message.kind == MSG_SUBMIT) {
            note_submits(client, &message.SUBMIT);
        } else if (message.kind == MSG_HELLO_CLIENT) {
            note_hello(client, &message.HELLO_CLIENT);
        }
    }
}

/* An honest client is told of no error. */
static void check_errors(struct client *client, struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    if (frame_open(frame, &generation, &cursor) != QUERN_OK) {
        return;
    }
    while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        WORLD_CHECK(client->peer.world,
                    message.kind != MSG_ERROR || message.ERROR.code == QUERN_NEED_HELLO || client->peer.is_odd,
                    "%s, which keeps to the protocol, is told of error %s for %s: %.*s", client->peer.name,
                    quern_err_word((enum quern_err)message.ERROR.code), message_word((unsigned)message.ERROR.kind),
                    (int)message.ERROR.text.n, (const char *)message.ERROR.text.p);
    }
}

static bool write_one(struct client *client)
{
    struct peer *peer = &client->peer;
    if (peer->wire == NULL || peer->wire->is_broken) {
        return false;
    }
    if (!client_ledger_write(&client->real->ledger, peer->world->now, &peer->out)) {
        return false;
    }
    note_frame(client, buf_bytes(&peer->out));
    sim_peer_flush(peer);
    return true;
}

void sim_real_write(struct client *client)
{
    struct client_ledger *ledger = &client->real->ledger;
    if (!client->real->is_begun) {
        return;
    }
    while (write_one(client)) {
    }
    client_ledger_want(ledger, sim_client_untaken(client) == 0 || rng_percent(&client->peer.world->rng, WANTS_PERCENT));
    while (write_one(client)) {
    }
    client->must_acknowledge = ledger->completions.fresh.count > 0;
}

static void obey(struct client *client, enum ledger_verdict verdict)
{
    struct peer *peer = &client->peer;
    const struct client_ledger *ledger = &client->real->ledger;
    if (verdict == LEDGER_GO_ON) {
        return;
    }
    world_say(peer->world, "%s: %s", peer->name, ledger->why);
    if (verdict == LEDGER_END) {
        peer->is_denied = true;
        peer->denied = ledger->end_code;
    }
    sim_peer_drop_wire(peer, true);
    if (verdict == LEDGER_RECONNECT) {
        peer->retry_at = peer->world->now;
    }
}

/* What the world looks at. */
static void show(struct client *client)
{
    const struct client_ledger *ledger = &client->real->ledger;
    bool was_welcomed = client->was_welcomed;
    bool is_up = ledger->phase == LEDGER_UP;
    if (is_up && !client->peer.is_welcomed) {
        client->was_welcomed = true;
        client->session = ledger->session;
        client->series = ledger->series;
        client->epoch = ledger->epoch;
        world_say(client->peer.world, "%s is welcome: session %" PRIu64 " series %" PRIu64, client->peer.name,
                  client->session, client->series);
        if (!was_welcomed) {
            client->line_next = ledger->ordinal_high + 1;
            client->ordinal_high = ledger->ordinal_high;
        }
    }
    client->peer.is_welcomed = is_up;
}

/* ---- the role ---- */

static void begin(struct client *client)
{
    struct world *world = client->peer.world;
    struct real_client *real = client->real;
    struct ledger_options options = {.instance = client->peer.instance,
                                     .host = "simhost",
                                     .pid = client->peer.serial,
                                     .program = "real",
                                     .session = client->session_name[0] ? client->session_name : NULL,
                                     .take_over = client->take_over,
                                     .is_volatile = client->is_volatile,
                                     .window_count = client->window ? client->window : WINDOW_ALL,
                                     .window_bytes = WINDOW_ALL,
                                     .submit_count_max = real->submit_count_max,
                                     .submit_bytes_max = SUBMIT_BYTES_MAX,
                                     .series_renew_at = (uint32_t)world->limits.series_used_max,
                                     .heartbeat_ms = world->limits.heartbeat_ms,
                                     .dead_ms = world->limits.dead_ms};
    struct ledger_sink sink = {
        .context = client,
        .submits = {.accepted = on_accepted, .refused = on_refused, .renumbered = on_renumbered, .lost = on_lost},
        .outcome = on_outcome,
        .session_lost = on_session_lost,
        .replied = on_replied};
    CHECK(client_ledger_init(&real->ledger, &options, &sink));
    real->is_begun = true;
}

static void real_up(struct peer *peer)
{
    struct client *client = client_of(peer);
    if (!client->real->is_begun) {
        begin(client);
    }
    client_ledger_up(&client->real->ledger, peer->world->now);
    peer->wire->generation = peer->generation = client->real->ledger.generation;
    sim_real_write(client);
}

static void real_down(struct peer *peer)
{
    struct client *client = client_of(peer);
    if (client->real->is_begun) {
        client_ledger_down(&client->real->ledger);
    }
}

static void real_frame(struct peer *peer, struct bytes frame)
{
    struct client *client = client_of(peer);
    check_errors(client, frame);
    enum ledger_verdict verdict = client_ledger_frame(&client->real->ledger, frame, peer->world->now);
    show(client);
    obey(client, verdict);
    sim_real_write(client);
}

static void real_tick(struct peer *peer)
{
    struct client *client = client_of(peer);
    if (!client->real->is_begun || peer->wire == NULL) {
        return;
    }
    obey(client, client_ledger_tick(&client->real->ledger, peer->world->now));
    sim_real_write(client);
}

static int64_t real_wake(const struct peer *peer)
{
    const struct client *client = (const struct client *)(const void *)peer;
    return client->real->is_begun ? client_ledger_wake_ms(&client->real->ledger) : INT64_MAX;
}

static const struct role real_role = {
    .up = real_up, .down = real_down, .frame = real_frame, .tick = real_tick, .wake = real_wake};

/* ---- what the application does ---- */

struct client *sim_client_new_real(struct world *world, const char *session_name)
{
    struct client *client = sim_client_new(world, session_name);
    struct real_client *real = xcalloc(1, sizeof *real);
    real->may_wait = rng_percent(&world->rng, 50);
    real->submit_count_max = rng_percent(&world->rng, 40) ? 1 + rng_below(&world->rng, 12) : 1000;
    client->real = real;
    client->peer.role = &real_role;
    return client;
}

bool sim_real_has_room(const struct client *client)
{
    const struct client_ledger *ledger = &client->real->ledger;
    return client->real->is_begun && ledger->phase != LEDGER_ENDED && ledger->series != 0 &&
           client_ledger_has_room(ledger);
}

void sim_real_submit(struct client *client, struct piece *piece)
{
    struct world *world = client->peer.world;
    struct client_ledger *ledger = &client->real->ledger;
    struct buf args = {0};
    struct task_options options = sim_client_options(&piece->spec);
    struct msg_SUBMIT head = {.function = bytes_text(piece->spec.function ? piece->spec.function : "work"),
                              .delay_ms = piece->spec.delay_ms};
    sim_client_args(&args, piece);
    struct submit *submit = submits_make(&ledger->submits, buf_bytes(&args), client->real->may_wait,
                                         (void *)(uintptr_t)(piece - client->submits + 1));
    CHECK(submit != NULL);
    submit->ordinal = piece->spec.ordinal;
    enum quern_err err = client_ledger_submit(ledger, &head, &options, &submit, &piece->task);
    WORLD_CHECK(world, err == QUERN_OK, "%s cannot submit %s: %s", client->peer.name, piece->work, quern_err_word(err));
    buf_fini(&args);
    sim_real_write(client);
}

void sim_real_take(struct client *client, const struct took *took)
{
    struct client_ledger *ledger = &client->real->ledger;
    if (took->losses == ledger->losses) {
        client_ledger_take(ledger, took->completion, took->size);
    }
    if (completions_is_urgent(&ledger->completions)) {
        sim_real_write(client);
    }
    client->must_acknowledge = ledger->completions.fresh.count > 0;
}

static void ask(struct client *client, struct message *message, uint64_t task)
{
    struct real_client *real = client->real;
    struct request *request = NULL;
    if (requests_ask(&real->ledger.requests, message, &request) != QUERN_OK) {
        return;
    }
    struct asked *asked = sim_client_ask(client, message->kind, task);
    asked->number = request->number;
    if (client->request_count > real->asked_cap) {
        real->asked_cap = client->request_count * 2;
        real->asked = xrealloc(real->asked, real->asked_cap * sizeof(struct request *));
    }
    real->asked[client->request_count - 1] = request;
    sim_real_write(client);
}

/* As the library does: what has no answer yet is not asked to be cancelled. */
void sim_real_cancel(struct client *client, uint64_t task, bool force)
{
    size_t i = client->submit_count;
    while (i > 0 && client->submits[i - 1].task != task) {
        i--;
    }
    if (client->peer.is_denied || i == 0 || client->submits[i - 1].answer != ANSWER_ACCEPTED) {
        return;
    }
    struct message message = {.kind = MSG_CANCEL};
    message.CANCEL = (struct msg_CANCEL){.task = task, .force = force};
    oracle_cancelling(client->peer.world, task);
    ask(client, &message, task);
}

void sim_real_close(struct client *client, bool cancel)
{
    struct message message = {.kind = MSG_CLOSE};
    if (client->peer.is_denied || !client->was_welcomed) {
        return;
    }
    message.CLOSE = (struct msg_CLOSE){.session = client->session, .cancel = cancel};
    oracle_closing(client->peer.world, client->session);
    ask(client, &message, 0);
}

void sim_client_leave(struct client *client)
{
    if (client->real != NULL && client->peer.is_welcomed) {
        client_ledger_bye(&client->real->ledger);
        sim_real_write(client);
    }
    sim_peer_die(&client->peer, true);
}

void sim_real_free(struct client *client)
{
    if (client->real == NULL) {
        return;
    }
    if (client->real->is_begun) {
        client_ledger_fini(&client->real->ledger);
    }
    free(client->real->asked);
    free(client->real);
}
