/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a frontend shares and then takes away (ftruncate of its file): an access to it raises
 * SIGBUS, which would end the dataplane. Here the page is replaced by an empty one of our own, so
 * that whatever code reads or writes it goes on, and the thread is told.
 */
#ifndef CV_LOST_MEMORY_H
#define CV_LOST_MEMORY_H

#include <stdbool.h>

/* Takes over SIGBUS. A SIGBUS about memory of the dataplane's own still ends it. */
void cv_lost_memory_watch(void);

extern _Thread_local bool cv_lost_memory;

/* Whether this thread has met lost memory since it last asked. */
static inline bool cv_lost_memory_met(void) {
    if (__builtin_expect(!cv_lost_memory, 1))
        return false;
    cv_lost_memory = false;
    return true;
}

#endif
