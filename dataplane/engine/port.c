/* SPDX-License-Identifier: Apache-2.0 */
/* Ports: how they come, go and are counted. */
#include "port.h"

#include <errno.h>
#include <rte_malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "flood.h"
#include "packet.h"
#include "publisher.h"
#include "registry.h"
#include "shape.h"
#include "spoof.h"
#include "table.h"
#include "worker.h"

#define VLANS 4096

struct port *cv_ports[CV_MAX_PORTS];

struct port *cv_port_get(int id) {
    return id >= 0 && id < CV_MAX_PORTS ? cv_ports[id] : NULL;
}

void cv_port_set_ready(struct port *port, uint16_t n_rx, uint16_t n_tx) {
    bool known = false;

    pthread_mutex_lock(&cv_registry_lock);
    if (atomic_load(&port->n_rx) != n_rx || atomic_load(&port->n_tx) != n_tx) {
        atomic_store(&port->n_rx, n_rx);
        atomic_store(&port->n_tx, n_tx);
        atomic_store(&port->ready, n_rx > 0 && n_tx > 0);
        atomic_fetch_add(&port->service, 1);
        known = cv_ports[port->id] == port;
    }
    pthread_mutex_unlock(&cv_registry_lock);
    if (known)
        cv_publish_soon();
}

static const struct port_ops *ops_of(enum cv_kind kind) {
    switch (kind) {
    case CV_KIND_ETHDEV:
        return &cv_ethdev_ops;
    case CV_KIND_VHOST:
        return &cv_vhost_ops;
    case CV_KIND_TAP:
        return &cv_tap_ops;
    }
    return NULL;
}

static int check_member(const struct cv_port_conf *conf) {
    if (conf->network < 0 || conf->network >= CV_MAX_NETWORKS || cv_networks[conf->network] == NULL)
        return cv_fail(ENOENT, "%s: its network is not there", conf->name);
    if (conf->mtu > cv_networks[conf->network]->mtu)
        return cv_fail(ERANGE, "%s: MTU %u is over the %u of network %s", conf->name, conf->mtu,
                       cv_networks[conf->network]->mtu, cv_networks[conf->network]->name);
    for (int i = 0; i < CV_MAX_PORTS; i++) {
        const struct port *other = cv_ports[i];

        if (other != NULL && !cv_is_trunk(other) && other->network == conf->network &&
            other->mac == cv_mac(conf->mac))
            return cv_fail(EEXIST, "%s: %s has the same MAC address in network %s", conf->name,
                           other->name, cv_networks[conf->network]->name);
    }
    return 0;
}

static int check_twin(const struct cv_port_conf *conf) {
    const struct port *uplink = cv_port_get(conf->uplink);
    const struct port *twin;

    if (uplink == NULL || uplink->role != CV_ROLE_UPLINK)
        return cv_fail(ENOENT, "%s: its uplink is not there", conf->name);
    twin = atomic_load(&uplink->peer);
    if (twin != NULL)
        return cv_fail(EEXIST, "%s: %s has the twin %s already", conf->name, uplink->name,
                       twin->name);
    return 0;
}

static int check(const struct cv_port_conf *conf) {
    if (conf->queues == 0 || conf->queues > CV_MAX_QUEUES)
        return cv_fail(ERANGE, "%s: %u queues; 1 to %d are possible", conf->name, conf->queues,
                       CV_MAX_QUEUES);
    if (conf->role == CV_ROLE_UPLINK)
        return 0;
    if (!conf->has_mac || cv_mac_is_group(cv_mac(conf->mac)) || cv_mac(conf->mac) == 0)
        return cv_fail(EINVAL, "%s: a unicast MAC address is needed", conf->name);
    return conf->role == CV_ROLE_EXCEPTION ? check_twin(conf) : check_member(conf);
}

static int free_slot(void) {
    for (int i = 0; i < CV_MAX_PORTS; i++)
        if (cv_ports[i] == NULL)
            return i;
    return -1;
}

static void set_slot(int id, struct port *port) {
    pthread_mutex_lock(&cv_registry_lock);
    cv_ports[id] = port;
    pthread_mutex_unlock(&cv_registry_lock);
}

/* So that the next table is without it; it may be put back. */
static void take_out(struct port *port) {
    if (port->role == CV_ROLE_EXCEPTION)
        atomic_store(&atomic_load(&port->peer)->peer, NULL);
    set_slot(port->id, NULL);
    atomic_store(&port->is_going, true);
}

