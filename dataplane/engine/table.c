/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>
#include <rte_common.h>
#include <rte_pause.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "balance.h"
#include "error.h"
#include "fdb.h"
#include "port.h"
#include "registry.h"
#include "worker.h"

#define SPINS_BEFORE_SLEEP 2000
#define WAIT_US 20

static _Atomic(struct table *) current;
static bool held; /* under the registry's lock */

struct table *cv_table_current(void) {
    return atomic_load(&current);
}

static void free_table(struct table *table) {
    for (int i = 0; i < CV_MAX_NETWORKS; i++)
        free(table->networks[i].members);
    for (int i = 0; i < CV_MAX_WORKERS; i++)
        free(table->workers[i].queues);
    free(table->fdb);
    free(table);
}

/* Arrays of the right size; counted first, so that filling them cannot fail. */
static int allocate(struct table *table) {
    uint32_t members[CV_MAX_NETWORKS] = {0}, queues[CV_MAX_WORKERS] = {0}, n_addresses = 0;

    for (int i = 0; i < CV_MAX_PORTS; i++) {
        const struct port *port = cv_ports[i];

        if (port == NULL)
            continue;
        n_addresses++;
        if (!cv_is_trunk(port))
            members[port->network]++;
        for (uint16_t q = 0; q < port->n_served; q++)
            queues[port->rx[q].worker]++;
    }
    for (int i = 0; i < CV_MAX_NETWORKS; i++)
        n_addresses += cv_networks[i] != NULL; /* the twin's, in each */
    table->fdb = cv_fdb_new(n_addresses);
    if (table->fdb == NULL)
        return -ENOMEM;
    for (int i = 0; i < CV_MAX_NETWORKS; i++) {
        if (members[i] == 0)
            continue;
        table->networks[i].members = calloc(members[i], sizeof(struct port *));
        if (table->networks[i].members == NULL)
            return -ENOMEM;
    }
    for (int i = 0; i < cv_n_workers; i++) {
        table->workers[i].queues = calloc(queues[i] + 1, sizeof(struct rx_assignment));
        if (table->workers[i].queues == NULL)
            return -ENOMEM;
    }
    return 0;
}

/* A container whose sources are checked is none: it may not advertise itself. */
static bool may_route(const struct port *port) {
    return port->role == CV_ROLE_HOST || !port->spoof_check;
}

static void add_member(struct network_view *network, struct port *port) {
    uint16_t at = network->n_members++;

    network->members_ns += port->ops->copy_ns;
    if (may_route(port)) {
        network->routers_ns += port->ops->copy_ns;
        network->members[at] = network->members[network->n_routers];
        at = network->n_routers++;
    }
    network->members[at] = port;
}

static void fill_queues(struct table *table, struct port *port) {
    for (uint16_t q = 0; q < port->n_served; q++) {
        struct worker_view *view = &table->workers[port->rx[q].worker];

        view->queues[view->n++] = (struct rx_assignment){.port = port,
                                                         .queue = q,
                                                         .home = port->rx[q].home,
                                                         .service = atomic_load(&port->service),
                                                         .since = port->rx[q].since};
    }
}

static void fill_port(struct table *table, struct port *port) {
    if (!cv_is_trunk(port)) {
        struct network_view *network = &table->networks[port->network];

        cv_fdb_insert(table->fdb, cv_fdb_key(port->network, port->mac), port);
        if (atomic_load(&port->n_tx) > 0)
            add_member(network, port);
    }
    if (!held)
        fill_queues(table, port);
}

static void fill_network(struct table *table, int id) {
    const struct network *network = cv_networks[id];
    struct network_view *view = &table->networks[id];

    view->uplink = network->uplink;
    view->vlan = network->vlan;
    view->learned = network->learned;
    if (network->uplink == NULL)
        return;
    view->twin = atomic_load(&network->uplink->peer);
    if (view->twin != NULL)
        cv_fdb_insert(table->fdb, cv_fdb_key(id, view->twin->mac), view->twin);
}

static struct table *build(uint64_t generation) {
    struct table *table = calloc(1, sizeof(*table));

    if (table == NULL)
        return NULL;
    table->generation = generation;
    cv_balance(generation);
    if (allocate(table) < 0) {
        free_table(table);
        return NULL;
    }
    for (int i = 0; i < CV_MAX_NETWORKS; i++)
        if (cv_networks[i] != NULL)
            fill_network(table, i);
    for (int i = 0; i < CV_MAX_PORTS; i++)
        if (cv_ports[i] != NULL)
            fill_port(table, cv_ports[i]);
    return table;
}

static void wait_for_workers(uint64_t generation) {
    for (int i = 0; i < cv_n_workers; i++) {
        for (int spins = 0; atomic_load(&cv_workers[i].generation) < generation; spins++) {
            if (spins < SPINS_BEFORE_SLEEP)
                rte_pause();
            else
                usleep(WAIT_US);
        }
    }
}

/* Cuts off the tables that no worker uses any more. Under the lock. */
static struct table *take_unused(void) {
    struct table *table = atomic_load(&current), *unused;
    uint64_t oldest = table->generation;

    for (int i = 0; i < cv_n_workers; i++)
        oldest = RTE_MIN(oldest, atomic_load(&cv_workers[i].generation));
    while (table->generation > oldest && table->retired != NULL)
        table = table->retired;
    unused = table->retired;
    table->retired = NULL;
    return unused;
}

static void free_list(struct table *table) {
    while (table != NULL) {
        struct table *older = table->retired;

        free_table(table);
        table = older;
    }
}

/*
 * Puts a new table in force, under the lock; `unused` are older ones to be freed. Returns its
 * generation, or 0 without memory.
 */
static uint64_t replace_current(struct table **unused) {
    struct table *old = atomic_load(&current), *table;

    table = build(old == NULL ? 1 : old->generation + 1);
    if (table == NULL)
        return 0;
    table->retired = old;
    atomic_store(&current, table);
    *unused = take_unused();
    return table->generation;
}

static int tell_workers(uint64_t generation, struct table *unused, bool wait) {
    if (generation == 0)
        return cv_fail(ENOMEM, "out of memory for the forwarding table");
    free_list(unused);
    for (int i = 0; i < cv_n_workers; i++)
        cv_worker_wake(&cv_workers[i]);
    if (wait)
        wait_for_workers(generation);
    return 0;
}

int cv_table_publish(bool wait) {
    struct table *unused = NULL;
    uint64_t generation;

    if (cv_n_workers == 0)
        return 0;
    pthread_mutex_lock(&cv_registry_lock);
    generation = replace_current(&unused);
    pthread_mutex_unlock(&cv_registry_lock);
    return tell_workers(generation, unused, wait);
}

int cv_table_publish_added(struct port *port) {
    struct table *unused = NULL;
    uint64_t generation = 0;
    bool put_off;

    pthread_mutex_lock(&cv_registry_lock);
    cv_ports[port->id] = port;
    put_off = held;
    if (!put_off)
        generation = replace_current(&unused);
    if (!put_off && generation == 0)
        cv_ports[port->id] = NULL; /* before anybody else could publish a table with it */
    pthread_mutex_unlock(&cv_registry_lock);
    /* Workers take it up at their next round. */
    return put_off ? 0 : tell_workers(generation, unused, false);
}

int cv_hold(bool on) {
    pthread_mutex_lock(&cv_registry_lock);
    held = on;
    pthread_mutex_unlock(&cv_registry_lock);
    return cv_table_publish(true);
}

void cv_table_free(void) {
    free_list(atomic_exchange(&current, NULL));
}
