/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ThreadSanitizer cannot see into, DPDK's own objects, replaced by what it can: the packets'
 * way from one thread to another through a pool, and a NIC's queues. The linker's --wrap leads
 * here.
 */
#include <pthread.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <stdlib.h>

#include "pools.h"
#include "source.h"

struct stack {
    pthread_mutex_t lock;
    unsigned int n;
    void *objects[];
};

static int stack_alloc(struct rte_mempool *pool) {
    struct stack *stack = calloc(1, sizeof(*stack) + pool->size * sizeof(void *));

    pthread_mutex_init(&stack->lock, NULL);
    pool->pool_data = stack;
    return 0;
}

static void stack_free(struct rte_mempool *pool) {
    free(pool->pool_data);
}

static int push(struct rte_mempool *pool, void *const *objects, unsigned int n) {
    struct stack *stack = pool->pool_data;

    pthread_mutex_lock(&stack->lock);
    for (unsigned int i = 0; i < n; i++)
        stack->objects[stack->n++] = objects[i];
    pthread_mutex_unlock(&stack->lock);
    return 0;
}

static int pop(struct rte_mempool *pool, void **objects, unsigned int n) {
    struct stack *stack = pool->pool_data;
    int ret = -ENOBUFS;

    pthread_mutex_lock(&stack->lock);
    if (stack->n >= n) {
        for (unsigned int i = 0; i < n; i++)
            objects[i] = stack->objects[--stack->n];
        ret = 0;
    }
    pthread_mutex_unlock(&stack->lock);
    return ret;
}

static unsigned int count(const struct rte_mempool *pool) {
    return ((const struct stack *)pool->pool_data)->n;
}

static const struct rte_mempool_ops stack_ops = {
    .name = "locked",
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
    return rte_pktmbuf_pool_create_by_ops(name, n, cache, private, room, socket, "locked");
}

/* Written without protection: two workers in one queue at a time are a race. */
static uint64_t nic_packets[RTE_MAX_QUEUES_PER_PORT];

static uint16_t nic_rx(void *queue, struct rte_mbuf **packets, uint16_t n) {
    static _Thread_local uint8_t calls;
    struct rte_ether_hdr *ether;

    (void)queue;
    if (n == 0 || ++calls % 16 != 0 || atomic_load(&rates[0]) == 0)
        return 0;
    packets[0] = rte_pktmbuf_alloc(cv_std_pool);
    if (packets[0] == NULL)
        return 0;
    ether = (struct rte_ether_hdr *)rte_pktmbuf_append(packets[0], 64);
    memset(ether, 0, 64);
    source_mac(ether->dst_addr.addr_bytes, calls % SOURCES);
    source_mac(ether->src_addr.addr_bytes, 128 + calls / 4);
    return 1;
}

static uint16_t nic_tx(void *queue, struct rte_mbuf **packets, uint16_t n) {
    nic_packets[(uintptr_t)queue] += n;
    check(packets, n);
    for (uint16_t i = 0; i < n; i++)
        rte_pktmbuf_free(packets[i]);
    return n;
}

int __real_rte_eth_dev_start(uint16_t id);
int __wrap_rte_eth_dev_start(uint16_t id);

int __wrap_rte_eth_dev_start(uint16_t id) {
    static void *queues[RTE_MAX_QUEUES_PER_PORT];
    int ret = __real_rte_eth_dev_start(id);

    for (uintptr_t q = 0; q < RTE_DIM(queues); q++)
        queues[q] = (void *)q;
    rte_eth_fp_ops[id].rx_pkt_burst = nic_rx;
    rte_eth_fp_ops[id].tx_pkt_burst = nic_tx;
    rte_eth_fp_ops[id].txq.data = queues;
    return ret;
}
