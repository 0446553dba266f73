/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "lost_memory.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "engine.h"

/* Each of librte_vhost's 1,024 sockets has one frontend, which has at most 8. */
#define MAX_REGIONS (1024 * 8)

/*
 * A region in one word, so that the signal handler always sees a whole one: the number of its
 * first page, of its pages but one, and whether it was lost.
 */
#define PAGE_BITS 12
#define COUNT_BITS 28
#define START_BITS (47 - PAGE_BITS)
#define LOST (UINT64_C(1) << 63)

_Thread_local bool cv_lost_memory;

static _Atomic uint64_t regions[MAX_REGIONS]; /* 0: free */

static uint64_t first_page(uint64_t region) {
    return (region & ~LOST) >> COUNT_BITS;
}

static uint64_t n_pages(uint64_t region) {
    return (region & ((UINT64_C(1) << COUNT_BITS) - 1)) + 1;
}

static _Atomic uint64_t *find(uint64_t page) {
    for (size_t i = 0; i < MAX_REGIONS; i++) {
        uint64_t region = atomic_load(&regions[i]);

        if (region != 0 && page - first_page(region) < n_pages(region))
            return &regions[i];
    }
    return NULL;
}

bool cv_lost_memory_guard(void *start, uint64_t bytes) {
    uint64_t page = (uintptr_t)start >> PAGE_BITS;
    uint64_t count = (bytes + (1 << PAGE_BITS) - 1) >> PAGE_BITS;

    if (page == 0 || page >> START_BITS != 0 || count == 0 || (count - 1) >> COUNT_BITS != 0)
        return false;
    for (size_t i = 0; i < MAX_REGIONS; i++) {
        uint64_t free = 0;

        if (atomic_compare_exchange_strong(&regions[i], &free, page << COUNT_BITS | (count - 1)))
            return true;
    }
    return false;
}

void cv_lost_memory_unguard(void *start) {
    _Atomic uint64_t *region = find((uintptr_t)start >> PAGE_BITS);

    if (region != NULL)
        atomic_store(region, 0);
}

bool cv_lost_memory_is_lost(const void *start) {
    _Atomic uint64_t *region = find((uintptr_t)start >> PAGE_BITS);

    return region != NULL && (atomic_load(region) & LOST) != 0;
}

/*
 * All of the region that an address is in, as one mapping: a process has few of them, and part of
 * one of huge pages could not be replaced. Only system calls, as in a signal handler. Whoever has
 * met the loss accesses the region, so that it is not unguarded meanwhile.
 */
static bool replace_region(uintptr_t address) {
    _Atomic uint64_t *region = find(address >> PAGE_BITS);
    uint64_t found = region == NULL ? 0 : atomic_load(region);
    void *start = (void *)(uintptr_t)(first_page(found) << PAGE_BITS);
    uint64_t bytes = n_pages(found) << PAGE_BITS;

    if (found == 0 ||
        mmap(start, bytes, PROT_READ | PROT_WRITE,
             MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return false;
    madvise(start, bytes, MADV_NOHUGEPAGE); /* a byte here and there would take 2 MiB each */
    atomic_fetch_or(region, LOST);
    return true;
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    int before = errno;

    (void)context;
    if (info->si_code == BUS_ADRERR && replace_region((uintptr_t)info->si_addr))
        cv_lost_memory = true;
    else
        signal(number, SIG_DFL); /* the access is repeated, and ends the process */
    errno = before;
}

/* Of our librte_vhost. What frontends of another one share is not guarded. */
void rte_vhost_watch_regions(bool (*mapped)(void *start, uint64_t bytes),
                             void (*unmapped)(void *start)) __attribute__((weak));

bool cv_frontends_are_guarded(void) {
    return rte_vhost_watch_regions != NULL;
}

void cv_lost_memory_watch(void) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

    sigfillset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
    if (cv_frontends_are_guarded())
        rte_vhost_watch_regions(cv_lost_memory_guard, cv_lost_memory_unguard);
}
