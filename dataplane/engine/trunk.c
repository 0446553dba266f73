/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a packet from an uplink, or from its twin in the host's kernel. Both are trunks: they
 * carry every VLAN, of which some are networks. What a NIC would give to its host goes from the one
 * to the other, tag and all.
 */
#include <rte_ether.h>

#include "fdb.h"
#include "forward.h"
#include "packet.h"
#include "port.h"
#include "table.h"

#define UNTAGGED (-1)

/* Takes the tag off, which some drivers have done already. Returns its TCI, or UNTAGGED. */
static int32_t take_tag(struct rte_mbuf *packet) {
    if (packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) {
        packet->ol_flags &= ~(RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED);
        return packet->vlan_tci;
    }
    if (cv_ethertype(rte_pktmbuf_mtod(packet, const uint8_t *)) != RTE_ETHER_TYPE_VLAN ||
        packet->data_len < RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN || rte_vlan_strip(packet) != 0)
        return UNTAGGED;
    if (packet->ol_flags & CV_UNFINISHED)
        packet->l2_len -= RTE_VLAN_HLEN;
    packet->ol_flags &= ~(RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED);
    return packet->vlan_tci;
}

static void send_to_peer(struct burst *burst, struct port *peer, int32_t tci,
                         struct rte_mbuf *packet) {
    if (tci == UNTAGGED)
        cv_transmit(burst->worker, peer, packet);
    else
        cv_forward_tagged(burst, peer, tci, packet);
}

static void send_group(struct burst *burst, struct port *peer, int32_t tci,
                       const struct network_view *network, struct rte_mbuf *packet) {
    uint64_t destination = cv_destination(rte_pktmbuf_mtod(packet, const uint8_t *));
    bool reserved = cv_mac_is_reserved(destination);

    if (peer == NULL && (network == NULL || reserved)) {
        cv_drop(burst->lane, reserved ? CV_DROP_RESERVED : CV_DROP_VLAN, packet);
        return;
    }
    if (!cv_forward_make_shareable(burst, packet))
        return;
    if (network != NULL && !reserved)
        cv_forward_to_members(burst, network, packet);
    if (peer != NULL)
        send_to_peer(burst, peer, tci, packet);
    else
        rte_pktmbuf_free(packet);
}

/* To whom a packet for one station goes, or NULL. */
static struct port *find_station(struct burst *burst, struct port *peer, uint16_t network_id,
                                 uint64_t destination) {
    bool from_wire = burst->in->role == CV_ROLE_UPLINK;
    struct port *out = NULL;

    if (from_wire && destination == burst->in->mac)
        return peer;
    if (network_id != CV_NO_NETWORK)
        out = cv_look_up(burst, cv_fdb_key(network_id, destination));
    /* Even what has the twin's own address: it is what the host sends. */
    return !from_wire && (out == NULL || out == burst->in) ? peer : out;
}

static void learn(struct burst *burst, uint16_t network_id, const struct rte_mbuf *packet) {
    const struct table *table = burst->worker->table;
    uint64_t source = cv_source(rte_pktmbuf_mtod(packet, const uint8_t *));

    if (burst->in->role == CV_ROLE_UPLINK && !cv_mac_is_group(source) &&
        cv_fdb_lookup(table->fdb, cv_fdb_key(network_id, source)) == NULL)
        cv_learn(table->networks[network_id].learned, source, burst->in->id, burst->worker->now_s);
}

void cv_switch_from_trunk(struct burst *burst, struct rte_mbuf *packet) {
    struct port *peer = atomic_load_explicit(&burst->in->peer, memory_order_relaxed), *out;
    uint64_t destination = cv_destination(rte_pktmbuf_mtod(packet, const uint8_t *));
    int32_t tci = take_tag(packet);
    uint16_t vlan = tci == UNTAGGED ? 0 : tci & RTE_VLAN_ID_MASK;
    uint16_t network_id = atomic_load_explicit(&burst->in->vlans[vlan], memory_order_relaxed);
    const struct network_view *network = NULL;

    if (network_id != CV_NO_NETWORK) {
        network = &burst->worker->table->networks[network_id];
        learn(burst, network_id, packet);
    }
    if (cv_mac_is_group(destination)) {
        send_group(burst, peer, tci, network, packet);
        return;
    }
    out = find_station(burst, peer, network_id, destination);
    if (out == NULL)
        cv_drop(burst->lane, network == NULL ? CV_DROP_VLAN : CV_DROP_NO_DESTINATION, packet);
    else if (out == peer)
        send_to_peer(burst, peer, tci, packet);
    else
        cv_transmit(burst->worker, out, packet);
}
