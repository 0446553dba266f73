/* SPDX-License-Identifier: Apache-2.0 */
#include "packet.h"

#include <rte_hash_crc.h>

#define VLAN_TAGS_MAX 2

static bool parse_ipv4(const uint8_t *l3, uint32_t len, struct headers *headers) {
    struct rte_ipv4_hdr ip;

    if (len < sizeof(ip))
        return false;
    memcpy(&ip, l3, sizeof(ip));
    headers->l3_len = rte_ipv4_hdr_len(&ip);
    if (ip.version_ihl >> 4 != 4 || headers->l3_len < sizeof(ip) || headers->l3_len > len)
        return false;
    headers->is_ip = true;
    if ((ip.fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK | RTE_IPV4_HDR_MF_FLAG)) == 0)
        headers->l4_proto = ip.next_proto_id;
    return true;
}

static bool parse_ipv6(const uint8_t *l3, uint32_t len, struct headers *headers) {
    uint32_t at = sizeof(struct rte_ipv6_hdr);
    uint8_t next;

    if (len < at || l3[0] >> 4 != 6)
        return false;
    headers->is_ip = true;
    headers->is_ipv6 = true;
    next = l3[6];
    for (int i = 0; i < CV_IPV6_EXTENSIONS_MAX; i++) {
        switch (next) {
        case IPPROTO_HOPOPTS:
        case IPPROTO_ROUTING:
        case IPPROTO_DSTOPTS:
            if (len < at + 8)
                return false;
            next = l3[at];
            at += 8 + 8 * l3[at + 1];
            if (len < at)
                return false;
            break;
        case IPPROTO_FRAGMENT:
            next = IPPROTO_NONE;
            /* fall through */
        default:
            headers->l3_len = at;
            headers->l4_proto = next;
            return true;
        }
    }
    return false;
}

bool cv_parse(const struct rte_mbuf *packet, struct headers *headers) {
    const uint8_t *frame = rte_pktmbuf_mtod(packet, const uint8_t *);
    uint32_t len = packet->data_len;
    uint16_t type, l2_len = RTE_ETHER_HDR_LEN;

    *headers = (struct headers){.l4_proto = IPPROTO_NONE};
    if (len < RTE_ETHER_HDR_LEN)
        return false;
    type = cv_ethertype(frame);
    for (int i = 0; i < VLAN_TAGS_MAX; i++) {
        if (type != RTE_ETHER_TYPE_VLAN && type != RTE_ETHER_TYPE_QINQ)
            break;
        l2_len += RTE_VLAN_HLEN;
        if (len < l2_len)
            return false;
        type = cv_ethertype(frame + l2_len - RTE_ETHER_HDR_LEN);
    }
    headers->l2_len = l2_len;
    if (type == RTE_ETHER_TYPE_IPV4)
        return parse_ipv4(frame + l2_len, len - l2_len, headers);
    if (type == RTE_ETHER_TYPE_IPV6)
        return parse_ipv6(frame + l2_len, len - l2_len, headers);
    return true;
}

uint16_t cv_sum(const struct rte_mbuf *packet, uint32_t start) {
    uint32_t sum = 0, done = 0;

    for (; packet != NULL; packet = packet->next) {
        uint32_t skip = RTE_MIN(start, (uint32_t)packet->data_len), n = packet->data_len - skip;
        uint16_t part = rte_raw_cksum(rte_pktmbuf_mtod_offset(packet, const uint8_t *, skip), n);

        sum += done % 2 == 0 ? part : rte_bswap16(part);
        done += n;
        start -= skip;
    }
    return __rte_raw_cksum_reduce(sum);
}

/* Of bytes that may lie anywhere: DPDK's hash reads words. */
static inline uint32_t hash_bytes(const uint8_t *bytes, uint32_t n, uint32_t hash) {
    uint64_t words[4];

    memcpy(words, bytes, n);
    return rte_hash_crc(words, n, hash);
}

uint32_t cv_flow_hash(const struct rte_mbuf *packet) {
    const uint8_t *frame = rte_pktmbuf_mtod(packet, const uint8_t *);
    struct headers headers;
    uint32_t hash = 0;

    if (packet->ol_flags & RTE_MBUF_F_RX_RSS_HASH)
        return packet->hash.rss;
    if (!cv_parse(packet, &headers) || !headers.is_ip)
        return hash_bytes(frame, 2 * RTE_ETHER_ADDR_LEN, 0);
    if (headers.is_ipv6)
        hash = hash_bytes(frame + headers.l2_len + 8, 32, hash);
    else
        hash = hash_bytes(frame + headers.l2_len + 12, 8, hash);
    if ((headers.l4_proto == IPPROTO_TCP || headers.l4_proto == IPPROTO_UDP) &&
        packet->data_len >= headers.l2_len + headers.l3_len + 4)
        hash = hash_bytes(frame + headers.l2_len + headers.l3_len, 4, hash);
    return hash;
}
