/* SPDX-License-Identifier: Apache-2.0 */
#include "balance.h"

#include <rte_cycles.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port.h"
#include "registry.h"
#include "table.h"
#include "worker.h"

/* Workers whose loads differ by less are left alone, and so are those that gain less. */
#define EVEN_PERMILLE 150
#define GAIN_PERMILLE 50

#define MOVES_MAX CV_MAX_PORTS

/* What a sleeping worker takes to wake. */
#define WAKE_US 100

struct load {
    uint32_t queues[CV_MAX_WORKERS];
    uint32_t busy_permille[CV_MAX_WORKERS]; /* the sum over its queues, as last measured */
};

static void count_own(const struct port *port, uint16_t own[CV_MAX_WORKERS]) {
    memset(own, 0, CV_MAX_WORKERS * sizeof(own[0]));
    for (uint16_t q = 0; q < port->queues; q++)
        if (port->rx[q].worker != CV_NO_WORKER)
            own[port->rx[q].worker]++;
}

static bool is_spread(const struct port *port) {
    uint16_t own[CV_MAX_WORKERS], least = UINT16_MAX, most = 0;

    count_own(port, own);
    for (uint16_t w = 0; w < cv_n_workers; w++) {
        least = RTE_MIN(least, own[w]);
        most = RTE_MAX(most, own[w]);
    }
    return most - least <= 1;
}

static void release_from(struct port *port, uint16_t first) {
    for (uint16_t q = first; q < port->queues; q++)
        port->rx[q].worker = CV_NO_WORKER;
}

/* Takes back the queues that are not in service, or all if the rest is not spread any more. */
static void release(struct port *port) {
    port->n_served = atomic_load(&port->n_rx);
    release_from(port, port->n_served);
    if (!is_spread(port))
        release_from(port, 0);
}

static void count(struct load *load, const struct port *port) {
    for (uint16_t q = 0; q < port->n_served; q++) {
        const struct rx_queue *rx = &port->rx[q];

        if (rx->worker == CV_NO_WORKER)
            continue;
        load->queues[rx->worker]++;
        load->busy_permille[rx->worker] += rx->busy_permille;
    }
}

/* Not a packet since the measurement before the last one. */
static bool is_idle(const struct rx_queue *rx) {
    return rx->busy_permille == 0 && atomic_load(&rx->cycles) == rx->cycles_before;
}

/*
 * An uplink's device sends from its queues in any order. So what is moved keeps the transmit queue
 * that may still hold some of its packets, unless it has had none of late.
 */
static void give(struct rx_queue *rx, uint16_t worker, struct load *load, uint64_t generation) {
    if (rx->worker != CV_NO_WORKER) {
        load->queues[rx->worker]--;
        load->busy_permille[rx->worker] -= rx->busy_permille;
    }
    load->queues[worker]++;
    load->busy_permille[worker] += rx->busy_permille;
    if (rx->home == CV_NO_WORKER || is_idle(rx))
        rx->home = worker;
    rx->worker = worker;
    rx->since = generation;
}

/* By number of queues; of two that have as many the less busy is less. */
static bool has_fewer(const struct load *load, uint16_t one, uint16_t other) {
    if (load->queues[one] != load->queues[other])
        return load->queues[one] < load->queues[other];
    return load->busy_permille[one] < load->busy_permille[other];
}

/* Finds a worker for each queue that has none. */
static void place(struct port *port, struct load *load, uint64_t generation) {
    uint16_t own[CV_MAX_WORKERS];

    count_own(port, own);
    for (uint16_t q = 0; q < port->n_served; q++) {
        uint16_t best = 0;

        if (port->rx[q].worker != CV_NO_WORKER)
            continue;
        for (uint16_t w = 1; w < cv_n_workers; w++)
            if (own[w] < own[best] || (own[w] == own[best] && has_fewer(load, w, best)))
                best = w;
        give(&port->rx[q], best, load, generation);
        own[best]++;
    }
}

/* Between two workers' loads after a move from the busier one; below 0 if the other then is. */
static int32_t gap_after(const struct load *load, uint16_t from, uint16_t to,
                         int32_t busy_permille) {
    return (int32_t)load->busy_permille[from] - (int32_t)load->busy_permille[to] -
           2 * busy_permille;
}

/*
 * A queue to be moved between two workers: the least busy one, or the one that makes them most
 * equally busy. NULL where each would leave its port's queues less spread.
 */
