/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's round: poll what is due, switch, send; and sleep when there is nothing. */
#include "worker.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "error.h"
#include "limit.h"
#include "polls.h"
#include "shape.h"
#include "watch.h"

/* A queue that gave nothing for so many rounds is no longer polled but watched. */
#define EMPTY_ROUNDS_BEFORE_WATCH 512

/* The watched queues are looked at after so many rounds, or so much time, with traffic. */
#define ROUNDS_PER_COLLECT 32
#define COLLECTS_PER_S 40000

/* Rounds without a packet before a worker sleeps. */
#define EMPTY_ROUNDS_BEFORE_SLEEP 2048

/* Of what a port may have in one piece: 65,535 bytes of IP. */
#define LARGEST_FRAME_BYTES 65549

#define ROUNDS_PER_CLOCK 1024
#define LOOKS_AFTER_PER_S 10
#define WAIT_US 20

struct worker cv_workers[CV_MAX_WORKERS];
uint16_t cv_n_workers;

void cv_workers_quiesce(void) {
    for (uint16_t i = 0; i < cv_n_workers; i++) {
        struct worker *worker = &cv_workers[i];
        uint64_t begun = atomic_load(&worker->rounds_begun);

        while (atomic_load(&worker->rounds_begun) < begun + 2) {
            cv_worker_wake(worker);
            usleep(WAIT_US);
        }
    }
}

/*
 * Ends a turn in which n packets came: it has taken the time since the one before ended. A trunk
 * owes one quantum at most: what comes there for all containers must not have its ring overflow.
 */
static void end_turn(struct worker *worker, struct poll *poll, uint16_t n) {
    struct rx_queue *rx = &poll->port->rx[poll->queue];
    uint64_t now = rte_rdtsc(), cycles = now - worker->now;
    int64_t charged = cycles;

    worker->now = now;
    if (unlikely(cv_is_trunk(poll->port)))
        charged = RTE_MIN(charged, worker->laps.quantum);
    cv_turn_end(&worker->laps, &poll->turn, n, charged);
    if (!worker->charges || n == 0)
        return;
    cycles += atomic_load_explicit(&rx->cycles, memory_order_relaxed);
    atomic_store_explicit(&rx->cycles, cycles, memory_order_relaxed);
}

static void charge_egress(struct port *port, struct rte_mbuf **packets, uint16_t n) {
    uint64_t bytes = 0;

    for (uint16_t i = 0; i < n; i++)
        bytes += cv_limit_wire_bytes(packets[i]);
    cv_limit_charge(&port->egress, rte_rdtsc(), bytes);
}

static void count(struct rx_queue *rx, struct rte_mbuf **packets, uint16_t n) {
    for (uint16_t i = 0; i < n; i++) {
        rx->bytes += packets[i]->pkt_len;
        rx->gso_packets +=
            (packets[i]->ol_flags & (RTE_MBUF_F_RX_LRO | RTE_MBUF_F_TX_TCP_SEG)) != 0;
    }
    rx->packets += n;
}

static uint16_t serve(struct worker *worker, struct poll *poll, uint16_t most) {
    struct rx_queue *rx = &poll->port->rx[poll->queue];
    struct rte_mbuf *packets[CV_BURST];
    uint16_t n = poll->port->ops->rx(worker, poll->port, poll->queue, packets, most);

    if (n > 0) {
        count(rx, packets, n);
        if (unlikely(atomic_load_explicit(&poll->port->has_egress_limit, memory_order_relaxed)))
            charge_egress(poll->port, packets, n);
        worker->home = poll->home;
        cv_switch(worker, poll->port, packets, n);
        cv_transmit_flush(worker);
    }
    end_turn(worker, poll, n);
    return n;
}

/* What came before the notification was switched on is served at once. */
static uint16_t begin_to_watch(struct worker *worker, struct poll *poll) {
    uint16_t n;

    poll->empty_rounds = 0;
    if (!cv_watch(worker, poll))
        return 0;
    n = serve(worker, poll, CV_BURST);
    if (n > 0)
        cv_unwatch(worker, poll);
    return n;
}

