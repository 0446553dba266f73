/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "lost_memory.h"

#include <rte_common.h>
#include <rte_memory.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

_Thread_local bool cv_lost_memory;

/* Part of a mapping of huge pages can be replaced by whole ones only. */
static const size_t page_bytes[] = {(size_t)4 << 10, (size_t)2 << 20, (size_t)1 << 30};

/* An empty page in place of the one at an address; mmap is a plain system call, so it may be used
 * in a signal handler. */
static bool replace_page(uintptr_t address) {
    for (size_t i = 0; i < RTE_DIM(page_bytes); i++) {
        void *page = (void *)(address & ~(page_bytes[i] - 1));

        if (mmap(page, page_bytes[i], PROT_READ | PROT_WRITE,
                 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
            return true;
    }
    return false;
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code == BUS_ADRERR && rte_mem_virt2memseg(info->si_addr, NULL) == NULL &&
        replace_page((uintptr_t)info->si_addr)) {
        cv_lost_memory = true;
        return;
    }
    signal(number, SIG_DFL); /* the access is repeated, and ends the process */
}

void cv_lost_memory_watch(void) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

    sigfillset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
