/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet pools, on a stack of our own that the address sanitizer knows: a free mbuf is poisoned
 * as a whole, one in use behind its data. Allocations fail when the input says so. The linker's
 * --wrap leads here.
 */
#include <rte_mempool.h>
#include <sanitizer/asan_interface.h>

#include "fuzz.h"
#include "pools.h"

#define OPS_NAME "guarded"
#define PREPENDED_BYTES 32 /* a VLAN tag and a virtio-net header, and what aligns them */

struct stack {
    unsigned int n;
    void *objects[];
};

uint32_t allocations_left = UINT32_MAX;

static bool guarded;

static int stack_alloc(struct rte_mempool *pool) {
    pool->pool_data = calloc(1, sizeof(struct stack) + pool->size * sizeof(void *));
    return pool->pool_data == NULL ? -ENOMEM : 0;
}

static void stack_free(struct rte_mempool *pool) {
    free(pool->pool_data);
}

static int push(struct rte_mempool *pool, void *const *objects, unsigned int n) {
    struct stack *stack = pool->pool_data;

    for (unsigned int i = 0; i < n; i++) {
        REQUIRE(stack->n < pool->size, "more buffers freed than there are in pool %s", pool->name);
        if (guarded)
            ASAN_POISON_MEMORY_REGION(objects[i], pool->elt_size);
        stack->objects[stack->n++] = objects[i];
    }
    return 0;
}

static int pop(struct rte_mempool *pool, void **objects, unsigned int n) {
    struct stack *stack = pool->pool_data;

    if (stack->n < n || allocations_left < n)
        return -ENOBUFS;
    if (allocations_left != UINT32_MAX)
        allocations_left -= n;
    for (unsigned int i = 0; i < n; i++) {
        objects[i] = stack->objects[--stack->n];
        ASAN_UNPOISON_MEMORY_REGION(objects[i], pool->elt_size);
    }
    return 0;
}

static unsigned int count(const struct rte_mempool *pool) {
    return ((const struct stack *)pool->pool_data)->n;
}

static const struct rte_mempool_ops stack_ops = {
    .name = OPS_NAME,
    .alloc = stack_alloc,
    .free = stack_free,
    .enqueue = push,
    .dequeue = pop,
    .get_count = count,
};

RTE_MEMPOOL_REGISTER_OPS(stack_ops)

struct rte_mempool *__wrap_rte_pktmbuf_pool_create(const char *name, unsigned int n,
                                                   unsigned int cache, uint16_t private,
                                                   uint16_t room, int socket);

struct rte_mempool *__wrap_rte_pktmbuf_pool_create(const char *name, unsigned int n,
                                                   unsigned int cache, uint16_t private,
                                                   uint16_t room, int socket) {
    (void)cache;
    return rte_pktmbuf_pool_create_by_ops(name, n, 0, private, room, socket, OPS_NAME);
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
    if (pool == NULL || rte_mempool_set_ops_byname(pool, OPS_NAME, NULL) < 0)
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
    return cv_std_pool->size - count(cv_std_pool) + cv_jumbo_pool->size - count(cv_jumbo_pool);
}
