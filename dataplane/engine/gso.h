/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP segmentation in software, for IPv4 and IPv6 (librte_gso of DPDK 22.11 has no TCP over IPv6),
 * batch by batch, so that a large packet never needs more buffers than one batch.
 */
#ifndef CV_GSO_H
#define CV_GSO_H

#include <rte_mbuf.h>
#include <stdbool.h>
#include <stdint.h>

struct gso {
    const struct rte_mbuf *packet;
    const struct rte_mbuf *segment; /* where the next payload byte is */
    uint32_t segment_offset;
    uint32_t header_len;
    uint32_t payload_left;
    uint32_t payload_done;
    uint16_t index;
    bool checksum; /* complete them here; otherwise the egress does */
    bool failed;   /* packet buffers ran out; the rest is lost */
};

/* Begins to segment a packet that carries RTE_MBUF_F_TX_TCP_SEG. The packet stays the caller's. */
void cv_gso_begin(struct gso *gso, const struct rte_mbuf *packet, bool checksum);

/* Makes at most max more segments. Returns how many; 0 at the end. */
uint16_t cv_gso_next(struct gso *gso, struct rte_mbuf **segments, uint16_t max);

#endif
