/* SPDX-License-Identifier: Apache-2.0 */
/* What must be true of every frame that a port is given, whatever came in. */
#include <netinet/in.h>
#include <rte_ether.h>
#include <string.h>

#include "fuzz.h"
#include "offload.h"

#define SHORTEST_IPV4 34
#define SHORTEST_IPV6 54
#define SHORTEST_ARP 42
#define TCP_HEADER_BYTES 20

void check_chain(const struct rte_mbuf *packet) {
    uint32_t bytes = 0, segments = 0;

    for (const struct rte_mbuf *segment = packet; segment != NULL; segment = segment->next) {
        REQUIRE(segment->data_off + segment->data_len <= segment->buf_len,
                "data beyond its buffer: %u + %u of %u", segment->data_off, segment->data_len,
                segment->buf_len);
        REQUIRE(segment->data_len > 0, "an empty segment");
        REQUIRE(rte_mbuf_refcnt_read(segment) > 0, "a segment that is free");
        bytes += segment->data_len;
        segments++;
    }
    REQUIRE(bytes == packet->pkt_len, "%u bytes said to be %u", bytes, packet->pkt_len);
    REQUIRE(segments == packet->nb_segs, "%u segments said to be %u", segments, packet->nb_segs);
}

static uint16_t checksum_offset(uint64_t flags) {
    return (flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM ? 6 : 16;
}

void check_packet(int number, const struct rte_mbuf *packet) {
    static uint8_t bytes[FRAME_BYTES_MAX + 1024];
    uint64_t flags = packet->ol_flags;
    struct sent sent = {.bytes = bytes, .n = packet->pkt_len};
    uint32_t at = 0;

    check_chain(packet);
    REQUIRE(packet->pkt_len <= sizeof(bytes), "%u bytes in one frame", packet->pkt_len);
    for (const struct rte_mbuf *segment = packet; segment != NULL; segment = segment->next) {
        memcpy(bytes + at, rte_pktmbuf_mtod(segment, void *), segment->data_len);
        at += segment->data_len;
    }
    if (flags & CV_UNFINISHED) {
        bool is_ipv6 = flags & RTE_MBUF_F_TX_IPV6;

        REQUIRE(!(flags & RTE_MBUF_F_TX_IPV4) == is_ipv6, "IPv4 or IPv6, but not both");
        sent.needs_checksum = true;
        sent.checksum_start = packet->l2_len + packet->l3_len;
        sent.checksum_offset = checksum_offset(flags);
        REQUIRE(sent.checksum_start + sent.checksum_offset + 2 <= packet->data_len,
                "the checksum is behind the first segment");
        if (flags & RTE_MBUF_F_TX_TCP_SEG) {
            sent.gso = is_ipv6 ? 6 : 4;
            sent.gso_size = packet->tso_segsz;
            sent.header_bytes = sent.checksum_start + packet->l4_len;
            REQUIRE(sent.header_bytes <= packet->data_len, "headers behind the first segment");
        }
    }
    if (fuzz_ports[number].is_simple_nic)
        REQUIRE(packet->nb_segs == 1 && packet->pool->elt_size < UINT16_MAX,
                "a NIC gets a packet in a form that it cannot take");
    check_sent(number, &sent);
}

void check_vnet(int number, const struct virtio_net_hdr *vnet, const uint8_t *bytes, uint32_t n) {
    uint8_t gso = vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
    struct sent sent = {.bytes = bytes, .n = n};

    REQUIRE(!(vnet->flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)),
            "virtio-net flags %u", vnet->flags);
    if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        sent.needs_checksum = true;
        sent.checksum_start = vnet->csum_start;
        sent.checksum_offset = vnet->csum_offset;
    }
    if (gso != VIRTIO_NET_HDR_GSO_NONE) {
        REQUIRE(gso == VIRTIO_NET_HDR_GSO_TCPV4 || gso == VIRTIO_NET_HDR_GSO_TCPV6,
                "virtio-net gso_type %u", vnet->gso_type);
        sent.gso = gso == VIRTIO_NET_HDR_GSO_TCPV4 ? 4 : 6;
        sent.gso_size = vnet->gso_size;
        sent.header_bytes = vnet->hdr_len;
    }
    check_sent(number, &sent);
}

static void check_offloads(int number, const struct sent *sent) {
    uint32_t offloads = fuzz_ports[number].port->offloads;
    uint32_t largest = sent->gso == 0 ? sent->n : (uint32_t)sent->header_bytes + sent->gso_size;

    REQUIRE(largest <= fuzz_ports[number].port->max_frame_bytes, "%u bytes, %u are possible",
            largest, fuzz_ports[number].port->max_frame_bytes);
    REQUIRE(sent->gso == 0 || sent->needs_checksum, "segments without checksums");
    if (!sent->needs_checksum)
        return;
    REQUIRE(offloads & CV_OFFLOAD_TX_CHECKSUM, "a checksum is left to who cannot complete it");
    REQUIRE(sent->checksum_offset == 6 || sent->checksum_offset == 16, "csum_offset %u",
            sent->checksum_offset);
    REQUIRE(sent->checksum_start >= SHORTEST_IPV4 &&
                sent->checksum_start + sent->checksum_offset + 2u <= sent->n,
            "checksum at %u + %u of %u bytes", sent->checksum_start, sent->checksum_offset,
            sent->n);
    if (sent->gso == 0)
        return;
    REQUIRE(offloads & (sent->gso == 4 ? CV_OFFLOAD_TSO4 : CV_OFFLOAD_TSO6),
            "segments are left to who cannot make them");
    REQUIRE(sent->n <= UINT16_MAX + 22, "%u bytes of segments, behind at most two tags", sent->n);
    REQUIRE(sent->gso_size >= CV_GSO_SIZE_MIN, "gso_size %u", sent->gso_size);
    REQUIRE(sent->n - sent->header_bytes <= (uint32_t)sent->gso_size * CV_GSO_SEGMENTS_MAX,
            "segments of %u bytes, of %u", sent->gso_size, sent->n);
    REQUIRE(sent->header_bytes >= sent->checksum_start + TCP_HEADER_BYTES &&
                sent->header_bytes < sent->n,
            "%u bytes of headers in %u", sent->header_bytes, sent->n);
}

