/* SPDX-License-Identifier: Apache-2.0 */
/* Networks: L2 domains, each with at most one uplink and a tag on it. */
#include <errno.h>
#include <rte_cycles.h>
#include <rte_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "fdb.h"
#include "port.h"
#include "publisher.h"
#include "registry.h"
#include "table.h"

pthread_mutex_t cv_registry_lock = PTHREAD_MUTEX_INITIALIZER;
struct network *cv_networks[CV_MAX_NETWORKS];

static int free_slot(void) {
    for (int i = 0; i < CV_MAX_NETWORKS; i++)
        if (cv_networks[i] == NULL)
            return i;
    return -1;
}

static int find_uplink(const struct cv_network_conf *conf, struct port **uplink) {
    struct port *port = cv_port_get(conf->uplink);
    uint16_t taken;

    if (port == NULL || port->role != CV_ROLE_UPLINK)
        return cv_fail(ENOENT, "network %s: its uplink is not there", conf->name);
    if (conf->mtu > port->mtu)
        return cv_fail(ERANGE, "network %s: MTU %u is over the %u of %s", conf->name, conf->mtu,
                       port->mtu, port->name);
    taken = atomic_load(&port->vlans[conf->vlan]);
    if (taken != CV_NO_NETWORK)
        return cv_fail(EBUSY, "network %s: VLAN %u of %s belongs to network %s already", conf->name,
                       conf->vlan, port->name, cv_networks[taken]->name);
    *uplink = port;
    return 0;
}

static void set_slot(int id, struct network *network) {
    pthread_mutex_lock(&cv_registry_lock);
    cv_networks[id] = network;
    pthread_mutex_unlock(&cv_registry_lock);
}

static void free_network(struct network *network) {
    free(network->learned);
    free(network);
}

int cv_network_add(const struct cv_network_conf *conf) {
    struct network *network;
    int id = free_slot(), ret;

    if (id < 0)
        return cv_fail(ENOSPC, "network %s: there are %d networks already", conf->name,
                       CV_MAX_NETWORKS);
    if (conf->vlan > RTE_ETHER_MAX_VLAN_ID)
        return cv_fail(EINVAL, "network %s: VLAN %u is over %d", conf->name, conf->vlan,
                       RTE_ETHER_MAX_VLAN_ID);
    network = calloc(1, sizeof(*network));
    if (network == NULL)
        return cv_fail(ENOMEM, "network %s: out of memory", conf->name);
    snprintf(network->name, sizeof(network->name), "%s", conf->name);
    network->mtu = conf->mtu;
    network->vlan = conf->vlan;
    if (conf->uplink >= 0) {
        ret = find_uplink(conf, &network->uplink);
        network->learned = calloc(1, sizeof(*network->learned));
        if (ret == 0 && network->learned == NULL)
            ret = cv_fail(ENOMEM, "network %s: out of memory", conf->name);
        if (ret < 0) {
            free_network(network);
            return ret;
        }
    }
    set_slot(id, network);
    ret = cv_table_publish(true);
    if (ret < 0) {
        set_slot(id, NULL);
        /* The workers may use it already; better to lose these bytes than to free them. */
        if (cv_table_publish(true) == 0)
            free_network(network);
        return ret;
    }
    if (network->uplink != NULL)
        atomic_store(&network->uplink->vlans[network->vlan], id);
    return id;
}

static bool has_ports(int id) {
    for (int i = 0; i < CV_MAX_PORTS; i++)
        if (cv_ports[i] != NULL && !cv_is_trunk(cv_ports[i]) && cv_ports[i]->network == id)
            return true;
    return false;
}

int cv_network_del(int id) {
    struct network *network;
    int ret;

    if (id < 0 || id >= CV_MAX_NETWORKS || cv_networks[id] == NULL)
        return cv_fail(ENOENT, "there is no network %d", id);
    network = cv_networks[id];
    if (has_ports(id))
        return cv_fail(EBUSY, "network %s still has ports", network->name);
    if (network->uplink != NULL)
        atomic_store(&network->uplink->vlans[network->vlan], CV_NO_NETWORK);
    set_slot(id, NULL);
    ret = cv_table_publish(true);
    if (ret < 0) { /* it stays as it was */
        if (network->uplink != NULL)
            atomic_store(&network->uplink->vlans[network->vlan], id);
        set_slot(id, network);
        cv_publish_soon();
        return ret;
    }
    free_network(network);
    return 0;
}

int cv_networks_take_out(struct network **networks) {
    int n = 0;

    pthread_mutex_lock(&cv_registry_lock);
    for (int i = 0; i < CV_MAX_NETWORKS; i++) {
        networks[i] = cv_networks[i];
        cv_networks[i] = NULL;
        n += networks[i] != NULL;
    }
    pthread_mutex_unlock(&cv_registry_lock);
    return n;
}

void cv_networks_put_back(struct network **networks) {
    pthread_mutex_lock(&cv_registry_lock);
    memcpy(cv_networks, networks, sizeof(cv_networks));
    pthread_mutex_unlock(&cv_registry_lock);
}

void cv_networks_free(struct network **networks) {
    for (int i = 0; i < CV_MAX_NETWORKS; i++)
        if (networks[i] != NULL)
            free_network(networks[i]);
}

static uint32_t list_static(int id, struct cv_fdb_entry *entries, uint32_t max) {
    uint32_t n = 0;

    for (int i = 0; i < CV_MAX_PORTS; i++) {
        const struct port *port = cv_ports[i];
        uint64_t mac;

        if (port == NULL || cv_is_trunk(port) || port->network != id)
            continue;
        if (n < max) {
            mac = rte_cpu_to_le_64(port->mac);
            entries[n] = (struct cv_fdb_entry){.is_static = true, .port = i};
            memcpy(entries[n].mac, &mac, sizeof(entries[n].mac));
        }
        n++;
    }
    return n;
}

int cv_fdb(int id, struct cv_fdb_entry *entries, uint32_t max) {
    uint32_t n;

    if (id < 0 || id >= CV_MAX_NETWORKS || cv_networks[id] == NULL)
        return cv_fail(ENOENT, "there is no network %d", id);
    n = list_static(id, entries, max);
    if (cv_networks[id]->learned != NULL) {
        uint32_t used = RTE_MIN(n, max), now_s = rte_rdtsc() / rte_get_tsc_hz();

        n += cv_learn_list(cv_networks[id]->learned, now_s, entries + used, max - used);
    }
    return n;
}