static void put_back(struct port *port) {
    atomic_store(&port->is_going, false);
    set_slot(port->id, port);
    if (port->role == CV_ROLE_EXCEPTION)
        atomic_store(&atomic_load(&port->peer)->peer, port);
    cv_publish_soon(); /* a table may have been without it meanwhile */
}

static void free_port(struct port *port) {
    for (size_t i = 0; i < RTE_DIM(port->lanes); i++)
        rte_free(port->lanes[i]);
    rte_free(port->rx);
    if (port->role == CV_ROLE_UPLINK)
        free((void *)port->vlans);
    cv_shape_free(port);
    cv_sources_free(&port->sources);
    rte_free(port);
}

static bool allocate_lanes(struct port *port) {
    size_t bytes = sizeof(struct lane) + port->queues * sizeof(struct tx_queue);

    for (int i = 0; i < cv_n_workers; i++) {
        port->lanes[i] = rte_zmalloc("lane", bytes, RTE_CACHE_LINE_SIZE);
        if (port->lanes[i] == NULL)
            return false;
        for (uint16_t q = 0; q < port->queues; q++) {
            port->lanes[i]->tx[q].port = port;
            port->lanes[i]->tx[q].queue = q;
        }
    }
    return true;
}

static bool allocate_vlans(struct port *port) {
    port->vlans = malloc(VLANS * sizeof(*port->vlans));
    if (port->vlans == NULL)
        return false;
    for (int i = 0; i < VLANS; i++)
        atomic_init(&port->vlans[i], CV_NO_NETWORK);
    return true;
}

static int set_limits(struct port *port, const struct cv_limits *limits) {
    bool any = limits->ingress_bits_s > 0 || limits->egress_bits_s > 0;
    int ret;

    if (any && port->role != CV_ROLE_CONTAINER)
        return cv_fail(EINVAL, "%s: only containers' ports have rate limits", port->name);
    ret = cv_shape_set(port, limits->ingress_bits_s, limits->ingress_burst_bits);
    if (ret < 0)
        return ret;
    cv_limit_set(&port->egress, limits->egress_bits_s, limits->egress_burst_bits);
    atomic_store(&port->has_egress_limit, limits->egress_bits_s > 0);
    return 0;
}

static struct port *new_port(const struct cv_port_conf *conf, uint16_t id) {
    struct port *port = rte_zmalloc("port", sizeof(*port), RTE_CACHE_LINE_SIZE);

    if (port == NULL)
        return NULL;
    snprintf(port->name, sizeof(port->name), "%s", conf->name);
    port->id = id;
    port->ops = ops_of(conf->kind);
    port->role = conf->role;
    port->queues = conf->queues;
    port->mtu = conf->mtu;
    port->mac = conf->has_mac ? cv_mac(conf->mac) : 0;
    port->network = conf->network >= 0 ? conf->network : CV_NO_NETWORK;
    port->spoof_check = conf->spoof_check;
    port->tx_by_worker = conf->role == CV_ROLE_UPLINK;
    port->max_frame_bytes = conf->mtu + RTE_ETHER_HDR_LEN;
    if (cv_is_trunk(port))
        port->max_frame_bytes += RTE_VLAN_HLEN;
    if (conf->role == CV_ROLE_EXCEPTION) {
        atomic_store(&port->peer, cv_port_get(conf->uplink));
        port->vlans = cv_port_get(conf->uplink)->vlans;
    }
    port->rx = rte_zmalloc("rx", port->queues * sizeof(*port->rx), RTE_CACHE_LINE_SIZE);
    if (port->rx == NULL || !allocate_lanes(port) ||
        cv_sources_init(&port->sources, port->mac, conf->ips, conf->n_ips) < 0 ||
        (conf->role == CV_ROLE_UPLINK && !allocate_vlans(port))) {
        free_port(port);
        return NULL;
    }
    for (uint16_t q = 0; q < port->queues; q++)
        port->rx[q].worker = port->rx[q].home = CV_NO_WORKER;
    return port;
}

/* Of a port that no table has. */
static void undo_open(struct port *port) {
    if (port->role == CV_ROLE_EXCEPTION) {
        atomic_store(&atomic_load(&port->peer)->peer, NULL);
        cv_workers_quiesce(); /* they may know it by its uplink */
    }
    if (port->ops->give_back != NULL)
        port->ops->give_back(port);
    port->ops->close(port);
    free_port(port);
}

