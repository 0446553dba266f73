/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the workers see of the configuration: an immutable table, replaced as a whole.
 *
 * A worker compares one pointer per round; when it changed, the worker takes up the new table and
 * says so by its generation. Whoever must be sure that the old one is out of use waits for that.
 */
#ifndef CV_TABLE_H
#define CV_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

struct fdb;
struct learned;
struct port;

struct network_view {
    struct port *uplink; /* NULL: local to this node */
    struct port *twin;   /* of the uplink, or NULL */
    struct learned *learned;
    uint16_t vlan;
    uint16_t n_members;  /* ready ports but the trunks */
    uint16_t n_routers;  /* the first of them: what may be a router */
    uint32_t members_ns; /* what a packet to all of them costs a worker, about */
    uint32_t routers_ns;
    struct port **members;
};

struct rx_assignment {
    struct port *port;
    uint16_t queue;
    uint16_t home;    /* the receive queue's */
    uint32_t service; /* the port's, when the table was built */
    uint64_t since;   /* the worker begins when all use a table of this generation or a later one */
};

struct worker_view {
    uint32_t n;
    struct rx_assignment *queues;
};

struct table {
    uint64_t generation;
    struct table *retired; /* next older one that is waiting to be freed */
    struct fdb *fdb;
    struct network_view networks[CV_MAX_NETWORKS];
    struct worker_view workers[CV_MAX_WORKERS];
};

/* The table in force. Never NULL while workers run. */
struct table *cv_table_current(void);

/*
 * Builds a table of the ports and networks as they are now, puts it in force and wakes sleeping
 * workers; frees older ones that none uses any more. Thread-safe. With wait, returns when every
 * worker uses it.
 * Returns 0, also when there are no workers, or -ENOMEM (the old table stays in force).
 */
int cv_table_publish(bool wait);

/*
 * Puts a new port in its slot and publishes, without waiting; while ports are held, that is put off
 * to the end. Returns 0 or -ENOMEM: then no table ever had the port, and its slot is free.
 */
int cv_table_publish_added(struct port *port);

/* Frees every table; no worker runs any more. */
void cv_table_free(void);

#endif
