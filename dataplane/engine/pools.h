/* SPDX-License-Identifier: Apache-2.0 */
/* The packet buffers that all ports share. */
#ifndef CV_POOLS_H
#define CV_POOLS_H

#include <rte_mempool.h>
#include <stdint.h>

/* Ordinary buffers of 2 KiB; longer packets are chains of them. */
extern struct rte_mempool *cv_std_pool;

/*
 * Buffers that take a tap's 64 KiB segment in one piece. Only packets on their way through a
 * worker's round use them: a port that keeps packets (a NIC's ring) copies first.
 */
extern struct rte_mempool *cv_jumbo_pool;

/* Bytes behind each of them which may be written, for what a read gives beyond its 65,535. */
#define CV_JUMBO_SLACK 257

/* Makes both pools within memory_mb. Returns 0 or -ENOMEM. */
int cv_pools_create(uint32_t memory_mb, uint16_t n_workers);

void cv_pools_free(void);

#endif
