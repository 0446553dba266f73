/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's round: poll what is due, switch, send; and sleep when there is nothing. */
#include "worker.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"

/* A queue that gave nothing for so many rounds is no longer polled but watched. */
#define EMPTY_ROUNDS_BEFORE_ARM 512

/* Rounds between two looks at the watched queues while there is traffic. */
#define ROUNDS_PER_WATCH 32

/* Rounds without a packet before a worker sleeps. */
#define EMPTY_ROUNDS_BEFORE_SLEEP 2048

/* A ring of 1024 takes 69 us to fill with 64-byte frames at 10 Gbit/s. */
#define SLEEP_POLLED_NS 50000
#define SLEEP_WATCHED_NS 100000000

#define EVENTS_MAX 64
#define WAKE_EVENT UINT32_MAX

struct worker cv_workers[CV_MAX_WORKERS];
uint16_t cv_n_workers;

void cv_worker_wake(struct worker *worker) {
    uint64_t one = 1;

    if (atomic_load(&worker->asleep) && write(worker->wake_fd, &one, sizeof(one)) < 0)
        return; /* EAGAIN: it is about to wake anyway */
}

static void unwatch(struct worker *worker, struct poll *poll) {
    if (!poll->armed)
        return;
    epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, poll->fd, NULL);
    poll->port->ops->disarm(poll->port, poll->queue);
    poll->armed = false;
    poll->empty_rounds = 0;
    worker->n_armed--;
}

/* Takes up the table in force. The old one's ports are still whole until the generation is told. */
static void adopt(struct worker *worker, struct table *table) {
    const struct worker_view *view = &table->workers[worker->index];
    struct poll *polls = calloc(view->n + 1, sizeof(*polls));

    if (polls == NULL)
        return; /* tried again next round */
    for (uint32_t i = 0; i < worker->n_polls; i++)
        unwatch(worker, &worker->polls[i]);
    free(worker->polls);
    for (uint32_t i = 0; i < view->n; i++)
        polls[i] = (struct poll){.port = view->queues[i].port, .queue = view->queues[i].queue};
    worker->polls = polls;
    worker->n_polls = view->n;
    worker->table = table;
    worker->stats.rx_queues = view->n;
    atomic_store(&worker->generation, table->generation);
}

static uint16_t serve(struct worker *worker, struct poll *poll) {
    struct rx_queue *rx = &poll->port->rx[poll->queue];
    struct rte_mbuf *packets[CV_BURST];
    uint16_t n = poll->port->ops->rx(worker, poll->port, poll->queue, packets, CV_BURST);

    if (n == 0)
        return 0;
    for (uint16_t i = 0; i < n; i++) {
        rx->bytes += packets[i]->pkt_len;
        rx->gso_packets +=
            (packets[i]->ol_flags & (RTE_MBUF_F_RX_LRO | RTE_MBUF_F_TX_TCP_SEG)) != 0;
    }
    rx->packets += n;
    cv_switch(worker, poll->port, packets, n);
    cv_transmit_flush(worker);
    return n;
}

/* From polled to watched. What came in between is served at once. */
static uint16_t watch(struct worker *worker, struct poll *poll) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = poll - worker->polls};
    uint16_t n;

    poll->empty_rounds = 0;
    poll->fd = poll->port->ops->arm(poll->port, poll->queue);
    if (poll->fd < 0)
        return 0;
    if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, poll->fd, &event) < 0) {
        poll->port->ops->disarm(poll->port, poll->queue);
        return 0;
    }
    poll->armed = true;
    worker->n_armed++;
    n = serve(worker, poll);
    if (n > 0)
        unwatch(worker, poll);
    return n;
}

static uint16_t round_of_polls(struct worker *worker) {
    uint16_t n, sum = 0;

    for (uint32_t i = 0; i < worker->n_polls; i++) {
        struct poll *poll = &worker->polls[i];

        if (poll->armed)
            continue;
        n = serve(worker, poll);
        if (n > 0)
            poll->empty_rounds = 0;
        else if (++poll->empty_rounds >= EMPTY_ROUNDS_BEFORE_ARM && worker->may_sleep)
            n = watch(worker, poll);
        sum += n;
    }
    return sum;
}

/* Queues that were readable are polled again. */
static void collect(struct worker *worker, int64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = 0, .tv_nsec = timeout_ns};
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_pwait2(worker->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
    uint64_t wakes;

    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 != WAKE_EVENT)
            unwatch(worker, &worker->polls[events[i].data.u32]);
        else if (read(worker->wake_fd, &wakes, sizeof(wakes)) < 0)
            continue;
    }
}

static void sleep_until_needed(struct worker *worker) {
    bool all_watched = worker->n_armed == worker->n_polls;

    atomic_store(&worker->asleep, true);
    /* Published before we said that we sleep? Then nobody wakes us. */
    if (cv_table_current() == worker->table && !atomic_load(&worker->stop))
        collect(worker, all_watched ? SLEEP_WATCHED_NS : SLEEP_POLLED_NS);
    atomic_store(&worker->asleep, false);
    worker->stats.sleeps++;
}

static void count_round(struct worker *worker, uint64_t cycles, uint16_t packets) {
    worker->stats.rounds++;
    if (packets > 0) {
        worker->stats.busy_cycles += cycles;
        worker->stats.packets += packets;
    } else {
        worker->stats.idle_cycles += cycles;
        worker->stats.empty_rounds++;
    }
}

static int run(void *argument) {
    struct worker *worker = argument;
    uint64_t hz = rte_get_tsc_hz(), before = rte_rdtsc(), now;
    uint32_t empty_rounds = 0;

    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        struct table *table = cv_table_current();
        uint16_t n;

        if (unlikely(table != worker->table))
            adopt(worker, table);
        n = round_of_polls(worker);
        if (worker->n_armed > 0 && worker->stats.rounds % ROUNDS_PER_WATCH == 0)
            collect(worker, 0);
        now = rte_rdtsc();
        count_round(worker, now - before, n);
        before = now;
        empty_rounds = n > 0 ? 0 : empty_rounds + 1;
        if (worker->stats.rounds % 1024 == 0)
            worker->now_s = now / hz;
        if (worker->may_sleep && empty_rounds > EMPTY_ROUNDS_BEFORE_SLEEP) {
            sleep_until_needed(worker);
            now = rte_rdtsc();
            worker->stats.sleep_cycles += now - before;
            worker->now_s = now / hz;
            before = now;
        }
    }
    return 0;
}

static int set_up(struct worker *worker, uint16_t index, const struct cv_options *options) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = WAKE_EVENT};

    memset(worker, 0, sizeof(*worker));
    worker->index = index;
    worker->core = worker->stats.core = options->cores[index];
    worker->lcore = index + 1;
    worker->may_sleep = !options->poll;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->dirty = calloc(2 * CV_MAX_PORTS, sizeof(struct tx_queue *));
    if (worker->epoll_fd < 0 || worker->wake_fd < 0 || worker->dirty == NULL ||
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event) < 0)
        return cv_fail(errno, "worker on core %u cannot be set up: %s", worker->core,
                       strerror(errno));
    return 0;
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
        rte_pktmbuf_free(worker->spill);
        close(worker->epoll_fd);
        close(worker->wake_fd);
        free(worker->polls);
        free(worker->dirty);
    }
    cv_n_workers = 0;
    cv_table_free();
}
