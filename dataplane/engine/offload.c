/* SPDX-License-Identifier: Apache-2.0 */
#include "offload.h"

#include <rte_tcp.h>
#include <rte_udp.h>

#include "packet.h"

#define L3_LEN_MAX 511 /* of the mbuf's nine bits */

static bool normalize_segments(struct rte_mbuf *packet, const struct headers *headers) {
    uint32_t at = headers->l2_len + headers->l3_len;
    const struct rte_tcp_hdr *tcp;

    if (headers->l4_proto != IPPROTO_TCP || packet->tso_segsz < CV_GSO_SIZE_MIN ||
        packet->pkt_len > (uint32_t)headers->l2_len + UINT16_MAX)
        return false;
    if (packet->data_len < at + sizeof(*tcp))
        return false;
    tcp = rte_pktmbuf_mtod_offset(packet, const struct rte_tcp_hdr *, at);
    packet->l4_len = (tcp->data_off >> 4) * 4;
    if (packet->l4_len < sizeof(*tcp) || packet->data_len < at + packet->l4_len)
        return false;
    at += packet->l4_len;
    if (packet->pkt_len > at + packet->tso_segsz)
        packet->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
    return packet->pkt_len <= at + packet->tso_segsz * CV_GSO_SEGMENTS_MAX;
}

static uint64_t checksum_flag(const struct rte_mbuf *packet, const struct headers *headers) {
    uint32_t payload = packet->data_len - headers->l2_len - headers->l3_len;

    if (headers->l4_proto == IPPROTO_TCP && payload >= sizeof(struct rte_tcp_hdr))
        return RTE_MBUF_F_TX_TCP_CKSUM;
    if (headers->l4_proto == IPPROTO_UDP && payload >= sizeof(struct rte_udp_hdr))
        return RTE_MBUF_F_TX_UDP_CKSUM;
    return 0;
}

static void set_unfinished(struct rte_mbuf *packet, const struct headers *headers,
                           uint64_t checksum) {
    packet->l2_len = headers->l2_len;
    packet->l3_len = headers->l3_len;
    packet->ol_flags |= checksum;
    packet->ol_flags |= headers->is_ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
}

bool cv_offload_normalize(struct rte_mbuf *packet) {
    bool merged = packet->ol_flags & RTE_MBUF_F_RX_LRO;
    struct headers headers;
    uint64_t checksum;

    packet->ol_flags &= ~(RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_MASK);
    if (!cv_parse(packet, &headers) || !headers.is_ip || headers.l3_len > L3_LEN_MAX)
        return false;
    checksum = checksum_flag(packet, &headers);
    if (checksum == 0)
        return false;
    set_unfinished(packet, &headers, checksum);
    return !merged || normalize_segments(packet, &headers);
}

/* Sums from start to the end and writes the complement at start + offset. */
static bool finish_other_checksum(struct rte_mbuf *packet, uint32_t start, uint32_t offset) {
    uint16_t sum;

    if (start + offset + sizeof(sum) > packet->data_len)
        return false;
    sum = ~cv_sum(packet, start);
    if (sum == 0) /* in UDP it would mean that there is none */
        sum = 0xffff;
    memcpy(rte_pktmbuf_mtod_offset(packet, uint8_t *, start + offset), &sum, sizeof(sum));
    return true;
}

static uint32_t checksum_offset(uint64_t flag) {
    return flag == RTE_MBUF_F_TX_UDP_CKSUM ? offsetof(struct rte_udp_hdr, dgram_cksum)
                                           : offsetof(struct rte_tcp_hdr, cksum);
}

bool cv_offload_from_vnet(struct rte_mbuf *packet, const struct virtio_net_hdr *vnet) {
    uint8_t gso = vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
    struct headers headers;
    uint64_t checksum;

    if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) {
        if (vnet->flags & VIRTIO_NET_HDR_F_DATA_VALID)
            packet->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
        return gso == VIRTIO_NET_HDR_GSO_NONE;
    }
    if (!cv_parse(packet, &headers))
        return false;
    checksum = checksum_flag(packet, &headers);
    if (checksum == 0 || headers.l3_len > L3_LEN_MAX ||
        vnet->csum_start != headers.l2_len + headers.l3_len ||
        vnet->csum_offset != checksum_offset(checksum))
        return gso == VIRTIO_NET_HDR_GSO_NONE &&
               finish_other_checksum(packet, vnet->csum_start, vnet->csum_offset);
    set_unfinished(packet, &headers, checksum);
    if (gso == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    packet->tso_segsz = vnet->gso_size;
    return gso == (headers.is_ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4) &&
           normalize_segments(packet, &headers);
}