/* Neither back to where it came from, nor to another network. */
static bool may_go_to(int number) {
    const struct fuzz_port *in = &fuzz_ports[input.ingress], *out = &fuzz_ports[number];
    int uplink_in = in->role == CV_ROLE_EXCEPTION ? in->uplink : input.ingress;
    int uplink_out = out->role == CV_ROLE_EXCEPTION ? out->uplink : number;

    if (number == input.ingress)
        return false;
    if (is_trunk(input.ingress))
        return is_trunk(number) ? uplink_in == uplink_out
                                : fuzz_networks[out->network].uplink == uplink_in;
    return is_trunk(number) ? fuzz_networks[in->network].uplink == uplink_out
                            : in->network == out->network;
}

static bool is_own_ip4(const struct fuzz_port *in, const uint8_t *ip) {
    return memcmp(ip, in->ip4, 4) == 0 || memcmp(ip, (uint8_t[4]){0}, 4) == 0;
}

static bool is_own_ip6(const struct fuzz_port *in, const uint8_t *ip) {
    uint8_t local[16] = {0xfe, 0x80, [8] = 0, 0, 0, 0xff, 0xfe, 0, 0, in->mac[5]};

    return memcmp(ip, in->ip6, 16) == 0 || memcmp(ip, local, 16) == 0 ||
           memcmp(ip, (uint8_t[16]){0}, 16) == 0;
}

/* The plain forms of what a container may not say; the spoof check has tests of its own. */
static void check_source(const struct fuzz_port *in, const uint8_t *bytes, uint32_t n) {
    uint16_t type = bytes[12] << 8 | bytes[13];

    REQUIRE(memcmp(bytes + 6, in->mac, 6) == 0, "from another's MAC");
    REQUIRE(type != RTE_ETHER_TYPE_VLAN && type != RTE_ETHER_TYPE_QINQ &&
                type != RTE_ETHER_TYPE_QINQ1,
            "tagged by a container");
    if (type == RTE_ETHER_TYPE_ARP)
        REQUIRE(n >= SHORTEST_ARP && memcmp(bytes + 22, in->mac, 6) == 0, "ARP with another's MAC");
    if (type == RTE_ETHER_TYPE_IPV6) {
        REQUIRE(n >= SHORTEST_IPV6, "less than an IPv6 header");
        REQUIRE(bytes[20] != IPPROTO_ICMPV6 || n < 55 || bytes[54] != 134, "a router's");
    }
    if (type == RTE_ETHER_TYPE_IPV4) {
        REQUIRE(n >= SHORTEST_IPV4, "less than an IPv4 header");
        REQUIRE(bytes[14] != 0x45 || bytes[23] != IPPROTO_UDP || bytes[20] & 0x1f || bytes[21] ||
                    bytes[36] != 0 || bytes[37] != 68,
                "a DHCP server's");
    }
    if (!in->has_ips)
        return;
    if (type == RTE_ETHER_TYPE_ARP)
        REQUIRE(is_own_ip4(in, bytes + 28), "ARP from another's address");
    if (type == RTE_ETHER_TYPE_IPV4)
        REQUIRE(is_own_ip4(in, bytes + 26), "IPv4 from another's address");
    if (type == RTE_ETHER_TYPE_IPV6)
        REQUIRE(is_own_ip6(in, bytes + 22), "IPv6 from another's address");
}

void check_sent(int number, const struct sent *sent) {
    const struct fuzz_port *in = &fuzz_ports[input.ingress];
    uint8_t untagged[FRAME_BYTES_MAX / 64];
    uint32_t n = RTE_MIN(sent->n, (uint32_t)sizeof(untagged));
    bool tagged = !is_trunk(input.ingress) && is_trunk(number) && fuzz_networks[in->network].vlan;

    REQUIRE(may_go_to(number), "a frame from %s to %s", in->name, fuzz_ports[number].name);
    REQUIRE(number != input.gone, "a frame to %s, which is gone", fuzz_ports[number].name);
    REQUIRE(sent->n >= RTE_ETHER_HDR_LEN, "%u bytes", sent->n);
    check_offloads(number, sent);
    check_origin(number, sent);
    if (!in->spoof_check)
        return;
    memcpy(untagged, sent->bytes, n);
    if (tagged) { /* check_origin() has seen that it is */
        n -= 4;
        memmove(untagged + 12, untagged + 16, n - 12);
    }
    check_source(in, untagged, n);
}
