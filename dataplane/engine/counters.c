/* SPDX-License-Identifier: Apache-2.0 */
/* Adding up what workers count, each in its own place; reading never disturbs them. */
#include <errno.h>
#include <rte_common.h>
#include <string.h>

#include "error.h"
#include "port.h"
#include "worker.h"

int cv_port_counters(int id, struct cv_port_counters *counters) {
    struct port *port = cv_port_get(id);

    if (port == NULL)
        return cv_fail(ENOENT, "there is no port %d", id);
    memset(counters, 0, sizeof(*counters));
    for (uint16_t q = 0; q < port->queues; q++) {
        counters->rx_packets += port->rx[q].packets;
        counters->rx_bytes += port->rx[q].bytes;
        counters->rx_gso_packets += port->rx[q].gso_packets;
        counters->egress_pauses += port->rx[q].pauses;
    }
    for (uint16_t w = 0; w < cv_n_workers; w++) {
        const struct lane *lane = port->lanes[w];

        counters->tx_gso_packets += lane->tx_gso_packets;
        counters->sw_gso_packets += lane->sw_gso_packets;
        counters->sw_csum_packets += lane->sw_csum_packets;
        counters->ingress_held_packets += lane->ingress_held_packets;
        for (int reason = 0; reason < CV_DROP_COUNT; reason++)
            counters->drops[reason] += lane->drops[reason];
        for (uint16_t q = 0; q < port->queues; q++) {
            counters->tx_packets += lane->tx[q].packets;
            counters->tx_bytes += lane->tx[q].bytes;
        }
    }
    if (port->ops->device_drops != NULL)
        port->ops->device_drops(port, counters->drops);
    return 0;
}

int cv_port_queue(int id, uint16_t queue, struct cv_queue_counters *counters) {
    const struct port *port = cv_port_get(id);
    uint16_t worker;

    if (port == NULL || queue >= port->queues)
        return cv_fail(ENOENT, "there is no queue %u of port %d", queue, id);
    memset(counters, 0, sizeof(*counters));
    counters->rx_packets = port->rx[queue].packets;
    counters->rx_bytes = port->rx[queue].bytes;
    worker = port->rx[queue].worker;
    counters->core = worker == CV_NO_WORKER ? -1 : cv_workers[worker].core;
    for (uint16_t w = 0; w < cv_n_workers; w++) {
        counters->tx_packets += port->lanes[w]->tx[queue].packets;
        counters->tx_bytes += port->lanes[w]->tx[queue].bytes;
    }
    return 0;
}

int cv_worker(uint16_t index, struct cv_worker_stats *stats) {
    if (index >= cv_n_workers)
        return cv_fail(ENOENT, "there are %u workers", cv_n_workers);
    *stats = cv_workers[index].stats;
    stats->tables = atomic_load(&cv_workers[index].generation);
    /* A frontend's kick carries no time. This wakes a worker in the same way, and is timed. */
    cv_worker_wake(&cv_workers[index]);
    return 0;
}
