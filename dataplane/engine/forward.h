/* SPDX-License-Identifier: Apache-2.0 */
/* What the ways of members (switch.c) and of trunks (trunk.c) have in common. */
#ifndef CV_FORWARD_H
#define CV_FORWARD_H

#include "fdb.h"
#include "offload.h"
#include "port.h"
#include "table.h"
#include "worker.h"

/* Where the packets of one burst come from, and where the last one went. */
struct burst {
    struct worker *worker;
    struct port *in;
    struct lane *lane;
    uint64_t last_key;
    struct port *last_out;
};

/* Sends a packet with a tag in front. A shared packet is copied first. */
void cv_forward_tagged(struct burst *burst, struct port *out, uint16_t tci,
                       struct rte_mbuf *packet);

/*
 * Sends by reference to all members of a network but the one it came from; what is addressed to
 * routers, to those that may be one (RFC 4541, 2.1.1: reports go where routers are).
 */
void cv_forward_to_members(struct burst *burst, const struct network_view *network,
                           struct rte_mbuf *packet);

/* What cv_forward_to_members costs a worker, about. */
uint32_t cv_forward_group_ns(const struct network_view *network, const struct rte_mbuf *packet);

/*
 * Makes a packet fit to be sent by reference to many: nothing may be left for an egress to change
 * in the one header. Returns false, and has dropped the packet, where that is not possible.
 */
bool cv_forward_make_shareable(struct burst *burst, struct rte_mbuf *packet);

/* trunk.c: a packet from an uplink or its twin. */
void cv_switch_from_trunk(struct burst *burst, struct rte_mbuf *packet);

/* Takes one more reference to every segment. */
static inline struct rte_mbuf *cv_share(struct rte_mbuf *packet) {
    for (struct rte_mbuf *segment = packet; segment != NULL; segment = segment->next)
        rte_mbuf_refcnt_update(segment, 1);
    return packet;
}

/* The port of an address; the answer for the packet before is remembered. */
static inline struct port *cv_look_up(struct burst *burst, uint64_t key) {
    if (key != burst->last_key) {
        burst->last_key = key;
        burst->last_out = cv_fdb_lookup(burst->worker->table->fdb, key);
    }
    return burst->last_out;
}

#endif
