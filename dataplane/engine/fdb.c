/* SPDX-License-Identifier: Apache-2.0 */
#include "fdb.h"

#include <rte_byteorder.h>
#include <rte_common.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "port.h"

struct fdb *cv_fdb_new(uint32_t n) {
    uint32_t size = rte_align32pow2(RTE_MAX(2 * n, 16u));
    struct fdb *fdb = calloc(1, sizeof(*fdb) + size * sizeof(fdb->slots[0]));

    if (fdb == NULL)
        return NULL;
    fdb->mask = size - 1;
    fdb->shift = 64 - rte_bsf32(size);
    return fdb;
}

void cv_fdb_insert(struct fdb *fdb, uint64_t key, struct port *port) {
    uint32_t i = cv_fdb_slot(fdb, key);

    while (fdb->slots[i].key != 0)
        i = (i + 1) & fdb->mask;
    fdb->slots[i] = (struct fdb_slot){.key = key, .port = port};
}

static uint64_t load(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static uint32_t load_s(const uint32_t *seconds) {
    return __atomic_load_n(seconds, __ATOMIC_RELAXED);
}

static struct learned_bucket *bucket_of(struct learned *learned, uint64_t mac) {
    return &learned->buckets[(mac * UINT64_C(0x9e3779b97f4a7c15)) >> 54];
}

void cv_learn(struct learned *learned, uint64_t mac, uint16_t port, uint32_t now_s) {
    struct learned_bucket *bucket = bucket_of(learned, mac);
    uint64_t entry = (uint64_t)port << 48 | mac;
    uint32_t least_s = UINT32_MAX;
    int oldest = 0;

    for (int i = 0; i < CV_LEARN_WAYS; i++) {
        uint64_t known = load(&bucket->entries[i]);
        uint32_t seen_s = load_s(&bucket->seen_s[i]);

        if ((known & CV_MAC_MASK) == mac) {
            if (known != entry)
                store(&bucket->entries[i], entry);
            if (seen_s < now_s) /* the workers' clocks differ */
                __atomic_store_n(&bucket->seen_s[i], now_s, __ATOMIC_RELAXED);
            return;
        }
        if (seen_s < least_s) {
            least_s = seen_s;
            oldest = i;
        }
    }
    store(&bucket->entries[oldest], entry);
    __atomic_store_n(&bucket->seen_s[oldest], now_s, __ATOMIC_RELAXED);
}

uint32_t cv_learn_list(const struct learned *learned, uint32_t now_s, struct cv_fdb_entry *entries,
                       uint32_t max) {
    uint32_t n = 0;

    for (int b = 0; b < CV_LEARN_BUCKETS; b++) {
        for (int i = 0; i < CV_LEARN_WAYS; i++) {
            uint64_t entry = load(&learned->buckets[b].entries[i]);
            uint32_t seen_s = load_s(&learned->buckets[b].seen_s[i]);
            uint32_t age_s = now_s > seen_s ? now_s - seen_s : 0;
            uint64_t mac = rte_cpu_to_le_64(entry & CV_MAC_MASK);

            if (entry == 0 || age_s > CV_LEARN_AGE_S)
                continue;
            if (n < max) {
                entries[n].is_static = false;
                entries[n].port = entry >> 48;
                entries[n].age_s = age_s;
                memcpy(entries[n].mac, &mac, sizeof(entries[n].mac));
            }
            n++;
        }
    }
    return n;
}