int cv_port_add(const struct cv_port_conf *conf) {
    struct port *port;
    int id = free_slot(), ret = check(conf);

    if (ret < 0)
        return ret;
    if (id < 0)
        return cv_fail(ENOSPC, "%s: there are %d ports already", conf->name, CV_MAX_PORTS);
    port = new_port(conf, id);
    if (port == NULL)
        return cv_fail(ENOMEM, "%s: out of memory for a port of %u queues; raise memory",
                       conf->name, conf->queues);
    cv_flood_begin(port);
    ret = set_limits(port, &conf->limits);
    if (ret == 0)
        ret = port->ops->open(port, conf);
    if (ret < 0) {
        free_port(port);
        return ret;
    }
    if (port->role == CV_ROLE_EXCEPTION)
        atomic_store(&atomic_load(&port->peer)->peer, port);
    ret = cv_table_publish_added(port);
    if (ret < 0) {
        undo_open(port);
        return ret;
    }
    return id;
}

int cv_port_del(int id) {
    struct port *port = cv_port_get(id), *peer;
    int ret;

    if (port == NULL)
        return cv_fail(ENOENT, "there is no port %d", id);
    for (int i = 0; i < CV_MAX_NETWORKS; i++)
        if (cv_networks[i] != NULL && cv_networks[i]->uplink == port)
            return cv_fail(EBUSY, "%s is the uplink of network %s", port->name,
                           cv_networks[i]->name);
    peer = atomic_load(&port->peer);
    if (port->role == CV_ROLE_UPLINK && peer != NULL)
        return cv_fail(EBUSY, "%s still has the twin %s", port->name, peer->name);
    take_out(port);
    ret = cv_table_publish(true);
    if (ret < 0) {
        put_back(port);
        return ret;
    }
    port->ops->close(port);
    free_port(port);
    return 0;
}

int cv_port_set_limits(int id, const struct cv_limits *limits) {
    struct port *port = cv_port_get(id);
    int ret;

    if (port == NULL)
        return cv_fail(ENOENT, "there is no port %d", id);
    ret = set_limits(port, limits);
    for (uint16_t i = 0; i < cv_n_workers; i++)
        cv_worker_wake(&cv_workers[i]);
    return ret;
}

static int take_out_all(struct port **ports, bool uplinks) {
    int n = 0;

    for (int i = 0; i < CV_MAX_PORTS; i++) {
        if (cv_ports[i] == NULL || (cv_ports[i]->role == CV_ROLE_UPLINK) != uplinks)
            continue;
        ports[n++] = cv_ports[i];
        take_out(cv_ports[i]);
    }
    return n;
}

static void put_back_all(struct port **ports, int n) {
    for (int i = 0; i < n; i++)
        put_back(ports[i]);
}

static void close_all(struct port **ports, int n) {
    for (int i = 0; i < n; i++) {
        ports[i]->ops->close(ports[i]);
        free_port(ports[i]);
    }
}

/* The workers let go of all at once. In this order any table meanwhile is whole. */
int cv_clear(void) {
    struct port *members[CV_MAX_PORTS], *uplinks[CV_MAX_PORTS];
    struct network *networks[CV_MAX_NETWORKS];
    int n_members = take_out_all(members, false);
    int n_networks = cv_networks_take_out(networks);
    int n_uplinks = take_out_all(uplinks, true);
    int ret = n_members + n_networks + n_uplinks > 0 ? cv_table_publish(true) : 0;

    if (ret < 0) {
        put_back_all(uplinks, n_uplinks);
        cv_networks_put_back(networks);
        put_back_all(members, n_members);
        return ret;
    }
    close_all(members, n_members);
    cv_networks_free(networks);
    close_all(uplinks, n_uplinks);
    return 0;
}

int cv_port_state(int id, struct cv_port_state *state) {
    struct port *port = cv_port_get(id);
    uint64_t mac;

    if (port == NULL)
        return cv_fail(ENOENT, "there is no port %d", id);
    memset(state, 0, sizeof(*state));
    mac = rte_cpu_to_le_64(port->mac);
    memcpy(state->mac, &mac, sizeof(state->mac));
    state->ready = atomic_load(&port->ready);
    state->mtu = port->mtu;
    state->rx_queues = atomic_load(&port->n_rx);
    state->tx_queues = atomic_load(&port->n_tx);
    state->offloads = atomic_load(&port->offloads);
    snprintf(state->driver, sizeof(state->driver), "%s", port->ops->name);
    port->ops->state(port, state);
    return 0;
}
