/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet pool that sanitizers see into, in the place of DPDK's lock-free ring: a stack under a
 * lock. Who links it says with stack_hooks what else is to happen to its objects.
 */
#ifndef POOLS_STACK_H
#define POOLS_STACK_H

#include <pthread.h>
#include <rte_mempool.h>
#include <stdbool.h>

#define STACK_OPS "stack"

struct stack {
    pthread_mutex_t lock;
    unsigned int n;
    void *objects[];
};

struct stack_hooks {
    bool (*may_take)(unsigned int n); /* or NULL, as the others */
    void (*taken)(const struct rte_mempool *pool, void *object);
    void (*returned)(const struct rte_mempool *pool, void *object);
};

extern const struct stack_hooks stack_hooks;

#endif
