/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container may not say, even under its own address: what routers and DHCP servers say, and
 * neighbour discovery about others.
 */
#ifndef CV_GUARD_H
#define CV_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "packet.h"
#include "port.h"

/* To the port alone: clients take an answer whatever port it comes from. */
#define CV_DHCP_CLIENT_PORT 68
#define CV_DHCPV6_CLIENT_PORT 546

/* guard.c: those of the packets that are not plain TCP or UDP. */
enum cv_drop cv_guard_ipv4_any(const uint8_t *l3, uint32_t len);
enum cv_drop cv_guard_ipv6_any(const struct sources *sources, const uint8_t *l3, uint32_t len,
                               bool is_unspecified);

/* Is there at l4 the header of a datagram, or of a segment, and not to this port? */
static inline bool cv_is_plain(uint8_t proto, const uint8_t *l4, uint16_t client_port) {
    uint16_t port;

    memcpy(&port, l4 + 2, sizeof(port));
    return (proto == IPPROTO_TCP || proto == IPPROTO_UDP) && port != rte_cpu_to_be_16(client_port);
}

/* Looks beyond an IPv4 header of which 20 bytes are there. CV_DROP_COUNT if the packet may pass. */
static inline enum cv_drop cv_guard_ipv4(const uint8_t *l3, uint32_t len) {
    const uint8_t *l4 = l3 + sizeof(struct rte_ipv4_hdr);

    if (likely(len >= sizeof(struct rte_ipv4_hdr) + 4 && l3[0] == RTE_IPV4_VHL_DEF &&
               cv_is_plain(l3[9], l4, CV_DHCP_CLIENT_PORT)))
        return CV_DROP_COUNT;
    return cv_guard_ipv4_any(l3, len);
}

/*
 * The same for an IPv6 header of which 40 bytes are there. An unspecified source is for asking
 * only: whether an address is taken, for routers, and to be sent the multicasts that go with it.
 */
static inline enum cv_drop cv_guard_ipv6(const struct sources *sources, const uint8_t *l3,
                                         uint32_t len, bool is_unspecified) {
    const uint8_t *l4 = l3 + sizeof(struct rte_ipv6_hdr);

    if (likely(len >= sizeof(struct rte_ipv6_hdr) + 4 && !is_unspecified &&
               cv_is_plain(l3[6], l4, CV_DHCPV6_CLIENT_PORT)))
        return CV_DROP_COUNT;
    return cv_guard_ipv6_any(sources, l3, len, is_unspecified);
}

#endif
