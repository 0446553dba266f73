/* SPDX-License-Identifier: Apache-2.0 */
#include "shape.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_malloc.h>
#include <rte_spinlock.h>

#include "error.h"
#include "limit.h"
#include "pools.h"
#include "port.h"
#include "worker.h"

/* A power of two; of mbufs at most so many too. */
#define PACKETS_MAX 2048

/* How long the last packet waits at most. TCP needs no more than some of its round trips. */
#define LATENCY_DIVISOR 20 /* of a second: 50 ms */
#define BYTES_MIN (64 * 1024)
#define BITS_PER_BYTE 8

/* All ports together hold no more than this part of the packet buffers. */
#define POOL_DIVISOR 2

/* Packet buffers that a port may hold even if the others hold all that they may. */
#define MBUFS_ALWAYS 64

struct shaper {
    _Atomic uint64_t max_bytes;
    rte_spinlock_t sending; /* tried only: who sends from here keeps others from overtaking */
    rte_spinlock_t lock;    /* of what follows; held while packets are put in or taken out */
    _Atomic uint32_t n;
    uint32_t first;
    uint32_t n_mbufs;
    uint64_t bytes;
    struct rte_mbuf *packets[PACKETS_MAX];
};

static _Atomic uint32_t held_mbufs; /* by all shapers */

static struct shaper *shaper_of(struct port *port) {
    return atomic_load_explicit(&port->shaper, memory_order_acquire);
}

static bool is_empty(struct shaper *shaper) {
    return atomic_load_explicit(&shaper->n, memory_order_acquire) == 0;
}

int cv_shape_set(struct port *port, uint64_t rate_bits_s, uint64_t burst_bits) {
    struct shaper *shaper = shaper_of(port);
    uint64_t bytes = rate_bits_s / BITS_PER_BYTE / LATENCY_DIVISOR;

    if (shaper == NULL && rate_bits_s == 0)
        return 0;
    if (shaper == NULL)
        shaper = rte_zmalloc("shaper", sizeof(*shaper), RTE_CACHE_LINE_SIZE);
    if (shaper == NULL)
        return cv_fail(ENOMEM, "%s: out of memory for a rate limit; raise memory", port->name);
    if (rate_bits_s > 0)
        atomic_store_explicit(&shaper->max_bytes, RTE_MAX(bytes, (uint64_t)BYTES_MIN),
                              memory_order_relaxed);
    cv_limit_set(&port->ingress, rate_bits_s, burst_bits);
    atomic_store_explicit(&port->shaper, shaper, memory_order_release);
    return 0;
}

/* The oldest packets that have credit, at most CV_BURST; their bytes on a wire go to *bytes. */
static uint16_t take_out(struct shaper *shaper, const struct limit *limit, int64_t credit,
                         struct rte_mbuf **packets, uint64_t *bytes) {
    uint32_t n_mbufs = 0, left;
    uint16_t n = 0;

    *bytes = 0;
    rte_spinlock_lock(&shaper->lock);
    left = atomic_load_explicit(&shaper->n, memory_order_relaxed);
    while (n < CV_BURST && left > 0 && credit > 0) {
        struct rte_mbuf *packet = shaper->packets[shaper->first];
        uint32_t wire_bytes = cv_limit_wire_bytes(packet);

        shaper->first = (shaper->first + 1) % PACKETS_MAX;
        left--;
        n_mbufs += packet->nb_segs;
        *bytes += wire_bytes;
        credit -= cv_limit_cost(limit, wire_bytes);
        packets[n++] = packet;
    }
    shaper->n_mbufs -= n_mbufs;
    shaper->bytes -= *bytes;
    atomic_store_explicit(&shaper->n, left, memory_order_release);
    rte_spinlock_unlock(&shaper->lock);
    atomic_fetch_sub_explicit(&held_mbufs, n_mbufs, memory_order_relaxed);
    return n;
}

static void free_all(struct shaper *shaper) {
    static const struct limit none;
    struct rte_mbuf *packets[CV_BURST];
    uint64_t bytes;
    uint16_t n;

    while ((n = take_out(shaper, &none, INT64_MAX, packets, &bytes)) > 0)
        rte_pktmbuf_free_bulk(packets, n);
}

void cv_shape_free(struct port *port) {
    struct shaper *shaper = shaper_of(port);

    if (shaper == NULL)
        return;
    free_all(shaper);
    rte_free(shaper);
}

static bool is_overfull(struct shaper *shaper) {
    uint64_t max_bytes = atomic_load_explicit(&shaper->max_bytes, memory_order_relaxed);
    bool is_overfull;

    rte_spinlock_lock(&shaper->lock);
    is_overfull = shaper->bytes > max_bytes && shaper->n > 1;
    rte_spinlock_unlock(&shaper->lock);
    return is_overfull;
}

