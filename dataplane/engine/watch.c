/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include <errno.h>
#include <rte_common.h>
#include <rte_cycles.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"

/* A ring of 1024 takes 69 us to fill with 64-byte frames at 10 Gbit/s, and waking takes time too.
 */
#define SLEEP_POLLED_NS 20000

/* What a lost notification may cost. */
#define SLEEP_WATCHED_NS 100000000

#define NS_PER_S 1000000000
#define US_PER_S 1000000

#define EVENTS_MAX 64
#define WAKE_TOKEN UINT64_MAX

/* An event names its queue by place and epoch: a frontend can keep an fd, and its event, alive. */
static uint64_t token_of(const struct worker *worker, const struct poll *poll) {
    return (uint64_t)worker->epoch << 32 | (uint32_t)(poll - worker->polls);
}

static struct poll *poll_of(struct worker *worker, uint64_t token) {
    uint32_t index = token;

    if (token >> 32 != worker->epoch || index >= worker->n_polls || !worker->polls[index].armed)
        return NULL;
    return &worker->polls[index];
}

int cv_watch_open(struct worker *worker) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TOKEN};
    struct timespec none = {0};

    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->epoll_fd < 0 || worker->wake_fd < 0 ||
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event) < 0)
        return cv_fail(errno, "worker on core %u cannot be set up: %s", worker->core,
                       strerror(errno));
    if (epoll_pwait2(worker->epoll_fd, &event, 1, &none, NULL) < 0)
        return cv_fail(errno,
                       "worker on core %u cannot sleep: epoll_pwait2: %s (Linux 5.11 has it)",
                       worker->core, strerror(errno));
    return 0;
}

void cv_watch_close(struct worker *worker) {
    close(worker->epoll_fd);
    close(worker->wake_fd);
}

void cv_worker_wake(struct worker *worker) {
    uint64_t one = 1, never = 0;

    if (!atomic_load(&worker->asleep))
        return;
    atomic_compare_exchange_strong(&worker->called, &never, rte_rdtsc());
    if (write(worker->wake_fd, &one, sizeof(one)) < 0)
        return; /* EAGAIN: it is about to wake anyway */
}

bool cv_watch(struct worker *worker, struct poll *poll) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.u64 = token_of(worker, poll)};
    int fd = poll->port->ops->arm(poll->port, poll->queue);

    if (fd < 0)
        return false;
    if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        poll->port->ops->disarm(poll->port, poll->queue, fd);
        return false;
    }
    poll->fd = fd;
    poll->armed = true;
    worker->due_stale = true;
    worker->n_armed++;
    return true;
}

void cv_unwatch(struct worker *worker, struct poll *poll) {
    if (!poll->armed)
        return;
    epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, poll->fd, NULL);
    poll->port->ops->disarm(poll->port, poll->queue, poll->fd);
    poll->armed = false;
    worker->due_stale = true;
    poll->empty_rounds = 0;
    worker->n_armed--;
}

void cv_watch_moved(struct worker *worker, const struct poll *poll) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.u64 = token_of(worker, poll)};

    epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, poll->fd, &event);
}

static int collect(struct worker *worker, int64_t timeout_ns) {
    struct timespec timeout = {.tv_nsec = timeout_ns};
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_pwait2(worker->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
    uint64_t wakes;

    for (int i = 0; i < n; i++) {
        struct poll *poll = poll_of(worker, events[i].data.u64);

        /* Without EPOLLIN it is an error that stays, such as a tap deleted by its container. */
        if (poll != NULL && events[i].events & EPOLLIN)
            cv_unwatch(worker, poll);
        else if (events[i].data.u64 == WAKE_TOKEN &&
                 read(worker->wake_fd, &wakes, sizeof(wakes)) < 0)
            continue;
    }
    return n;
}

void cv_watch_collect(struct worker *worker) {
    if (worker->n_armed > 0)
        collect(worker, 0);
}

/* Late against its timer or the call that woke it; when a queue became readable is not known. */
static void count_wake(struct worker *worker, uint64_t slept, int64_t timeout_ns, bool timed_out) {
    uint64_t now = rte_rdtsc(), hz = rte_get_tsc_hz(), due = slept + timeout_ns * hz / NS_PER_S;
    uint64_t called = atomic_exchange(&worker->called, 0), late;

    if (called > slept && called < now)
        due = called;
    else if (!timed_out || due > now)
        return;
    late = now - due;
    worker->stats.wake_cycles += late;
    worker->stats.wakes[RTE_MIN(rte_log2_u64(late * US_PER_S / hz + 1), CV_WAKE_BUCKETS - 1U)]++;
}

/* No longer than until somebody gets credit. */
static int64_t until_due_ns(const struct worker *worker, uint64_t now, int64_t timeout_ns) {
    uint64_t hz = rte_get_tsc_hz();

    if (worker->due_at <= now)
        return 0;
    if (worker->due_at - now > hz)
        return timeout_ns;
    return RTE_MIN(timeout_ns, (int64_t)((worker->due_at - now) * NS_PER_S / hz));
}

bool cv_watch_sleep(struct worker *worker) {
    bool all_watched = worker->n_armed + worker->n_paused == worker->n_polls;
    int64_t most_ns = all_watched ? SLEEP_WATCHED_NS : SLEEP_POLLED_NS;
    uint64_t slept = rte_rdtsc();
    int64_t timeout_ns = until_due_ns(worker, slept, most_ns);
    int n = 1;

    atomic_store(&worker->asleep, true);
    /* Published before we said that we sleep? Then nobody wakes us. */
    if (cv_table_current() == worker->table && !atomic_load(&worker->stop))
        n = collect(worker, timeout_ns);
    atomic_store(&worker->asleep, false);
    count_wake(worker, slept, timeout_ns, n == 0);
    worker->stats.sleeps++;
    return n != 0 || !all_watched || timeout_ns < most_ns;
}
