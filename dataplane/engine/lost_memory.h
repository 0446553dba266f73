/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a frontend shares and then takes away (ftruncate of its file): an access to it raises
 * SIGBUS, which would end the dataplane. Here the whole region is replaced by an empty one of our
 * own, so that whatever code reads or writes it goes on, and the thread is told.
 */
#ifndef CV_LOST_MEMORY_H
#define CV_LOST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Takes over SIGBUS, and has librte_vhost tell what to guard. A SIGBUS about any other memory still
 * ends the process.
 */
void cv_lost_memory_watch(void);

/*
 * Guards a region from when it is mapped until just before it is unmapped, while nobody accesses
 * it any more. Page-aligned, below 2^47, at most 1 TiB. False if there is no room: 8,192 in all.
 * Thread-safe.
 */
bool cv_lost_memory_guard(void *start, uint64_t bytes);
void cv_lost_memory_unguard(void *start);

/* Whether this guarded region was replaced. Thread-safe. */
bool cv_lost_memory_is_lost(const void *start);

extern _Thread_local bool cv_lost_memory;

/* Whether this thread has met lost memory since it last asked. */
static inline bool cv_lost_memory_met(void) {
    if (__builtin_expect(!cv_lost_memory, 1))
        return false;
    cv_lost_memory = false;
    return true;
}

#endif
