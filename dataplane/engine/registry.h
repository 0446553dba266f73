/* SPDX-License-Identifier: Apache-2.0 */
/* The ports and networks that exist: what tables are built of. */
#ifndef CV_REGISTRY_H
#define CV_REGISTRY_H

#include <pthread.h>
#include <stdint.h>

#include "engine.h"

struct learned;
struct port;

struct network {
    char name[CV_NAME_SIZE];
    uint16_t mtu;
    uint16_t vlan;
    struct port *uplink;
    struct learned *learned;
};

/*
 * Held while the arrays change and while a table is built of them. The control thread, the only
 * one that changes them, reads them without it.
 */
extern pthread_mutex_t cv_registry_lock;

extern struct port *cv_ports[CV_MAX_PORTS];
extern struct network *cv_networks[CV_MAX_NETWORKS];

/*
 * Moves all networks into an array of CV_MAX_NETWORKS, so that the next table is without them.
 * Returns how many. They are to be put back, before any else is added, or freed. Control thread.
 */
int cv_networks_take_out(struct network **networks);
void cv_networks_put_back(struct network **networks);
void cv_networks_free(struct network **networks);

#endif