/*
 * How many packets may be taken off a queue of a port with a limit. Without credit none: its ring
 * or qdisc fills, which the container's end feels, and nothing is lost. With little of it few, as
 * each may be as large as a frame gets.
 */
static uint16_t allowance(struct worker *worker, struct poll *poll) {
    struct limit *limit = &poll->port->egress;
    uint64_t now = rte_rdtsc();
    uint64_t resume_at = atomic_load_explicit(&limit->resume_at, memory_order_relaxed);
    int64_t credit;

    if (now >= resume_at) {
        credit = cv_limit_credit(limit, now);
        if (credit > 0)
            return 1 + RTE_MIN(credit / (cv_limit_cost(limit, LARGEST_FRAME_BYTES) + 1),
                               CV_BURST - 1ul);
        resume_at = cv_limit_pause(limit, now);
        poll->port->rx[poll->queue].pauses++;
    }
    worker->due_at = RTE_MIN(worker->due_at, resume_at);
    worker->n_paused++;
    return 0;
}

static uint16_t may_take(struct worker *worker, struct poll *poll) {
    uint16_t most = CV_BURST;

    if (unlikely(atomic_load_explicit(&poll->port->has_egress_limit, memory_order_relaxed)))
        most = allowance(worker, poll);
    if (most == 0) {
        cv_turn_end(&worker->laps, &poll->turn, 0, 0);
        return 0;
    }
    return RTE_MIN(most, cv_turn_begin(&worker->laps, &poll->turn, poll->port->ops->rx_least));
}

/* No queue is to be charged for what has been done since the last turn. */
static void charge_nobody(struct worker *worker) {
    uint64_t now = rte_rdtsc();

    worker->laps.looking += now - worker->now;
    worker->now = now;
}

/* A round must not cost what ports without traffic cost to look at. */
static void list_due(struct worker *worker) {
    worker->due_stale = false;
    worker->n_due = 0;
    for (uint32_t i = 0; i < worker->n_polls; i++)
        if (!worker->polls[i].armed)
            worker->due[worker->n_due++] = &worker->polls[i];
    cv_laps_change(&worker->laps);
}

static uint32_t round_of_polls(struct worker *worker) {
    uint32_t n, sum = 0;
    bool skipped = false;

    if (worker->due_stale)
        list_due(worker);
    for (uint32_t i = 0; i < worker->n_due; i++) {
        struct poll *poll = worker->due[i];
        uint16_t most;

        if (poll->armed || (unlikely(poll->waits) && !cv_poll_may_begin(poll)))
            continue;
        most = may_take(worker, poll);
        if (most == 0) {
            skipped = true;
            continue;
        }
        if (skipped)
            charge_nobody(worker);
        skipped = false;
        n = serve(worker, poll, most);
        if (n > 0)
            poll->empty_rounds = 0;
        else if (++poll->empty_rounds >= EMPTY_ROUNDS_BEFORE_WATCH && worker->may_sleep)
            n = begin_to_watch(worker, poll);
        sum += n;
    }
    return sum;
}

/* A look at every watched queue: a notification can be lost when buffers were short. */
static void look_after(struct worker *worker, uint64_t now) {
    worker->looked_after_at = now;
    worker->now = rte_rdtsc();
    for (uint32_t i = 0; i < worker->n_polls; i++) {
        struct poll *poll = &worker->polls[i];

        if (poll->armed && serve(worker, poll, CV_BURST) > 0)
            cv_unwatch(worker, poll);
    }
}

static void count_round(struct worker *worker, uint64_t cycles, uint32_t packets, bool is_busy) {
    worker->stats.rounds++;
    if (is_busy) {
        worker->stats.busy_cycles += cycles;
        worker->stats.packets += packets;
    } else {
        worker->stats.idle_cycles += cycles;
        worker->stats.empty_rounds++;
    }
}

static void collect(struct worker *worker) {
    cv_watch_collect(worker);
    worker->collect_at = worker->now + rte_get_tsc_hz() / COLLECTS_PER_S;
}

