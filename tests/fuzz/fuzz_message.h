/* fuzz_message.h: one input for the decoders; stops the process if a property does not hold. */
#ifndef QUERN_TESTS_FUZZ_MESSAGE_H
#define QUERN_TESTS_FUZZ_MESSAGE_H

#include "common/bytes.h"

/* How many messages the frame held. */
unsigned fuzz_message(struct bytes bytes);

#endif
