/* SPDX-License-Identifier: Apache-2.0 */
/* Reading headers; nothing here trusts a length that it has not compared with the packet's. */
#ifndef CV_PACKET_H
#define CV_PACKET_H

#include <netinet/in.h>
#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CV_MAC_MASK UINT64_C(0xffffffffffff)
#define CV_MAC_BROADCAST CV_MAC_MASK
#define CV_IPV6_EXTENSIONS_MAX 8

/* A MAC address as an integer, first byte lowest. */
static inline uint64_t cv_mac(const uint8_t *bytes) {
    uint64_t mac = 0;

    memcpy(&mac, bytes, RTE_ETHER_ADDR_LEN);
    return rte_le_to_cpu_64(mac);
}

/* Destination of a frame of at least 14 bytes: one load. */
static inline uint64_t cv_destination(const uint8_t *frame) {
    uint64_t word;

    memcpy(&word, frame, sizeof(word));
    return rte_le_to_cpu_64(word) & CV_MAC_MASK;
}

/* Source of a frame of at least 14 bytes: one load. */
static inline uint64_t cv_source(const uint8_t *frame) {
    uint64_t word;

    memcpy(&word, frame + 4, sizeof(word));
    return rte_le_to_cpu_64(word) >> 16;
}

static inline bool cv_mac_is_group(uint64_t mac) {
    return mac & 1;
}

/* 01:80:c2:00:00:00 to :0f, never forwarded by a bridge (IEEE 802.1Q, 8.6.3). */
static inline bool cv_mac_is_reserved(uint64_t mac) {
    return (mac & UINT64_C(0xf0ffffffffff)) == UINT64_C(0x000000c28001);
}

/*
 * What only routers listen to: 224.0.0.2, 224.0.0.22, ff02::2 and ff02::16, to which hosts report
 * the groups that they are in (RFC 3376, RFC 3810) and where they ask for a router.
 */
static inline bool cv_mac_is_for_routers(uint64_t mac) {
    return mac == UINT64_C(0x0200005e0001) || mac == UINT64_C(0x1600005e0001) ||
           mac == UINT64_C(0x020000003333) || mac == UINT64_C(0x160000003333);
}

static inline uint16_t cv_ethertype(const uint8_t *frame) {
    uint16_t type;

    memcpy(&type, frame + 12, sizeof(type));
    return rte_be_to_cpu_16(type);
}

struct headers {
    uint16_t l2_len;
    uint16_t l3_len;
    uint8_t l4_proto; /* IPPROTO_NONE: no transport header in this packet (fragment, not IP) */
    bool is_ipv6;
    bool is_ip;
};

/*
 * Finds the network and transport headers behind at most two VLAN tags and CV_IPV6_EXTENSIONS_MAX
 * extension headers, in the first segment. Returns false if a header is cut off or contradicts
 * itself.
 */
bool cv_parse(const struct rte_mbuf *packet, struct headers *headers);

/*
 * Sums 16-bit words from start to the packet's end, as the Internet checksum does (RFC 1071),
 * without the complement. rte_raw_cksum_mbuf() loses a carry behind a segment of an odd length.
 */
uint16_t cv_sum(const struct rte_mbuf *packet, uint32_t start);

/* Spreads flows; equal for all packets of a flow in one direction. */
uint32_t cv_flow_hash(const struct rte_mbuf *packet);

#endif