/* A lower rate lets less wait: the oldest go, as their delay would only grow. */
static void cut(struct port *port, struct shaper *shaper, struct lane *lane) {
    struct rte_mbuf *packets[CV_BURST];
    uint64_t bytes;

    while (is_overfull(shaper)) {
        uint16_t n = take_out(shaper, &port->ingress, 1, packets, &bytes);

        lane->drops[CV_DROP_INGRESS_LIMIT] += n;
        rte_pktmbuf_free_bulk(packets, n);
    }
}

/* Each run of packets for one queue in one go. */
static void send(struct worker *worker, struct port *port, struct rte_mbuf **packets, uint16_t n) {
    struct lane *lane = port->lanes[worker->index];

    for (uint16_t i = 0, begin = 0; i < n; begin = i) {
        struct tx_queue *queue = cv_tx_queue(worker, port, packets[begin]);

        do
            i++;
        while (i < n && cv_tx_queue(worker, port, packets[i]) == queue);
        cv_send(queue, lane, packets + begin, i - begin);
    }
}

/*
 * Sends what waits, as far as there is credit. Only by who has shaper->sending. No more than waits
 * now: others may add to it faster than the port takes it, and a round has to end.
 */
static uint32_t send_waiting(struct worker *worker, struct port *port, struct shaper *shaper) {
    struct rte_mbuf *packets[CV_BURST];
    uint32_t sum = 0, most;
    uint64_t bytes;

    cut(port, shaper, port->lanes[worker->index]);
    most = atomic_load_explicit(&shaper->n, memory_order_relaxed);
    while (sum < most && !is_empty(shaper)) {
        /* To a port out of service it goes at once, to be dropped there. */
        bool is_ready = atomic_load_explicit(&port->n_tx, memory_order_relaxed) > 0;
        uint64_t now = rte_rdtsc();
        int64_t credit = is_ready ? cv_limit_credit(&port->ingress, now) : INT64_MAX;
        uint16_t n = take_out(shaper, &port->ingress, credit, packets, &bytes);

        if (n == 0) {
            cv_limit_pause(&port->ingress, now);
            break;
        }
        if (is_ready)
            cv_limit_charge(&port->ingress, now, bytes);
        send(worker, port, packets, n);
        sum += n;
    }
    return sum;
}

/* Sends the first packets of a buffer, as far as there is credit. Returns how many. */
static uint16_t send_at_once(struct tx_queue *queue, struct lane *lane) {
    struct limit *limit = &queue->port->ingress;
    uint64_t now = rte_rdtsc(), bytes = 0;
    int64_t credit = cv_limit_credit(limit, now);
    uint16_t n = 0;

    while (n < queue->n && credit > 0) {
        uint32_t wire_bytes = cv_limit_wire_bytes(queue->buffer[n++]);

        credit -= cv_limit_cost(limit, wire_bytes);
        bytes += wire_bytes;
    }
    if (n == 0)
        return 0;
    cv_limit_charge(limit, now, bytes);
    cv_send(queue, lane, queue->buffer, n);
    return n;
}

/*
 * Other pools' buffers must not be kept: jumbo ones are for a worker's round only, a device's own
 * go with it. Returns NULL if there is no room.
 */
static struct rte_mbuf *keepable(struct rte_mbuf *packet) {
    struct rte_mbuf *copy = packet;

    if (packet->pool != cv_std_pool) {
        copy = rte_pktmbuf_copy(packet, cv_std_pool, 0, UINT32_MAX);
        rte_pktmbuf_free(packet);
    }
    return copy;
}

static bool has_room(struct shaper *shaper, const struct rte_mbuf *packet, uint32_t wire_bytes) {
    uint64_t max_bytes = atomic_load_explicit(&shaper->max_bytes, memory_order_relaxed);
    uint32_t n_mbufs = packet->pkt_len / RTE_MBUF_DEFAULT_DATAROOM + 1;
    bool has_room;

    rte_spinlock_lock(&shaper->lock);
    has_room = shaper->bytes == 0 || (shaper->bytes + wire_bytes <= max_bytes &&
                                      shaper->n_mbufs + n_mbufs <= PACKETS_MAX);
    rte_spinlock_unlock(&shaper->lock);
    return has_room;
}

/* Some may wait for every port, whatever others have taken of the pool. */
static bool holds_few(struct shaper *shaper) {
    bool holds_few;

    rte_spinlock_lock(&shaper->lock);
    holds_few = shaper->n_mbufs < MBUFS_ALWAYS;
    rte_spinlock_unlock(&shaper->lock);
    return holds_few;
}

