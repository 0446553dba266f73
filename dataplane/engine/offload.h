/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offload metadata on its way from port to port.
 *
 * On ingress librte_vhost and the virtio PMD give RX_L4_CKSUM_NONE for a checksum that is still
 * partial, RX_LRO with tso_segsz for merged segments, RX_L4_CKSUM_GOOD for verified ones; a tap
 * gives a virtio-net header. Both become what every egress understands: TX flags and the header
 * lengths.
 */
#ifndef CV_OFFLOAD_H
#define CV_OFFLOAD_H

#include <linux/virtio_net.h>
#include <rte_mbuf.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

/* Something is left for the egress to finish. */
#define CV_UNFINISHED (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_L4_MASK)

/* Fewest bytes of a TCP segment that a peer may ask for (Linux's TCP_MIN_SND_MSS, less options). */
#define CV_GSO_SIZE_MIN 8

/*
 * Most segments of one packet, as a worker may have to make them: 64 KiB at the least MSS that
 * Linux takes, of 36 bytes with timestamps, are 1,820.
 */
#define CV_GSO_SEGMENTS_MAX 2048

/* Does the ingress say that anything is unfinished? */
static inline bool cv_offload_pending(const struct rte_mbuf *packet) {
    uint64_t flags = packet->ol_flags;

    return (flags & RTE_MBUF_F_RX_LRO) ||
           (flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE;
}

/*
 * Makes TX flags and header lengths of a received packet's RX flags. Returns false when they
 * contradict the packet; it must be dropped then.
 */
bool cv_offload_normalize(struct rte_mbuf *packet);

/*
 * The same from a virtio-net header, as a tap gives it. A partial checksum of anything but TCP or
 * UDP is completed at once.
 */
bool cv_offload_from_vnet(struct rte_mbuf *packet, const struct virtio_net_hdr *vnet);

/* The virtio-net header (virtio 1.1, 5.1.6.2) for a packet with TX flags, as a tap takes it. */
void cv_offload_to_vnet(const struct rte_mbuf *packet, struct virtio_net_hdr *vnet);

/* Completes a partial TCP or UDP checksum in software and clears the flags. */
void cv_offload_finish_checksum(struct rte_mbuf *packet);

/*
 * Is the checksum one that the ingress has verified? (The mask is two bits: both are "partial".)
 */
static inline bool cv_offload_verified(const struct rte_mbuf *packet) {
    return (packet->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
}

/*
 * Makes a verified checksum a partial one, of TX flags and the pseudo-header's sum: the one way of
 * saying "need not be verified" that both the kernel's end of a tap and librte_vhost take from us.
 * Leaves packets alone that are shared, or whose end is not where their headers say.
 */
void cv_offload_vouch(struct rte_mbuf *packet);

/* Which enum cv_offload an egress needs to take this packet as it is. */
static inline uint32_t cv_offload_needed(const struct rte_mbuf *packet) {
    uint64_t flags = packet->ol_flags;

    if (flags & RTE_MBUF_F_TX_TCP_SEG)
        return CV_OFFLOAD_TX_CHECKSUM |
               (flags & RTE_MBUF_F_TX_IPV6 ? CV_OFFLOAD_TSO6 : CV_OFFLOAD_TSO4);
    return flags & RTE_MBUF_F_TX_L4_MASK ? CV_OFFLOAD_TX_CHECKSUM : 0;
}

/* Bytes of the largest frame that this packet becomes on a wire. */
static inline uint32_t cv_frame_bytes(const struct rte_mbuf *packet) {
    if (packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
        return packet->l2_len + packet->l3_len + packet->l4_len + packet->tso_segsz;
    return packet->pkt_len;
}

#endif
