/* SPDX-License-Identifier: Apache-2.0 */
#include "spoof.h"

#include <errno.h>
#include <rte_arp.h>
#include <rte_udp.h>
#include <stdlib.h>

#include "guard.h"
#include "packet.h"
#include "sources.h"

#define PASS CV_DROP_COUNT
#define LLC_LENGTH_END 0x600 /* of what is a length in place of a type */
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

/* Only the sender goes into others' caches (RFC 826); the target counts where there is none. */
static bool is_own_arp(const struct sources *sources, const struct rte_arp_hdr *arp) {
    if (arp->arp_data.arp_sip != 0)
        return cv_owns_ip4(sources, arp->arp_data.arp_sip);
    if (arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REVREQUEST))
        return true;
    /* A probe: to have an address given up is to probe for it at the same time (RFC 5227, 2.1). */
    return arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REQUEST) &&
           cv_owns_ip4(sources, arp->arp_data.arp_tip);
}

static enum cv_drop check_arp(const struct sources *sources, const uint8_t *l3, uint32_t len) {
    struct rte_arp_hdr arp;

    if (len < sizeof(arp))
        return CV_DROP_RUNT;
    memcpy(&arp, l3, sizeof(arp));
    if (arp.arp_hardware != RTE_BE16(RTE_ARP_HRD_ETHER) ||
        arp.arp_protocol != RTE_BE16(RTE_ETHER_TYPE_IPV4) || arp.arp_hlen != RTE_ETHER_ADDR_LEN ||
        arp.arp_plen != sizeof(arp.arp_data.arp_sip) ||
        arp.arp_opcode == RTE_BE16(RTE_ARP_OP_REVREPLY))
        return CV_DROP_SPOOF_ARP;
    if (cv_mac(arp.arp_data.arp_sha.addr_bytes) != sources->mac)
        return CV_DROP_SPOOF_ARP;
    return !cv_has_addresses(sources) || is_own_arp(sources, &arp) ? PASS : CV_DROP_SPOOF_ARP;
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
    return udp.src_port == RTE_BE16(CV_DHCP_CLIENT_PORT) && udp.dst_port == DHCP_SERVER_PORT;
}

static enum cv_drop check_ipv4(const struct sources *sources, const uint8_t *l3, uint32_t len) {
    uint32_t source;

    if (len < sizeof(struct rte_ipv4_hdr))
        return CV_DROP_RUNT;
    memcpy(&source, l3 + offsetof(struct rte_ipv4_hdr, src_addr), sizeof(source));
    if (likely(cv_owns_ip4(sources, source)) || !cv_has_addresses(sources))
        return cv_guard_ipv4(l3, len);
    return source == 0 && is_dhcp_request(l3, len) ? PASS : CV_DROP_SPOOF_IPV4;
}

static enum cv_drop check_ipv6(const struct sources *sources, const uint8_t *l3, uint32_t len) {
    static const uint8_t unspecified[16];
    const uint8_t *source = l3 + offsetof(struct rte_ipv6_hdr, src_addr);
    bool is_unspecified;

    if (len < sizeof(struct rte_ipv6_hdr))
        return CV_DROP_RUNT;
    if (likely(cv_owns_ip6(sources, source)))
        return cv_guard_ipv6(sources, l3, len, false);
    is_unspecified = memcmp(source, unspecified, sizeof(unspecified)) == 0;
    if (!is_unspecified && cv_has_addresses(sources))
        return CV_DROP_SPOOF_IPV6;
    return cv_guard_ipv6(sources, l3, len, is_unspecified);
}

/*
 * LLC and SNAP as in IEEE 802.2 (RFC 1042, and 802.1H's tunnel of it): other systems, and what
 * bridges to other media, take it for the Ethernet frame of the type behind it.
 */
static bool is_ip_in_snap(const uint8_t *frame, uint32_t len) {
    static const uint8_t rfc1042[] = {0xaa, 0xaa, 0x03, 0, 0, 0};
    static const uint8_t tunnel[] = {0xaa, 0xaa, 0x03, 0, 0, 0xf8};
    const uint8_t *llc = frame + RTE_ETHER_HDR_LEN;

    return cv_ethertype(frame) < LLC_LENGTH_END && len >= RTE_ETHER_HDR_LEN + sizeof(rfc1042) &&
           (memcmp(llc, rfc1042, sizeof(rfc1042)) == 0 || memcmp(llc, tunnel, sizeof(tunnel)) == 0);
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
        return is_ip_in_snap(frame, packet->data_len) ? CV_DROP_HIDDEN : PASS;
    }
}
