/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"

#include <rte_cycles.h>
#include <rte_tcp.h>

#include "offload.h"
#include "packet.h"

#define MIB_SHIFT 20
#define BITS_PER_BYTE 8

/* A pause ends with this much credit, so that a worker's sleep and its waking are worth it. */
#define QUANTA_PER_BURST 8
#define QUANTA_PER_S 1000
#define PAUSES_PER_S 100

void cv_limit_set(struct limit *limit, uint64_t rate_bits_s, uint64_t burst_bits) {
    double hz = rte_get_tsc_hz(), per_bit = rate_bits_s == 0 ? 0 : hz / rate_bits_s;
    uint64_t per_mib = per_bit * BITS_PER_BYTE * (1 << MIB_SHIFT);
    /* With none at all there would never be credit. */
    uint64_t burst = rate_bits_s == 0 ? 0 : RTE_MAX((uint64_t)(per_bit * burst_bits), 1ul);

    atomic_store_explicit(&limit->cycles_per_mib, rate_bits_s == 0 ? 0 : RTE_MAX(per_mib, 1ul),
                          memory_order_relaxed);
    atomic_store_explicit(&limit->burst_cycles, burst, memory_order_relaxed);
    atomic_store_explicit(&limit->resume_at, 0, memory_order_relaxed);
    /* Whoever sees this sees the new rate, and so never adds an old, much larger cost to it. */
    atomic_store_explicit(&limit->full_at, rate_bits_s == 0 ? 0 : rte_rdtsc() + burst,
                          memory_order_release);
}

int64_t cv_limit_credit(struct limit *limit, uint64_t now) {
    uint64_t full_at = atomic_load_explicit(&limit->full_at, memory_order_acquire);
    uint64_t burst = atomic_load_explicit(&limit->burst_cycles, memory_order_relaxed);

    if (atomic_load_explicit(&limit->cycles_per_mib, memory_order_relaxed) == 0)
        return INT64_MAX;
    return full_at <= now ? (int64_t)burst : (int64_t)(now + burst - full_at);
}

uint64_t cv_limit_cost(const struct limit *limit, uint64_t bytes) {
    uint64_t per_mib = atomic_load_explicit(&limit->cycles_per_mib, memory_order_relaxed);

    return (unsigned __int128)bytes * per_mib >> MIB_SHIFT;
}

void cv_limit_charge(struct limit *limit, uint64_t now, uint64_t bytes) {
    uint64_t full_at = atomic_load_explicit(&limit->full_at, memory_order_acquire), after;

    do
        after = RTE_MAX(full_at, now) + cv_limit_cost(limit, bytes);
    while (!atomic_compare_exchange_weak_explicit(&limit->full_at, &full_at, after,
                                                  memory_order_acquire, memory_order_acquire));
}

uint64_t cv_limit_pause(struct limit *limit, uint64_t now) {
    uint64_t hz = rte_get_tsc_hz(), resume_at = now + hz / PAUSES_PER_S;
    uint64_t burst = atomic_load_explicit(&limit->burst_cycles, memory_order_relaxed);
    int64_t wait = RTE_MIN(burst / QUANTA_PER_BURST, hz / QUANTA_PER_S);

    wait -= cv_limit_credit(limit, now);
    resume_at = RTE_MIN(resume_at, now + RTE_MAX(wait, 0));
    atomic_store_explicit(&limit->resume_at, resume_at, memory_order_relaxed);
    return resume_at;
}

/* Of Ethernet, IP and TCP; 0 where they cannot be found. */
static uint32_t header_bytes(const struct rte_mbuf *packet) {
    const struct rte_tcp_hdr *tcp;
    struct headers headers;
    uint32_t at;

    if (packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
        return packet->l2_len + packet->l3_len + packet->l4_len;
    if (packet->data_len < RTE_ETHER_HDR_LEN || !cv_parse(packet, &headers))
        return 0;
    at = headers.l2_len + headers.l3_len;
    if (headers.l4_proto != IPPROTO_TCP || packet->data_len < at + sizeof(*tcp))
        return 0;
    tcp = rte_pktmbuf_mtod_offset(packet, const struct rte_tcp_hdr *, at);
    return at + (tcp->data_off >> 4) * 4;
}

uint32_t cv_limit_wire_bytes(const struct rte_mbuf *packet) {
    uint32_t headers, size = packet->tso_segsz;

    if (likely(!(packet->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_RX_LRO))))
        return packet->pkt_len;
    headers = header_bytes(packet);
    size = RTE_MAX(size, (uint32_t)CV_GSO_SIZE_MIN);
    if (packet->pkt_len <= headers + size)
        return packet->pkt_len;
    return packet->pkt_len + (packet->pkt_len - headers - 1) / size * headers;
}
