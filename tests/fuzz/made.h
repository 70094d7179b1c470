/*
 * made.h: messages of a valid shape whose fields are chosen by an input: numbers that were seen before (tokens,
 * ordinals, generations, ranges ...), their neighbours, bounds, and anything. From the lists of messages.h, so that a
 * new field is fuzzed by itself.
 */
#ifndef QUERN_TESTS_FUZZ_MADE_H
#define QUERN_TESTS_FUZZ_MADE_H

#include "common/message.h"
#include "fuzz/input.h"

#define KNOWN_NAME_COUNT 64u
#define KNOWN_COUNT 8u

/* What was seen in fields of a name. */
struct known {
    uint64_t numbers[KNOWN_NAME_COUNT][KNOWN_COUNT];
    uint32_t number_count[KNOWN_NAME_COUNT];
    struct uuid ids[KNOWN_NAME_COUNT][KNOWN_COUNT];
    uint32_t id_count[KNOWN_NAME_COUNT];
};

/* Remember what a message says. */
void known_note(struct known *known, const struct message *message);
/* The same of every message in a frame; the frame must be sound. Calls each (may be NULL) with every message. */
void known_note_frame(struct known *known, struct bytes frame,
                      void (*each)(void *context, const struct message *message), void *context);

/* Appends a message of that kind, and remembers what it says. */
void message_make(struct buf *frame, struct input *input, struct known *known, enum message_kind kind);

/* Changes some bytes of what was written, as the input says. */
void frame_damage(struct buf *frame, struct input *input);

#endif
