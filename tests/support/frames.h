/*
 * frames.h: messages as text for people and golden files, and written again from what was read.
 * From the lists of messages.h, so that a new field shows up by itself.
 */
#ifndef QUERN_TESTS_SUPPORT_FRAMES_H
#define QUERN_TESTS_SUPPORT_FRAMES_H

#include "common/message.h"

/* One line: KIND name=value ...; bytes are h'6869', text is "hi", none is nil, lists are [{...} {...}]. */
void message_text(struct buf *out, const struct message *message);

/* Appends the message encoded anew, every list item by item; messages of RUN_LIST as runs. */
void message_again(struct buf *out, const struct message *message);

#endif
