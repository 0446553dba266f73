/* SPDX-License-Identifier: Apache-2.0 */
#include "forward.h"

#include <rte_ether.h>

#include "packet.h"
#include "pools.h"

void cv_forward_tagged(struct burst *burst, struct port *out, uint16_t tci,
                       struct rte_mbuf *packet) {
    struct rte_mbuf *own = packet;

    if (rte_mbuf_refcnt_read(packet) > 1 || !RTE_MBUF_DIRECT(packet)) {
        own = rte_pktmbuf_copy(packet, cv_std_pool, 0, UINT32_MAX);
        rte_pktmbuf_free(packet);
    }
    if (own == NULL) {
        burst->lane->drops[CV_DROP_NO_MBUF]++;
        return;
    }
    own->vlan_tci = tci;
    if (rte_vlan_insert(&own) != 0)
        cv_drop(burst->lane, CV_DROP_NO_MBUF, own);
    else
        cv_transmit(burst->worker, out, own);
}

static bool is_for_routers(const struct rte_mbuf *packet) {
    return cv_mac_is_for_routers(cv_destination(rte_pktmbuf_mtod(packet, const uint8_t *)));
}

uint32_t cv_forward_group_ns(const struct network_view *network, const struct rte_mbuf *packet) {
    return is_for_routers(packet) ? network->routers_ns : network->members_ns;
}

void cv_forward_to_members(struct burst *burst, const struct network_view *network,
                           struct rte_mbuf *packet) {
    uint16_t n = is_for_routers(packet) ? network->n_routers : network->n_members;

    for (uint16_t i = 0; i < n; i++)
        if (network->members[i] != burst->in)
            cv_transmit(burst->worker, network->members[i], cv_share(packet));
}

bool cv_forward_make_shareable(struct burst *burst, struct rte_mbuf *packet) {
    if (packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
        cv_drop(burst->lane, CV_DROP_BAD_OFFLOAD, packet);
        return false;
    }
    if (packet->ol_flags & CV_UNFINISHED)
        cv_offload_finish_checksum(packet);
    return true;
}