void cv_offload_to_vnet(const struct rte_mbuf *packet, struct virtio_net_hdr *vnet) {
    uint64_t flags = packet->ol_flags;

    memset(vnet, 0, sizeof(*vnet));
    if (!(flags & CV_UNFINISHED)) {
        if (cv_offload_verified(packet))
            vnet->flags = VIRTIO_NET_HDR_F_DATA_VALID;
        return;
    }
    vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    vnet->csum_start = packet->l2_len + packet->l3_len;
    vnet->csum_offset = checksum_offset(flags & RTE_MBUF_F_TX_L4_MASK);
    if (flags & RTE_MBUF_F_TX_TCP_SEG) {
        const struct rte_tcp_hdr *tcp =
            rte_pktmbuf_mtod_offset(packet, const struct rte_tcp_hdr *, vnet->csum_start);

        vnet->gso_type =
            flags & RTE_MBUF_F_TX_IPV6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
        if (tcp->tcp_flags & RTE_TCP_CWR_FLAG)
            vnet->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
        vnet->gso_size = packet->tso_segsz;
        vnet->hdr_len = packet->l2_len + packet->l3_len + packet->l4_len;
    }
}

void cv_offload_finish_checksum(struct rte_mbuf *packet) {
    bool udp = (packet->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
    uint32_t start = packet->l2_len + packet->l3_len;
    uint32_t at = start + checksum_offset(packet->ol_flags & RTE_MBUF_F_TX_L4_MASK);
    uint16_t sum;

    /* The field holds the pseudo-header's sum already, so that the sum over all is complete. */
    packet->ol_flags &= ~(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6);
    sum = ~cv_sum(packet, start);
    if (udp && sum == 0)
        sum = 0xffff;
    memcpy(rte_pktmbuf_mtod_offset(packet, uint8_t *, at), &sum, sizeof(sum));
}

/* Where the addresses are, how many bytes, and where the network header says that the frame ends.
 */
static const uint8_t *addresses_of(const struct rte_mbuf *packet, const struct headers *headers,
                                   uint32_t *n, uint32_t *end) {
    const uint8_t *l3 = rte_pktmbuf_mtod_offset(packet, const uint8_t *, headers->l2_len);

    if (headers->is_ipv6) {
        *n = 32;
        *end = headers->l2_len + 40 + (l3[4] << 8 | l3[5]);
        return l3 + 8;
    }
    *n = 8;
    *end = headers->l2_len + (l3[2] << 8 | l3[3]);
    return l3 + 12;
}

void cv_offload_vouch(struct rte_mbuf *packet) {
    const uint8_t *addresses;
    struct headers headers;
    uint32_t n, end, at;
    uint64_t checksum;
    uint16_t field, sum;

    if (rte_mbuf_refcnt_read(packet) > 1 || !RTE_MBUF_DIRECT(packet) ||
        !cv_parse(packet, &headers) || !headers.is_ip || headers.l3_len > L3_LEN_MAX)
        return;
    checksum = checksum_flag(packet, &headers);
    if (checksum == 0)
        return;
    addresses = addresses_of(packet, &headers, &n, &end);
    at = headers.l2_len + headers.l3_len + checksum_offset(checksum);
    memcpy(&field, rte_pktmbuf_mtod_offset(packet, uint8_t *, at), sizeof(field));
    if (end != packet->pkt_len || (checksum == RTE_MBUF_F_TX_UDP_CKSUM && field == 0))
        return;
    sum = __rte_raw_cksum_reduce(__rte_raw_cksum(addresses, n, 0) +
                                 rte_cpu_to_be_16(end - headers.l2_len - headers.l3_len) +
                                 rte_cpu_to_be_16(headers.l4_proto));
    memcpy(rte_pktmbuf_mtod_offset(packet, uint8_t *, at), &sum, sizeof(sum));
    packet->ol_flags &= ~RTE_MBUF_F_RX_L4_CKSUM_MASK;
    set_unfinished(packet, &headers, checksum);
}
