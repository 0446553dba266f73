/* SPDX-License-Identifier: Apache-2.0 */
/* One burst's way through the network it came from. */
#include <rte_prefetch.h>

#include "flood.h"
#include "forward.h"
#include "packet.h"
#include "spoof.h"

#define PREFETCH_AHEAD 4

/* Uplink and twin take a network's packets with its tag. */
static void send_to_trunk(struct burst *burst, const struct network_view *network,
                          struct port *trunk, struct rte_mbuf *packet) {
    if (network->vlan != 0)
        cv_forward_tagged(burst, trunk, network->vlan, packet);
    else
        cv_transmit(burst->worker, trunk, packet);
}

static void send_group(struct burst *burst, const struct network_view *network,
                       struct rte_mbuf *packet) {
    if (!cv_forward_make_shareable(burst, packet))
        return;
    if (burst->in->role == CV_ROLE_CONTAINER &&
        !cv_flood_admit(burst->in, cv_forward_group_ns(network, packet))) {
        cv_drop(burst->lane, CV_DROP_FLOOD, packet);
        return;
    }
    cv_forward_to_members(burst, network, packet);
    if (network->twin != NULL)
        send_to_trunk(burst, network, network->twin, cv_share(packet));
    if (network->uplink != NULL)
        send_to_trunk(burst, network, network->uplink, packet);
    else
        rte_pktmbuf_free(packet);
}

static void forward(struct burst *burst, struct rte_mbuf *packet) {
    uint16_t network_id = burst->in->network;
    const struct network_view *network = &burst->worker->table->networks[network_id];
    uint64_t destination = cv_destination(rte_pktmbuf_mtod(packet, const uint8_t *));
    struct port *out;

    if (unlikely(cv_mac_is_group(destination))) {
        if (cv_mac_is_reserved(destination))
            cv_drop(burst->lane, CV_DROP_RESERVED, packet);
        else
            send_group(burst, network, packet);
        return;
    }
    out = cv_look_up(burst, cv_fdb_key(network_id, destination));
    if (out == NULL)
        out = network->uplink;
    if (unlikely(out == NULL || out == burst->in))
        cv_drop(burst->lane, CV_DROP_NO_DESTINATION, packet);
    else if (out == network->uplink || out == network->twin)
        send_to_trunk(burst, network, out, packet);
    else
        cv_transmit(burst->worker, out, packet);
}

/* Tags are the trunks' affair: a member that sends them could reach other networks there. */
static bool is_tagged(const struct rte_mbuf *packet) {
    uint16_t type = cv_ethertype(rte_pktmbuf_mtod(packet, const uint8_t *));

    if (likely(type < RTE_ETHER_TYPE_VLAN))
        return false;
    return type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ ||
           type == RTE_ETHER_TYPE_QINQ1;
}

static void switch_from_member(struct burst *burst, struct rte_mbuf *packet) {
    enum cv_drop reason = CV_DROP_COUNT;

    if (unlikely(is_tagged(packet)))
        reason = CV_DROP_VLAN;
    else if (burst->in->spoof_check)
        reason = cv_spoof_check(&burst->in->sources, packet);
    if (likely(reason == CV_DROP_COUNT))
        forward(burst, packet);
    else
        cv_drop(burst->lane, reason, packet);
}

void cv_switch(struct worker *worker, struct port *in, struct rte_mbuf **packets, uint16_t n) {
    struct burst burst = {.worker = worker, .in = in, .lane = in->lanes[worker->index]};

    for (uint16_t i = 0; i < n && i < PREFETCH_AHEAD; i++)
        rte_prefetch0(rte_pktmbuf_mtod(packets[i], void *));
    for (uint16_t i = 0; i < n; i++) {
        struct rte_mbuf *packet = packets[i];

        if (i + PREFETCH_AHEAD < n)
            rte_prefetch0(rte_pktmbuf_mtod(packets[i + PREFETCH_AHEAD], void *));
        if (unlikely(packet->data_len < RTE_ETHER_HDR_LEN))
            cv_drop(burst.lane, CV_DROP_RUNT, packet);
        else if (unlikely(cv_offload_pending(packet) && !cv_offload_normalize(packet)))
            cv_drop(burst.lane, CV_DROP_BAD_OFFLOAD, packet);
        else if (cv_is_trunk(in))
            cv_switch_from_trunk(&burst, packet);
        else
            switch_from_member(&burst, packet);
    }
}