static struct rx_queue *choose(const struct load *load, uint16_t from, uint16_t to,
                               bool least_busy) {
    struct rx_queue *best = NULL;
    int32_t least = INT32_MAX;
    uint16_t own[CV_MAX_WORKERS];

    for (int i = 0; i < CV_MAX_PORTS; i++) {
        struct port *port = cv_ports[i];

        if (port == NULL)
            continue;
        count_own(port, own);
        for (uint16_t q = 0; q < port->n_served && own[from] > own[to]; q++) {
            struct rx_queue *rx = &port->rx[q];
            int32_t cost =
                least_busy ? rx->busy_permille : abs(gap_after(load, from, to, rx->busy_permille));

            if (rx->worker == from && cost < least) {
                least = cost;
                best = rx;
            }
        }
    }
    return best;
}

/* Moves a queue from the busiest worker to the least busy one, if that is worth it. */
static bool relieve(struct load *load, uint64_t generation) {
    uint16_t from = 0, to = 0;
    struct rx_queue *rx;
    int32_t gap;

    for (uint16_t w = 1; w < cv_n_workers; w++) {
        if (load->busy_permille[w] > load->busy_permille[from])
            from = w;
        if (load->busy_permille[w] < load->busy_permille[to])
            to = w;
    }
    gap = gap_after(load, from, to, 0);
    if (gap <= EVEN_PERMILLE)
        return false;
    rx = choose(load, from, to, false);
    if (rx == NULL || gap - abs(gap_after(load, from, to, rx->busy_permille)) < 2 * GAIN_PERMILLE)
        return false;
    give(rx, to, load, generation);
    return true;
}

/* Moves a queue from the worker with most to the one with fewest, unless their loads forbid it. */
static bool even_out(struct load *load, uint64_t generation) {
    uint16_t from = 0, to = 0;
    struct rx_queue *rx;

    for (uint16_t w = 1; w < cv_n_workers; w++) {
        if (has_fewer(load, from, w))
            from = w;
        if (has_fewer(load, w, to))
            to = w;
    }
    if (load->queues[from] - load->queues[to] <= 1)
        return false;
    rx = choose(load, from, to, true);
    if (rx == NULL || gap_after(load, from, to, rx->busy_permille) < -EVEN_PERMILLE)
        return false;
    give(rx, to, load, generation);
    return true;
}

uint32_t cv_balance(uint64_t generation) {
    struct load load = {0};
    uint32_t moved = 0;

    for (int i = 0; i < CV_MAX_PORTS; i++) {
        if (cv_ports[i] != NULL) {
            release(cv_ports[i]);
            count(&load, cv_ports[i]);
        }
    }
    for (int i = 0; i < CV_MAX_PORTS; i++)
        if (cv_ports[i] != NULL)
            place(cv_ports[i], &load, generation);
    /* Bounded: of three workers, one rule may undo what the other does. */
    while (moved < MOVES_MAX && (relieve(&load, generation) || even_out(&load, generation)))
        moved++;
    return moved;
}

/* How busy each queue has kept its worker since this was asked before. */
static void measure(void) {
    static uint64_t before;
    uint64_t now = rte_rdtsc(), elapsed = now - before;

    before = now;
    for (int i = 0; i < CV_MAX_PORTS; i++) {
        for (uint16_t q = 0; cv_ports[i] != NULL && q < cv_ports[i]->queues; q++) {
            struct rx_queue *rx = &cv_ports[i]->rx[q];
            uint64_t cycles = atomic_load(&rx->cycles), spent = cycles - rx->cycles_before;

            /* Rounded up: 0 is none at all. */
            rx->busy_permille = RTE_MIN((spent * 1000 + elapsed - 1) / elapsed, 1000ul);
            rx->cycles_before = cycles;
        }
    }
}

int cv_rebalance(void) {
    uint32_t moved;

    if (cv_n_workers < 2)
        return 0;
    pthread_mutex_lock(&cv_registry_lock);
    measure();
    moved = cv_balance(cv_table_current()->generation + 1);
    pthread_mutex_unlock(&cv_registry_lock);
    if (moved == 0)
        return 0;
    /* A busy queue's ring should not fill while its new worker wakes. */
    for (uint16_t i = 0; i < cv_n_workers; i++)
        cv_worker_wake(&cv_workers[i]);
    usleep(WAKE_US);
    return cv_table_publish(false);
}
