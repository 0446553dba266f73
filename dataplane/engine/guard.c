/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include "packet.h"
#include "sources.h"

#define PASS CV_DROP_COUNT
#define UPPER_HEADER_BYTES 8 /* of UDP and ICMP, and the least that a first fragment carries */
#define EXTENSION_BYTES_MIN 8
#define IPPROTO_HIP 139   /* RFC 7401 */
#define IPPROTO_SHIM6 140 /* RFC 5533 */

#define ICMP_REDIRECT 5
#define ICMP_ROUTER_ADVERTISEMENT 9
#define ICMPV6_MLD_REPORT 131
#define ICMPV6_MLD_DONE 132
#define ICMPV6_ROUTER_SOLICITATION 133
#define ICMPV6_ROUTER_ADVERTISEMENT 134
#define ICMPV6_NEIGHBOUR_SOLICITATION 135
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136
#define ICMPV6_REDIRECT 137
#define ICMPV6_MLDV2_REPORT 143

/* Of neighbour discovery (RFC 4861, 4). */
#define ROUTER_SOLICITATION_BYTES 8
#define NEIGHBOUR_BYTES 24 /* with the target, from byte 8 */
#define TARGET_AT 8
#define OPTION_SOURCE_LINK_LAYER 1
#define OPTION_TARGET_LINK_LAYER 2
#define OPTION_UNIT_BYTES 8

/* What an IPv6 packet carries behind its extension headers. */
struct upper {
    const uint8_t *header;
    uint32_t n; /* bytes that are there */
    uint8_t proto;
    bool is_whole; /* no fragment, and all of it in the buffer looked at */
};

static uint16_t read_16(const uint8_t *bytes) {
    return bytes[0] << 8 | bytes[1];
}

static enum cv_drop check_udp(const uint8_t *header, uint16_t client_port) {
    return read_16(header + 2) == client_port ? CV_DROP_ROGUE_DHCP : PASS;
}

enum cv_drop cv_guard_ipv4_any(const uint8_t *l3, uint32_t len) {
    uint32_t at = (l3[0] & RTE_IPV4_HDR_IHL_MASK) * RTE_IPV4_IHL_MULTIPLIER;
    uint8_t proto = l3[offsetof(struct rte_ipv4_hdr, next_proto_id)];

    if (proto != IPPROTO_UDP && proto != IPPROTO_ICMP)
        return PASS;
    if (read_16(l3 + offsetof(struct rte_ipv4_hdr, fragment_offset)) & RTE_IPV4_HDR_OFFSET_MASK)
        return PASS;
    if (unlikely(at < sizeof(struct rte_ipv4_hdr) || len < at + UPPER_HEADER_BYTES))
        return CV_DROP_HIDDEN;
    if (likely(proto == IPPROTO_UDP))
        return check_udp(l3 + at, CV_DHCP_CLIENT_PORT);
    if (l3[at] == ICMP_REDIRECT)
        return CV_DROP_ROGUE_REDIRECT;
    return l3[at] == ICMP_ROUTER_ADVERTISEMENT ? CV_DROP_ROGUE_RA : PASS;
}

/* RFC 7045, 4; what comes behind ESP is encrypted. */
static bool is_extension(uint8_t type) {
    switch (type) {
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_FRAGMENT:
    case IPPROTO_AH:
    case IPPROTO_DSTOPTS:
    case IPPROTO_MH:
    case IPPROTO_HIP:
    case IPPROTO_SHIM6:
        return true;
    default:
        return false;
    }
}

static uint32_t extension_bytes(uint8_t type, const uint8_t *header) {
    if (type == IPPROTO_FRAGMENT)
        return EXTENSION_BYTES_MIN;
    return EXTENSION_BYTES_MIN + (type == IPPROTO_AH ? 4 : 8) * header[1];
}

/*
 * Goes along the extension headers. A fragment that is not the first has no upper layer:
 * IPPROTO_NONE. Returns false where the chain is longer than what is there, or than anybody needs:
 * RFC 7112 wants all of it in the first fragment, RFC 7113 wants the others dropped.
 */
