/* answers.h: the bodies of answers to queries, as msgpack. Shapes: PROTOCOL.md, QUERY. Inside the core only. */
#ifndef QUERN_BROKER_ANSWERS_H
#define QUERN_BROKER_ANSWERS_H

#include "broker/state.h"

void answer_status(const struct core *core, struct buf *body);
void answer_sessions(struct core *core, struct conn *conn, uint64_t request); /* several replies */
void answer_list(const struct core *core, const struct list_row *rows, size_t count, struct buf *body);
void answer_show(const struct core *core, uint64_t id, const struct loaded *loaded, struct buf *body);
/* What one attempt wrote. */
struct logs {
    bool is_running;
    uint32_t attempt; /* 0: there is none */
    struct bytes output;
};
void answer_logs(const struct core *core, uint64_t id, const struct loaded *loaded, const struct logs *logs,
                 struct buf *body);
void answer_explain(const struct core *core, const struct task *task, struct buf *body);
void answer_explain_finished(uint64_t id, bool is_volatile, struct buf *body);
void answer_retry(const struct session *session, const struct task *task, bool is_new, struct buf *body);

/* ---- open.c ---- */
/* id: of one task, 0 all. after: a task, completion: a completion number: where the last page ended, 0 the first. */
struct open_query {
    uint64_t id;
    uint64_t after;
    uint64_t completion;
};
void query_open(struct core *core, struct conn *conn, uint64_t request, const struct open_query *query);

#endif
