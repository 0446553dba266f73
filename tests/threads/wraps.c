/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ThreadSanitizer cannot see into, DPDK's own objects, replaced by what it can: the packets'
 * way from one thread to another through a pool, and a NIC's queues; and memory that may be short.
 * The linker's --wrap leads here.
 */
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "pools.h"
#include "source.h"
#include "stack.h"
#include "table.h"
#include "worker.h"

_Thread_local bool no_tables;

void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);

void *__wrap_calloc(size_t n, size_t bytes) {
    return no_tables && n * bytes == sizeof(struct table) ? NULL : __real_calloc(n, bytes);
}

int __real_rte_eal_wait_lcore(unsigned int lcore);
int __wrap_rte_eal_wait_lcore(unsigned int lcore);

/* Whoever has waited for a worker comes after all that it did. */
int __wrap_rte_eal_wait_lcore(unsigned int lcore) {
    int ret = __real_rte_eal_wait_lcore(lcore);

    for (uint16_t i = 0; i < cv_n_workers; i++)
        atomic_load(&cv_workers[i].rounds_begun);
    return ret;
}

const struct stack_hooks stack_hooks = {NULL, NULL, NULL};

struct rte_mempool *__wrap_rte_pktmbuf_pool_create(const char *name, unsigned int n,
                                                   unsigned int cache, uint16_t private,
                                                   uint16_t room, int socket);

struct rte_mempool *__wrap_rte_pktmbuf_pool_create(const char *name, unsigned int n,
                                                   unsigned int cache, uint16_t private,
                                                   uint16_t room, int socket) {
    return rte_pktmbuf_pool_create_by_ops(name, n, cache, private, room, socket, STACK_OPS);
}

void __wrap_rte_pktmbuf_free_bulk(struct rte_mbuf **packets, unsigned int n);

/*
 * The last to let go of a shared packet looks at its count without acquiring what the others did to
 * it. On x86 that is no less, but here it must be said.
 */
void __wrap_rte_pktmbuf_free_bulk(struct rte_mbuf **packets, unsigned int n) {
    for (unsigned int i = 0; i < n; i++) {
        if (__rte_mbuf_refcnt_update(packets[i], -1) > 0)
            continue;
        rte_mbuf_refcnt_set(packets[i], 1);
        rte_mempool_put(packets[i]->pool, packets[i]);
    }
}

/* A NIC's queue, which keeps its last packets: in another queue, later ones would overtake them. */
static struct {
    unsigned int n;
    struct rte_mbuf *packets[2 * NIC_KEEPS];
} nic_queues[NIC_QUEUES];

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

static void nic_send(uintptr_t queue, unsigned int n) {
    struct rte_mbuf **packets = nic_queues[queue].packets;

    check(packets, n);
    rte_pktmbuf_free_bulk(packets, n);
    nic_queues[queue].n -= n;
    memmove(packets, packets + n, nic_queues[queue].n * sizeof(*packets));
}

static uint16_t nic_tx(void *data, struct rte_mbuf **packets, uint16_t n) {
    uintptr_t queue = (uintptr_t)data;

    n = RTE_MIN(n, NIC_KEEPS);
    if (nic_queues[queue].n > NIC_KEEPS)
        nic_send(queue, nic_queues[queue].n - NIC_KEEPS);
    memcpy(&nic_queues[queue].packets[nic_queues[queue].n], packets, n * sizeof(*packets));
    nic_queues[queue].n += n;
    return n;
}

void nic_send_all(void) {
    for (uintptr_t queue = 0; queue < NIC_QUEUES; queue++)
        nic_send(queue, nic_queues[queue].n);
}

int __real_rte_eth_dev_start(uint16_t id);
int __wrap_rte_eth_dev_start(uint16_t id);

int __wrap_rte_eth_dev_start(uint16_t id) {
    static void *queues[NIC_QUEUES];
    int ret = __real_rte_eth_dev_start(id);

    for (uintptr_t q = 0; q < RTE_DIM(queues); q++)
        queues[q] = (void *)q;
    rte_eth_fp_ops[id].rx_pkt_burst = nic_rx;
    rte_eth_fp_ops[id].tx_pkt_burst = nic_tx;
    rte_eth_fp_ops[id].txq.data = queues;
    return ret;
}