/* Returns how many packets came; those that waited and went, too, make it busy. */
static uint32_t one_round(struct worker *worker, bool *is_busy) {
    struct table *table = cv_table_current();
    uint32_t n, resumed = 0;

    if (unlikely(table != worker->table))
        cv_polls_adopt(worker, table);
    atomic_store(&worker->rounds_begun, worker->stats.rounds + 1);
    worker->due_at = UINT64_MAX;
    worker->n_paused = 0;
    if (unlikely(worker->holding != NULL)) {
        resumed = cv_shape_resume(worker);
        worker->now = rte_rdtsc();
    }
    n = round_of_polls(worker);
    cv_laps_end_round(&worker->laps);
    *is_busy = n + resumed > 0;
    if (worker->stats.rounds % ROUNDS_PER_COLLECT == 0 || worker->now >= worker->collect_at)
        collect(worker);
    return n;
}

/* Whether all that it has to do is to wait for credit, or to be told of packets. */
static bool only_waits(const struct worker *worker) {
    return worker->due_at != UINT64_MAX && worker->n_armed + worker->n_paused == worker->n_polls;
}

static int run(void *argument) {
    struct worker *worker = argument;
    uint64_t hz = rte_get_tsc_hz(), before = rte_rdtsc(), now;
    uint32_t empty_rounds = 0, n;
    bool is_busy;

    /* The default of 50 us would be added to every short sleep. */
    prctl(PR_SET_TIMERSLACK, 1);
    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        worker->now = before;
        n = one_round(worker, &is_busy);
        now = rte_rdtsc();
        count_round(worker, now - before, n, is_busy);
        before = now;
        empty_rounds = is_busy ? 0 : empty_rounds + 1;
        if (worker->stats.rounds % ROUNDS_PER_CLOCK == 0)
            worker->now_s = now / hz;
        if (worker->may_sleep && (empty_rounds > EMPTY_ROUNDS_BEFORE_SLEEP ||
                                  (empty_rounds > 0 && only_waits(worker)))) {
            /* Also where credit or traffic of some never let it sleep its time. */
            if (!cv_watch_sleep(worker) || now - worker->looked_after_at > hz / LOOKS_AFTER_PER_S)
                look_after(worker, now);
            now = rte_rdtsc();
            worker->collect_at = now + hz / COLLECTS_PER_S;
            worker->stats.sleep_cycles += now - before;
            worker->now_s = now / hz;
            before = now;
        }
    }
    atomic_store(&worker->rounds_begun, UINT64_MAX); /* nobody need wait for more of them */
    return 0;
}

static int set_up(struct worker *worker, uint16_t index, const struct cv_options *options) {
    memset(worker, 0, sizeof(*worker));
    worker->index = index;
    worker->core = worker->stats.core = options->cores[index];
    worker->lcore = index + 1;
    worker->may_sleep = !options->poll;
    worker->charges = options->n_workers > 1;
    cv_laps_begin(&worker->laps);
    return cv_watch_open(worker);
}

int cv_workers_start(const struct cv_options *options) {
    for (uint16_t i = 0; i < options->n_workers; i++) {
        int ret = set_up(&cv_workers[i], i, options);

        if (ret < 0)
            return ret;
    }
    cv_n_workers = options->n_workers;
    if (cv_table_publish(false) < 0)
        return -ENOMEM;
    for (uint16_t i = 0; i < cv_n_workers; i++) {
        int ret = rte_eal_remote_launch(run, &cv_workers[i], cv_workers[i].lcore);

        if (ret < 0)
            return cv_fail(-ret, "worker on core %u does not start: %s", cv_workers[i].core,
                           strerror(-ret));
    }
    return 0;
}

void cv_workers_stop(void) {
    for (uint16_t i = 0; i < cv_n_workers; i++) {
        struct worker *worker = &cv_workers[i];

        atomic_store(&worker->stop, true);
        cv_worker_wake(worker);
        rte_eal_wait_lcore(worker->lcore);
        rte_pktmbuf_free(worker->jumbo);
        cv_watch_close(worker);
        free(worker->polls);
        free(worker->due);
    }
    cv_n_workers = 0;
    cv_table_free();
}
