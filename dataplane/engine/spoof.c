/* SPDX-License-Identifier: Apache-2.0 */
#include "spoof.h"

#include <errno.h>
#include <rte_arp.h>
#include <rte_udp.h>
#include <stdlib.h>

#include "packet.h"

#define PASS CV_DROP_COUNT
#define DHCP_CLIENT_PORT RTE_BE16(68)
#define DHCP_SERVER_PORT RTE_BE16(67)

/* fe80::/64 with the modified EUI-64 of the MAC (RFC 4291, appendix A). */
static void link_local(uint8_t ip[16], uint64_t mac) {
    uint64_t le = rte_cpu_to_le_64(mac);
    uint8_t m[RTE_ETHER_ADDR_LEN];

    memcpy(m, &le, sizeof(m));
    memset(ip, 0, 16);
    ip[0] = 0xfe;
    ip[1] = 0x80;
    ip[8] = m[0] ^ 2;
    ip[9] = m[1];
    ip[10] = m[2];
    ip[11] = 0xff;
    ip[12] = 0xfe;
    ip[13] = m[3];
    ip[14] = m[4];
    ip[15] = m[5];
}

int cv_sources_init(struct sources *sources, uint64_t mac, const struct cv_ip *ips,
                    uint16_t n_ips) {
    sources->mac = mac;
    sources->ip4 = calloc(n_ips + 1, sizeof(*sources->ip4));
    sources->ip6 = calloc(n_ips + 1, sizeof(*sources->ip6));
    if (sources->ip4 == NULL || sources->ip6 == NULL) {
        cv_sources_free(sources);
        return -ENOMEM;
    }
    for (uint16_t i = 0; i < n_ips; i++) {
        if (ips[i].version == 4)
            memcpy(&sources->ip4[sources->n_ip4++], ips[i].addr, sizeof(*sources->ip4));
        else
            memcpy(sources->ip6[sources->n_ip6++], ips[i].addr, sizeof(*sources->ip6));
    }
    if (n_ips > 0)
        link_local(sources->ip6[sources->n_ip6++], mac);
    return 0;
}

void cv_sources_free(struct sources *sources) {
    free(sources->ip4);
    free(sources->ip6);
    memset(sources, 0, sizeof(*sources));
}

static inline bool any_address(const struct sources *sources) {
    return sources->n_ip6 > 0;
}

static bool own_ip4(const struct sources *sources, uint32_t ip) {
    for (uint16_t i = 0; i < sources->n_ip4; i++)
        if (sources->ip4[i] == ip)
            return true;
    return false;
}

static bool own_ip6(const struct sources *sources, const uint8_t *ip) {
    for (uint16_t i = 0; i < sources->n_ip6; i++)
        if (memcmp(sources->ip6[i], ip, sizeof(sources->ip6[i])) == 0)
            return true;
    return false;
}

static enum cv_drop check_arp(const struct sources *sources, const uint8_t *l3, uint32_t len) {
    struct rte_arp_hdr arp;
    uint32_t ip;

    if (len < sizeof(arp))
        return CV_DROP_RUNT;
    memcpy(&arp, l3, sizeof(arp));
    if (arp.arp_hardware != RTE_BE16(RTE_ARP_HRD_ETHER) ||
        arp.arp_protocol != RTE_BE16(RTE_ETHER_TYPE_IPV4) || arp.arp_hlen != RTE_ETHER_ADDR_LEN ||
        arp.arp_plen != sizeof(ip))
        return CV_DROP_SPOOF_ARP;
    if (cv_mac(arp.arp_data.arp_sha.addr_bytes) != sources->mac)
        return CV_DROP_SPOOF_ARP;
    ip = arp.arp_data.arp_sip; /* 0: a probe (RFC 5227) */
    if (ip != 0 && any_address(sources) && !own_ip4(sources, ip))
        return CV_DROP_SPOOF_ARP;
    return PASS;
}

/* A client that has no address yet may ask all DHCP servers for one (RFC 2131, 4.1). */
static bool is_dhcp_request(const uint8_t *l3, uint32_t len) {
    uint32_t l3_len = (l3[0] & RTE_IPV4_HDR_IHL_MASK) * RTE_IPV4_IHL_MULTIPLIER;
    struct rte_ipv4_hdr ip;
    struct rte_udp_hdr udp;

    memcpy(&ip, l3, sizeof(ip));
    if (ip.next_proto_id != IPPROTO_UDP || ip.dst_addr != RTE_BE32(UINT32_MAX) ||
        len < l3_len + sizeof(udp))
        return false;
    /* A later fragment has data where the first one has ports. */
    if ((ip.fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)) != 0)
        return false;
    memcpy(&udp, l3 + l3_len, sizeof(udp));
    return udp.src_port == DHCP_CLIENT_PORT && udp.dst_port == DHCP_SERVER_PORT;
}

static enum cv_drop check_ipv4(const struct sources *sources, const uint8_t *l3, uint32_t len) {
    uint32_t source;

    if (len < sizeof(struct rte_ipv4_hdr))
        return CV_DROP_RUNT;
    memcpy(&source, l3 + offsetof(struct rte_ipv4_hdr, src_addr), sizeof(source));
    if (likely(own_ip4(sources, source)) || !any_address(sources))
        return PASS;
    return source == 0 && is_dhcp_request(l3, len) ? PASS : CV_DROP_SPOOF_IPV4;
}

static enum cv_drop check_ipv6(const struct sources *sources, const uint8_t *l3, uint32_t len) {
    static const uint8_t unspecified[16];
    const uint8_t *source = l3 + offsetof(struct rte_ipv6_hdr, src_addr);

    if (len < sizeof(struct rte_ipv6_hdr))
        return CV_DROP_RUNT;
    if (likely(own_ip6(sources, source)) || !any_address(sources))
        return PASS;
    /* Duplicate address detection, and the multicast report that goes with it (RFC 4862, 3590). */
    if (memcmp(source, unspecified, sizeof(unspecified)) == 0 &&
        (l3[6] == IPPROTO_ICMPV6 || l3[6] == IPPROTO_HOPOPTS))
        return PASS;
    return CV_DROP_SPOOF_IPV6;
}

enum cv_drop cv_spoof_check(const struct sources *sources, const struct rte_mbuf *packet) {
    const uint8_t *frame = rte_pktmbuf_mtod(packet, const uint8_t *);
    const uint8_t *l3 = frame + RTE_ETHER_HDR_LEN;
    uint32_t len = packet->data_len - RTE_ETHER_HDR_LEN;

    if (unlikely(cv_source(frame) != sources->mac))
        return CV_DROP_SPOOF_MAC;
    switch (cv_ethertype(frame)) {
    case RTE_ETHER_TYPE_IPV4:
        return check_ipv4(sources, l3, len);
    case RTE_ETHER_TYPE_IPV6:
        return check_ipv6(sources, l3, len);
    case RTE_ETHER_TYPE_ARP:
    case RTE_ETHER_TYPE_RARP:
        return check_arp(sources, l3, len);
    default:
        return PASS;
    }
}
