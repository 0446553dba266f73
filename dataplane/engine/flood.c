/* SPDX-License-Identifier: Apache-2.0 */
#include "flood.h"

#include <rte_cycles.h>

#include "limit.h"
#include "port.h"
#include "worker.h"

/*
 * About 3 % of a worker's time; at once 50 ms of it, in which a container can ask for the addresses
 * of fifty others among 250.
 */
#define SHARE_DIVISOR 32
#define BURSTS_PER_S 20

/* What a copy is thought to cost until one has been made, and how much one measurement counts. */
#define COPIES_PER_S 1000000
#define SMOOTHING 8
#define RISE_MAX 4

#define BITS 8

/* A cycle is a byte to the limit. */
void cv_flood_begin(struct port *port) {
    uint64_t hz = rte_get_tsc_hz();

    cv_limit_set(&port->flood, BITS * hz / SHARE_DIVISOR, BITS * hz / BURSTS_PER_S);
    atomic_store(&port->flood.full_at, 0);
}

static uint64_t cycles_per_copy(const struct lane *lane) {
    return lane->cycles_per_copy > 0 ? lane->cycles_per_copy : rte_get_tsc_hz() / COPIES_PER_S;
}

bool cv_flood_admit(struct worker *worker, struct port *port, uint32_t copies) {
    struct lane *lane = port->lanes[worker->index];
    uint64_t now = rte_rdtsc();

    if (cv_limit_credit(&port->flood, now) <= 0)
        return false;
    cv_limit_charge(&port->flood, now, copies * cycles_per_copy(lane));
    if (worker->copies == 0)
        worker->copies_since = now;
    worker->copies += copies;
    return true;
}

void cv_flood_measure(struct worker *worker, struct port *port) {
    struct lane *lane = port->lanes[worker->index];
    uint64_t before = cycles_per_copy(lane);
    uint64_t found = (rte_rdtsc() - worker->copies_since) / worker->copies;

    /* A worker that was interrupted meanwhile must not cost the container its next frames. */
    found = RTE_MIN(found, RISE_MAX * before);
    lane->cycles_per_copy = RTE_MAX((before * (SMOOTHING - 1) + found) / SMOOTHING, 1ul);
    worker->copies = 0;
}
