/* Everything the core counts: one list, from which `status` follows. Includes nothing. */
#ifndef QUERN_BROKER_COUNTERS_H
#define QUERN_BROKER_COUNTERS_H

#define COUNTER_LIST(X)                                                                                                \
    X(frames, "frames read")                                                                                           \
    X(frames_stale, "frames of an older generation, ignored")                                                          \
    X(protocol_errors, "messages that were malformed or not allowed")                                                  \
    X(unknown_messages, "messages of a kind this version does not know")                                               \
    X(peers_kicked, "connections broken by the broker")                                                                \
    X(submitted, "tasks accepted")                                                                                     \
    X(resubmitted, "submits that were there already")                                                                  \
    X(held_back, "times a client's submits had to wait for the next batch")                                            \
    X(refused, "submits refused")                                                                                      \
    X(dispatched, "attempts handed to workers")                                                                        \
    X(finished_stale, "reports of attempts whose token does not count")                                                \
    X(returned, "attempts that came back unstarted")                                                                   \
    X(called_back, "attempts asked back because another worker was idle")                                              \
    X(adopted, "attempts taken over from before a restart")                                                            \
    X(lost, "attempts lost with their worker")                                                                         \
    X(retried, "attempts that were tried again")                                                                       \
    X(done, "tasks done")                                                                                              \
    X(failed, "tasks failed")                                                                                          \
    X(expired, "of those: expired before they started")                                                                \
    X(cancelled, "tasks cancelled")                                                                                    \
    X(parked, "ready tasks left on disk only")                                                                         \
    X(unparked, "of these, read back")                                                                                 \
    X(collapsed, "tasks submitted and finished within one batch")                                                      \
    X(outcomes_sent, "outcomes sent to clients")                                                                       \
    X(outcomes_loaded, "outcomes read back from the store")                                                            \
    X(outcomes_deleted, "outcomes deleted by retention")                                                               \
    X(batches, "batches committed")

struct counters {
#define X(name, meaning) unsigned long long name;
    COUNTER_LIST(X)
#undef X
};

#endif
