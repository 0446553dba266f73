/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarding entries: static ones, fixed when a port is added, and learned ones of uplinks. */
#ifndef CV_FDB_H
#define CV_FDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"

struct port;

/* Static entries of all networks: open addressing, never changed once published. */
struct fdb {
    uint32_t mask;
    uint32_t shift;
    struct fdb_slot {
        uint64_t key; /* cv_fdb_key(), 0: empty (no port has MAC 0) */
        struct port *port;
    } slots[];
};

static inline uint64_t cv_fdb_key(uint16_t network, uint64_t mac) {
    return (uint64_t)network << 48 | mac;
}

/* Room for n entries, at most half full. NULL when out of memory. */
struct fdb *cv_fdb_new(uint32_t n);

/* Adds an entry that is not there yet; only before the table is published. */
void cv_fdb_insert(struct fdb *fdb, uint64_t key, struct port *port);

static inline uint32_t cv_fdb_slot(const struct fdb *fdb, uint64_t key) {
    return (key * UINT64_C(0x9e3779b97f4a7c15)) >> fdb->shift;
}

/* The port that has this address in this network, or NULL. */
static inline struct port *cv_fdb_lookup(const struct fdb *fdb, uint64_t key) {
    uint32_t i = cv_fdb_slot(fdb, key);

    while (fdb->slots[i].key != 0) {
        if (fdb->slots[i].key == key)
            return fdb->slots[i].port;
        i = (i + 1) & fdb->mask;
    }
    return NULL;
}

#define CV_LEARN_BUCKETS 1024
#define CV_LEARN_WAYS 4
#define CV_LEARN_AGE_S 300

/*
 * Addresses seen on a network's uplink, to be shown: unknown addresses go there anyway. Bounded:
 * the oldest of a bucket makes room. Workers write without locks: an entry is one word, so that a
 * lost race costs one refresh, never a wrong entry.
 */
struct learned {
    struct learned_bucket {
        uint64_t entries[CV_LEARN_WAYS]; /* port id << 48 | MAC, 0: empty */
        uint32_t seen_s[CV_LEARN_WAYS];
    } buckets[CV_LEARN_BUCKETS];
};

/* Notes that mac was seen on port at now_s (engine seconds). Writes at most once a second. */
void cv_learn(struct learned *learned, uint64_t mac, uint16_t port, uint32_t now_s);

/* Copies at most max entries younger than CV_LEARN_AGE_S; returns how many there are. */
uint32_t cv_learn_list(const struct learned *learned, uint32_t now_s, struct cv_fdb_entry *entries,
                       uint32_t max);

#endif
