/* SPDX-License-Identifier: Apache-2.0 */
#include "pools.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <unistd.h>

#include "engine.h"
#include "error.h"

#define STD_CACHE 256
#define JUMBO_CACHE 32
#define JUMBO_PER_WORKER 128
#define STD_MIN 4096
#define STD_MAX (256 * 1024)

struct rte_mempool *cv_std_pool;
struct rte_mempool *cv_jumbo_pool;

/*
 * Half of the memory; the rest is for jumbo buffers, rings and the devices' own structures. No
 * buffer crosses the boundary of two pages, so that ordinary pages hold one each.
 */
static uint32_t std_count(uint32_t memory_mb) {
    uint64_t object = sizeof(struct rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE + RTE_CACHE_LINE_SIZE;
    uint64_t bytes =
        rte_eal_has_hugepages() ? object : RTE_ALIGN_CEIL(object, (uint64_t)sysconf(_SC_PAGESIZE));
    uint64_t count = (uint64_t)memory_mb * 1024 * 1024 / 2 / bytes;

    return RTE_MIN(RTE_MAX(count, (uint64_t)STD_MIN), (uint64_t)STD_MAX);
}

/* As rte_pktmbuf_pool_create, but for the slack, which an mbuf's 16 bits of length do not reach. */
static struct rte_mempool *create_jumbo(uint32_t n) {
    struct rte_pktmbuf_pool_private data = {.mbuf_data_room_size = UINT16_MAX};

    return rte_mempool_create("jumbo", n, sizeof(struct rte_mbuf) + UINT16_MAX + CV_JUMBO_SLACK,
                              JUMBO_CACHE, sizeof(data), rte_pktmbuf_pool_init, &data,
                              rte_pktmbuf_init, NULL, SOCKET_ID_ANY, 0);
}

int cv_pools_create(uint32_t memory_mb, uint16_t n_workers) {
    cv_std_pool = rte_pktmbuf_pool_create("std", std_count(memory_mb), STD_CACHE, 0,
                                          RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (cv_std_pool == NULL)
        return cv_fail(ENOMEM, "cannot make %u packet buffers out of %u MiB: %s; raise memory",
                       std_count(memory_mb), memory_mb, rte_strerror(rte_errno));
    cv_jumbo_pool = create_jumbo(JUMBO_PER_WORKER * n_workers);
    if (cv_jumbo_pool == NULL)
        return cv_fail(ENOMEM, "cannot make %u buffers of 64 KiB out of %u MiB: %s; raise memory",
                       JUMBO_PER_WORKER * n_workers, memory_mb, rte_strerror(rte_errno));
    return 0;
}

void cv_pools_free(void) {
    rte_mempool_free(cv_jumbo_pool);
    rte_mempool_free(cv_std_pool);
    cv_jumbo_pool = cv_std_pool = NULL;
}

int cv_pool(uint16_t index, struct cv_pool_stats *stats) {
    struct rte_mempool *const pools[] = {cv_std_pool, cv_jumbo_pool};
    struct rte_mempool *pool;

    if (index >= RTE_DIM(pools) || pools[index] == NULL)
        return -ENOENT;
    pool = pools[index];
    snprintf(stats->name, sizeof(stats->name), "%s", pool->name);
    stats->size = pool->size;
    stats->in_use = rte_mempool_in_use_count(pool);
    stats->buffer_bytes = rte_pktmbuf_data_room_size(pool);
    return 0;
}