static bool find_upper(const uint8_t *l3, uint32_t len, struct upper *upper) {
    uint32_t at = sizeof(struct rte_ipv6_hdr);
    uint32_t end = at + read_16(l3 + offsetof(struct rte_ipv6_hdr, payload_len));
    uint8_t type = l3[offsetof(struct rte_ipv6_hdr, proto)];
    bool is_whole = end <= len;

    len = RTE_MIN(len, end);
    for (int i = 0; i <= CV_IPV6_EXTENSIONS_MAX; i++) {
        const uint8_t *header = l3 + at;

        if (!is_extension(type)) {
            *upper = (struct upper){header, len - at, type, is_whole};
            return true;
        }
        if (len < at + EXTENSION_BYTES_MIN)
            return false;
        if (type == IPPROTO_FRAGMENT) {
            is_whole = false;
            if (read_16(header + 2) & RTE_IPV6_EHDR_FO_MASK) {
                *upper = (struct upper){.proto = IPPROTO_NONE};
                return true;
            }
        }
        at += extension_bytes(type, header);
        type = header[0];
        if (len < at)
            return false;
    }
    return false;
}

/* All link-layer addresses among the options must be the container's own. */
static bool has_own_options(const struct sources *sources, const uint8_t *options, uint32_t n) {
    while (n >= OPTION_UNIT_BYTES) {
        uint8_t type = options[0], units = options[1];
        bool is_address = type == OPTION_SOURCE_LINK_LAYER || type == OPTION_TARGET_LINK_LAYER;

        if (units == 0 || units * OPTION_UNIT_BYTES > n)
            return false;
        if (is_address && (units != 1 || cv_mac(options + 2) != sources->mac))
            return false;
        options += units * OPTION_UNIT_BYTES;
        n -= units * OPTION_UNIT_BYTES;
    }
    return n == 0;
}

/* Receivers ignore it in fragments (RFC 6980); here it could not be seen as a whole. */
static enum cv_drop check_neighbour(const struct sources *sources, const struct upper *upper,
                                    uint32_t bytes, bool must_own_target) {
    if (upper->n < bytes || !upper->is_whole)
        return CV_DROP_HIDDEN;
    if (must_own_target && cv_has_addresses(sources) &&
        !cv_owns_ip6(sources, upper->header + TARGET_AT))
        return CV_DROP_SPOOF_ND;
    return has_own_options(sources, upper->header + bytes, upper->n - bytes) ? PASS
                                                                             : CV_DROP_SPOOF_ND;
}

static enum cv_drop check_icmpv6(const struct sources *sources, const struct upper *upper,
                                 bool is_unspecified) {
    switch (upper->header[0]) {
    case ICMPV6_ROUTER_ADVERTISEMENT:
        return CV_DROP_ROGUE_RA;
    case ICMPV6_REDIRECT:
        return CV_DROP_ROGUE_REDIRECT;
    case ICMPV6_ROUTER_SOLICITATION:
        return check_neighbour(sources, upper, ROUTER_SOLICITATION_BYTES, false);
    case ICMPV6_NEIGHBOUR_SOLICITATION: /* from no address: is the target taken? (RFC 4862) */
        return check_neighbour(sources, upper, NEIGHBOUR_BYTES, is_unspecified);
    case ICMPV6_NEIGHBOUR_ADVERTISEMENT:
        return is_unspecified ? CV_DROP_SPOOF_IPV6
                              : check_neighbour(sources, upper, NEIGHBOUR_BYTES, true);
    case ICMPV6_MLD_REPORT: /* what goes with duplicate address detection (RFC 3590) */
    case ICMPV6_MLD_DONE:
    case ICMPV6_MLDV2_REPORT:
        return PASS;
    default:
        return is_unspecified ? CV_DROP_SPOOF_IPV6 : PASS;
    }
}

enum cv_drop cv_guard_ipv6_any(const struct sources *sources, const uint8_t *l3, uint32_t len,
                               bool is_unspecified) {
    struct upper upper;

    if (!find_upper(l3, len, &upper))
        return CV_DROP_HIDDEN;
    if (is_unspecified && upper.proto != IPPROTO_ICMPV6)
        return CV_DROP_SPOOF_IPV6;
    if (upper.proto != IPPROTO_UDP && upper.proto != IPPROTO_ICMPV6)
        return PASS;
    if (upper.n < UPPER_HEADER_BYTES)
        return CV_DROP_HIDDEN;
    if (upper.proto == IPPROTO_UDP)
        return check_udp(upper.header, CV_DHCPV6_CLIENT_PORT);
    return check_icmpv6(sources, &upper, is_unspecified);
}
