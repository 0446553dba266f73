/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit: a token bucket kept as one point in time (GCRA, ITU-T I.371), the one at which the
 * bucket will be full again. Any number of workers share it without a lock. What has passed may
 * bring it into debt, which is worked off before anything else passes: the rate holds in the long
 * run however large a packet is.
 */
#ifndef CV_LIMIT_H
#define CV_LIMIT_H

#include <rte_common.h>
#include <rte_mbuf.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Times are of the TSC. */
struct limit {
    _Atomic uint64_t full_at;        /* written last when the limit changes */
    _Atomic uint64_t resume_at;      /* out of credit: not worth another look before */
    _Atomic uint64_t cycles_per_mib; /* 0: no limit */
    _Atomic uint64_t burst_cycles;   /* in which a full bucket passes at the rate */
} __rte_cache_aligned;

/* Sets rate and burst, both 0 for no limit. The bucket is empty then. Control thread. */
void cv_limit_set(struct limit *limit, uint64_t rate_bits_s, uint64_t burst_bits);

/* Cycles' worth of bytes that may pass now; 0 or less: none. */
int64_t cv_limit_credit(struct limit *limit, uint64_t now);

/* Cycles that so many bytes take at the rate. */
uint64_t cv_limit_cost(const struct limit *limit, uint64_t bytes);

/* Takes note that so many bytes have passed, whether or not there was credit. */
void cv_limit_charge(struct limit *limit, uint64_t now, uint64_t bytes);

/*
 * Says when there will be credit again, and a little more so that waiting is worth it; 10 ms at
 * most, as the limit may change.
 */
uint64_t cv_limit_pause(struct limit *limit, uint64_t now);

/* Bytes of the frames that a packet becomes on a wire, without preamble and CRC: as tbf counts. */
uint32_t cv_limit_wire_bytes(const struct rte_mbuf *packet);

#endif
