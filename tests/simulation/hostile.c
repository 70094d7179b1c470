/*
 * hostile.c owns what comes from outside in a random world: bytes by chance, damaged copies of what was said.
 * It must not know what the broker makes of it.
 * Start reading at act_stranger.
 */
#include "acts.h"

/* Whoever knows the tokens of a worker is that worker, as far as anybody can tell. */
static bool is_inventory(struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    return frame_open(frame, &generation, &cursor) == QUERN_OK &&
           message_next(&cursor, &message, &unknown, &why) == QUERN_OK && message.kind == MSG_HELLO_WORKER;
}

/* Bytes by chance, or what an honest peer says with some bytes changed, under a name of his own. */
void act_stranger(struct chaos *chaos)
{
    struct world *world = chaos->world;
    struct wire *wire = any_wire(chaos);
    struct buf frame = {0};
    if (wire == NULL || chaos->is_tame || chaos->is_gentle) {
        return;
    }
    struct bytes heard = wire_newest(wire);
    if (heard.n == 0 || percent(chaos, 30) || is_inventory(heard)) {
        frame_begin(&frame, (uint32_t)below(chaos, 4));
        for (uint64_t left = below(chaos, 60); left > 0; left--) {
            buf_put_u8(&frame, (uint8_t)below(chaos, 256));
        }
    } else {
        buf_put(&frame, heard.p, heard.n);
        for (uint64_t left = 1 + below(chaos, 5); left > 0; left--) {
            frame.p[below(chaos, frame.n)] = (uint8_t)below(chaos, 256);
        }
        for (size_t i = 0; i < frame.n; i++) { /* nobody's name but his own */
            bool is_instance = frame.p[i] == 0xc1 || frame.p[i] == 0x30;
            frame.p[i] = is_instance ? 0x55 : frame.p[i];
        }
    }
    world_say(world, "a stranger sends %zu bytes", frame.n);
    world_stranger(world, buf_bytes(&frame));
    buf_fini(&frame);
}
