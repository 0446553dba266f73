/* SPDX-License-Identifier: Apache-2.0 */
/* One burst's way through the network it came from. */
#include <rte_prefetch.h>

#include "fdb.h"
#include "offload.h"
#include "packet.h"
#include "pools.h"
#include "port.h"
#include "spoof.h"
#include "table.h"
#include "worker.h"

#define PREFETCH_AHEAD 4

/* Where the packets of one burst come from, and where the last one went. */
struct burst {
    struct worker *worker;
    struct port *in;
    struct lane *lane;
    uint64_t last_key;
    struct port *last_out;
};

/* Tags a packet for the uplink. A shared packet is copied first. NULL without buffers. */
static struct rte_mbuf *push_vlan(struct rte_mbuf *packet, uint16_t vlan) {
    struct rte_mbuf *own = packet;

    if (rte_mbuf_refcnt_read(packet) > 1 || !RTE_MBUF_DIRECT(packet)) {
        own = rte_pktmbuf_copy(packet, cv_std_pool, 0, UINT32_MAX);
        rte_pktmbuf_free(packet);
        if (own == NULL)
            return NULL;
    }
    own->vlan_tci = vlan;
    if (rte_vlan_insert(&own) != 0) {
        rte_pktmbuf_free(own);
        return NULL;
    }
    return own;
}

static void send_to(struct burst *burst, const struct network_view *network, struct port *out,
                    struct rte_mbuf *packet) {
    if (out == network->uplink && network->vlan != 0) {
        packet = push_vlan(packet, network->vlan);
        if (packet == NULL) {
            burst->lane->drops[CV_DROP_NO_MBUF]++;
            return;
        }
    }
    cv_transmit(burst->worker, out, packet);
}

/* Copies by reference to all but where it came from. */
static void flood(struct burst *burst, const struct network_view *network,
                  struct rte_mbuf *packet) {
    struct port *uplink = network->uplink == burst->in ? NULL : network->uplink;

    /* The copies share one header: nothing may be left for an egress to change in it. */
    if (packet->ol_flags & CV_UNFINISHED) {
        if (packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
            cv_drop(burst->lane, CV_DROP_BAD_OFFLOAD, packet);
            return;
        }
        cv_offload_finish_checksum(packet);
    }
    for (uint16_t i = 0; i < network->n_members; i++) {
        struct port *out = network->members[i];

        if (out == burst->in)
            continue;
        for (struct rte_mbuf *segment = packet; segment != NULL; segment = segment->next)
            rte_mbuf_refcnt_update(segment, 1);
        send_to(burst, network, out, packet);
    }
    if (uplink != NULL)
        send_to(burst, network, uplink, packet);
    else
        rte_pktmbuf_free(packet);
}

static struct port *look_up(struct burst *burst, uint64_t key) {
    if (key != burst->last_key) {
        burst->last_key = key;
        burst->last_out = cv_fdb_lookup(burst->worker->table->fdb, key);
    }
    return burst->last_out;
}

static void forward(struct burst *burst, uint16_t network_id, struct rte_mbuf *packet) {
    const struct network_view *network = &burst->worker->table->networks[network_id];
    uint64_t destination = cv_destination(rte_pktmbuf_mtod(packet, const uint8_t *));
    struct port *out;

    if (unlikely(cv_mac_is_group(destination))) {
        if (cv_mac_is_reserved(destination))
            cv_drop(burst->lane, CV_DROP_RESERVED, packet);
        else
            flood(burst, network, packet);
        return;
    }
    out = look_up(burst, cv_fdb_key(network_id, destination));
    if (out == NULL)
        out = network->uplink;
    if (unlikely(out == NULL || out == burst->in)) {
        cv_drop(burst->lane, CV_DROP_NO_DESTINATION, packet);
        return;
    }
    send_to(burst, network, out, packet);
}

/* Tags are the uplink's affair: a member that sends them could reach other networks there. */
static bool is_tagged(const struct rte_mbuf *packet) {
    uint16_t type = cv_ethertype(rte_pktmbuf_mtod(packet, const uint8_t *));

    return type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ ||
           type == RTE_ETHER_TYPE_QINQ1;
}

static void switch_from_member(struct burst *burst, struct rte_mbuf *packet) {
    if (unlikely(is_tagged(packet))) {
        cv_drop(burst->lane, CV_DROP_VLAN, packet);
        return;
    }
    if (burst->in->spoof_check) {
        enum cv_drop reason = cv_spoof_check(&burst->in->sources, packet);

        if (unlikely(reason != CV_DROP_COUNT)) {
            cv_drop(burst->lane, reason, packet);
            return;
        }
    }
    forward(burst, burst->in->network, packet);
}

/* The tag's VLAN, which some drivers have taken off already; 0 without one, or for priority only.
 */
static uint16_t take_vlan(struct rte_mbuf *packet) {
    if (packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
        return packet->vlan_tci & RTE_VLAN_ID_MASK;
    if (cv_ethertype(rte_pktmbuf_mtod(packet, const uint8_t *)) == RTE_ETHER_TYPE_VLAN &&
        packet->data_len >= RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN && rte_vlan_strip(packet) == 0) {
        if (packet->ol_flags & CV_UNFINISHED)
            packet->l2_len -= RTE_VLAN_HLEN;
        return packet->vlan_tci & RTE_VLAN_ID_MASK;
    }
    return 0;
}

static void switch_from_uplink(struct burst *burst, struct rte_mbuf *packet) {
    const struct table *table = burst->worker->table;
    uint16_t vlan = take_vlan(packet), network_id;
    uint64_t source;

    network_id = atomic_load_explicit(&burst->in->vlans[vlan], memory_order_relaxed);
    if (unlikely(network_id == CV_NO_NETWORK)) {
        cv_drop(burst->lane, CV_DROP_VLAN, packet);
        return;
    }
    source = cv_source(rte_pktmbuf_mtod(packet, const uint8_t *));
    if (likely(!cv_mac_is_group(source)) &&
        cv_fdb_lookup(table->fdb, cv_fdb_key(network_id, source)) == NULL)
        cv_learn(table->networks[network_id].learned, source, burst->in->id, burst->worker->now_s);
    forward(burst, network_id, packet);
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
        else if (in->role == CV_ROLE_UPLINK)
            switch_from_uplink(&burst, packet);
        else
            switch_from_member(&burst, packet);
    }
}
