/* SPDX-License-Identifier: Apache-2.0 */
/* Is an address one that the container may send from? */
#ifndef CV_SOURCES_H
#define CV_SOURCES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "port.h"

/* Without any (no IPAM) nobody knows the container's addresses. */
static inline bool cv_has_addresses(const struct sources *sources) {
    return sources->n_ip6 > 0;
}

/* ip in network order. */
static inline bool cv_owns_ip4(const struct sources *sources, uint32_t ip) {
    for (uint16_t i = 0; i < sources->n_ip4; i++)
        if (sources->ip4[i] == ip)
            return true;
    return false;
}

static inline bool cv_owns_ip6(const struct sources *sources, const uint8_t *ip) {
    for (uint16_t i = 0; i < sources->n_ip6; i++)
        if (memcmp(sources->ip6[i], ip, sizeof(sources->ip6[i])) == 0)
            return true;
    return false;
}

#endif
