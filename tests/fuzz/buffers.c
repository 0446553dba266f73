/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet pools, on a stack that the address sanitizer knows: a free mbuf is poisoned
 * as a whole, one in use behind its data. Allocations fail when the input says so. The linker's
 * --wrap leads here.
 */
#include <rte_mempool.h>
#include <sanitizer/asan_interface.h>

#include "fuzz.h"
#include "pools.h"
#include "stack.h"

#define PREPENDED_BYTES 32 /* a VLAN tag and a virtio-net header, and what aligns them */

uint32_t allocations_left = UINT32_MAX;

static bool guarded;

static bool may_take(unsigned int n) {
    if (allocations_left < n)
        return false;
    if (allocations_left != UINT32_MAX)
        allocations_left -= n;
    return true;
}

static void taken(const struct rte_mempool *pool, void *object) {
    ASAN_UNPOISON_MEMORY_REGION(object, pool->elt_size);
}

static void returned(const struct rte_mempool *pool, void *object) {
    if (guarded)
        ASAN_POISON_MEMORY_REGION(object, pool->elt_size);
}

const struct stack_hooks stack_hooks = {may_take, taken, returned};

struct rte_mempool *__wrap_rte_pktmbuf_pool_create(const char *name, unsigned int n,
                                                   unsigned int cache, uint16_t private,
                                                   uint16_t room, int socket);

struct rte_mempool *__wrap_rte_pktmbuf_pool_create(const char *name, unsigned int n,
                                                   unsigned int cache, uint16_t private,
                                                   uint16_t room, int socket) {
    (void)cache;
    return rte_pktmbuf_pool_create_by_ops(name, n, 0, private, room, socket, STACK_OPS);
}

struct rte_mempool *__wrap_rte_mempool_create(const char *name, unsigned n, unsigned bytes,
                                              unsigned cache, unsigned private,
                                              rte_mempool_ctor_t *init, void *argument,
                                              rte_mempool_obj_cb_t *object_init,
                                              void *object_argument, int socket, unsigned flags);

struct rte_mempool *__wrap_rte_mempool_create(const char *name, unsigned n, unsigned bytes,
                                              unsigned cache, unsigned private,
                                              rte_mempool_ctor_t *init, void *argument,
                                              rte_mempool_obj_cb_t *object_init,
                                              void *object_argument, int socket, unsigned flags) {
    struct rte_mempool *pool = rte_mempool_create_empty(name, n, bytes, 0, private, socket, flags);

    (void)cache;
    if (pool == NULL || rte_mempool_set_ops_byname(pool, STACK_OPS, NULL) < 0)
        return NULL;
    init(pool, argument);
    if (rte_mempool_populate_default(pool) < 0)
        return NULL;
    rte_mempool_obj_iter(pool, object_init, object_argument);
    return pool;
}

void buffers_guard(void) {
    struct rte_mempool *const pools[] = {cv_std_pool, cv_jumbo_pool};

    guarded = true;
    for (unsigned int p = 0; p < RTE_DIM(pools); p++) {
        struct stack *stack = pools[p]->pool_data;

        /* With as much behind each as its pool puts in front of the next. */
        for (unsigned int i = 0; i < stack->n; i++)
            ASAN_POISON_MEMORY_REGION(stack->objects[i],
                                      pools[p]->elt_size + pools[p]->header_size);
    }
}

void buffers_guard_received(struct rte_mbuf **packets, uint16_t n) {
    for (uint16_t i = 0; i < n; i++) {
        for (struct rte_mbuf *segment = packets[i]; segment != NULL; segment = segment->next) {
            uint8_t *data = rte_pktmbuf_mtod(segment, uint8_t *);
            uint8_t *end = (uint8_t *)segment + segment->pool->elt_size;

            ASAN_POISON_MEMORY_REGION(data + segment->data_len, end - data - segment->data_len);
            if (segment->data_off > PREPENDED_BYTES)
                ASAN_POISON_MEMORY_REGION(segment->buf_addr, segment->data_off - PREPENDED_BYTES);
        }
    }
}

uint32_t buffers_in_use(void) {
    return rte_mempool_in_use_count(cv_std_pool) + rte_mempool_in_use_count(cv_jumbo_pool);
}
