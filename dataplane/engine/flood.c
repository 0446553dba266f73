/* SPDX-License-Identifier: Apache-2.0 */
#include "flood.h"

#include <rte_cycles.h>

#include "limit.h"
#include "port.h"

/*
 * About 3 % of a worker's time; at once 50 ms of it, in which a container can ask for the addresses
 * of eighty others among 250.
 */
#define SHARE_DIVISOR 32
#define BURSTS_PER_S 20

#define BITS 8
#define NS_PER_S 1000000000

/* A nanosecond is a byte to the limit. */
void cv_flood_begin(struct port *port) {
    cv_limit_set(&port->flood, (uint64_t)BITS * NS_PER_S / SHARE_DIVISOR,
                 (uint64_t)BITS * NS_PER_S / BURSTS_PER_S);
    atomic_store(&port->flood.full_at, 0);
}

bool cv_flood_admit(struct port *port, uint32_t ns) {
    uint64_t now = rte_rdtsc();

    if (cv_limit_credit(&port->flood, now) <= 0)
        return false;
    cv_limit_charge(&port->flood, now, ns);
    return true;
}
