/*
 * cradle.h: to be born in a cgroup. Moving a process there waits for all that the kernel has under way (a dozen ms);
 * who is born there waits for nobody. Only clone3 can do that, and a process that clone3 has made is none that fork has
 * made: no handler of pthread_atfork is run, the C library does not know its thread. So clone3 makes a process between,
 * which shares our memory while we stand still (as vfork's does), calls fork or posix_spawn as if it were us, and ends;
 * what it has made is born where it stands, and comes to us, a subreaper.
 */
#ifndef QUERN_WORKER_CRADLE_H
#define QUERN_WORKER_CRADLE_H

#include <stdbool.h>

/* Run make(self) in such a process, in the cgroup whose directory is open as group. We must have one thread and be a
 * subreaper. False: it did not run, here the kernel does not do that (it is older, or forbids it). */
bool cradle_run(int group, void (*make)(void *self), void *self);

#endif