static bool put_in(struct shaper *shaper, struct rte_mbuf *packet, uint32_t wire_bytes) {
    uint32_t n;

    rte_spinlock_lock(&shaper->lock);
    n = atomic_load_explicit(&shaper->n, memory_order_relaxed);
    if (n < PACKETS_MAX) {
        shaper->packets[(shaper->first + n) % PACKETS_MAX] = packet;
        shaper->n_mbufs += packet->nb_segs;
        shaper->bytes += wire_bytes;
        atomic_store_explicit(&shaper->n, n + 1, memory_order_release);
    }
    rte_spinlock_unlock(&shaper->lock);
    return n < PACKETS_MAX;
}

static void hold(struct shaper *shaper, struct lane *lane, struct rte_mbuf *packet) {
    uint32_t wire_bytes = cv_limit_wire_bytes(packet);

    if (!has_room(shaper, packet, wire_bytes)) {
        cv_drop(lane, CV_DROP_INGRESS_LIMIT, packet);
        return;
    }
    if (atomic_load_explicit(&held_mbufs, memory_order_relaxed) >=
            cv_std_pool->size / POOL_DIVISOR &&
        !holds_few(shaper)) {
        cv_drop(lane, CV_DROP_NO_MBUF, packet);
        return;
    }
    packet = keepable(packet);
    if (packet == NULL) {
        lane->drops[CV_DROP_NO_MBUF]++;
        return;
    }
    atomic_fetch_add_explicit(&held_mbufs, packet->nb_segs, memory_order_relaxed);
    if (put_in(shaper, packet, wire_bytes)) {
        lane->ingress_held_packets++;
        return;
    }
    atomic_fetch_sub_explicit(&held_mbufs, packet->nb_segs, memory_order_relaxed);
    cv_drop(lane, CV_DROP_INGRESS_LIMIT, packet);
}

/* Makes the worker look at the port again in its next rounds. */
static void remember(struct worker *worker, struct lane *lane) {
    if (lane->is_holding)
        return;
    lane->is_holding = true;
    lane->next_holding = worker->holding;
    worker->holding = lane;
}

void cv_shape(struct worker *worker, struct tx_queue *queue) {
    struct port *port = queue->port;
    struct lane *lane = port->lanes[worker->index];
    struct shaper *shaper = shaper_of(port);
    uint16_t sent = 0;

    if (rte_spinlock_trylock(&shaper->sending)) {
        if (is_empty(shaper))
            sent = send_at_once(queue, lane);
        rte_spinlock_unlock(&shaper->sending);
    }
    for (uint16_t i = sent; i < queue->n; i++)
        hold(shaper, lane, queue->buffer[i]);
    if (sent < queue->n)
        remember(worker, lane);
}

/* Returns how many packets have gone. */
static uint32_t resume(struct worker *worker, struct port *port, struct shaper *shaper) {
    uint64_t resume_at = atomic_load_explicit(&port->ingress.resume_at, memory_order_relaxed);
    uint32_t n = 0;

    if (rte_rdtsc() >= resume_at || atomic_load_explicit(&port->n_tx, memory_order_relaxed) == 0) {
        if (!rte_spinlock_trylock(&shaper->sending)) {
            worker->due_at = 0;
            return 0;
        }
        n = send_waiting(worker, port, shaper);
        rte_spinlock_unlock(&shaper->sending);
        resume_at = atomic_load_explicit(&port->ingress.resume_at, memory_order_relaxed);
    }
    if (!is_empty(shaper))
        worker->due_at = RTE_MIN(worker->due_at, resume_at);
    return n;
}

uint32_t cv_shape_resume(struct worker *worker) {
    struct lane **link = &worker->holding, *lane;
    uint32_t sum = 0;

    while ((lane = *link) != NULL) {
        struct port *port = lane->tx[0].port;
        struct shaper *shaper = shaper_of(port);

        sum += resume(worker, port, shaper);
        if (is_empty(shaper)) {
            lane->is_holding = false;
            *link = lane->next_holding;
        } else {
            link = &lane->next_holding;
        }
    }
    return sum;
}

void cv_shape_let_go(struct worker *worker) {
    struct lane **link = &worker->holding, *lane;

    while ((lane = *link) != NULL) {
        struct port *port = lane->tx[0].port;

        if (!atomic_load_explicit(&port->is_going, memory_order_relaxed)) {
            link = &lane->next_holding;
            continue;
        }
        free_all(shaper_of(port));
        lane->is_holding = false;
        *link = lane->next_holding;
    }
}
