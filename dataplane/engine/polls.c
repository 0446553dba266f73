/* SPDX-License-Identifier: Apache-2.0 */
#include "polls.h"

#include <rte_cycles.h>
#include <stdlib.h>

#include "shape.h"
#include "watch.h"

/* By port id and queue, as both arrays are sorted. */
static bool is_before(const struct poll *poll, const struct rx_assignment *assigned) {
    return poll->port->id < assigned->port->id ||
           (poll->port->id == assigned->port->id && poll->queue < assigned->queue);
}

static bool is_same(const struct poll *poll, const struct rx_assignment *assigned) {
    return poll->port == assigned->port && poll->queue == assigned->queue &&
           poll->service == assigned->service && poll->since == assigned->since;
}

void cv_polls_adopt(struct worker *worker, struct table *table) {
    const struct worker_view *view = &table->workers[worker->index];
    struct poll *polls = calloc(view->n + 1, sizeof(*polls)), *old = worker->polls;
    struct poll **due = calloc(view->n + 1, sizeof(struct poll *));
    struct poll *end = old == NULL ? NULL : old + worker->n_polls;

    if (polls == NULL || due == NULL) {
        free(polls);
        free(due);
        return; /* tried again next round */
    }
    for (uint32_t i = 0; i < view->n; i++) {
        const struct rx_assignment *assigned = &view->queues[i];

        while (old < end && is_before(old, assigned))
            cv_unwatch(worker, old++);
        if (old < end && is_same(old, assigned))
            polls[i] = *old++;
        else
            polls[i] = (struct poll){.port = assigned->port,
                                     .queue = assigned->queue,
                                     .home = assigned->home,
                                     .service = assigned->service,
                                     .since = assigned->since,
                                     .waits = true};
    }
    while (old < end)
        cv_unwatch(worker, old++);
    free(worker->polls);
    free(worker->due);
    worker->polls = polls;
    worker->n_polls = view->n;
    worker->due = due;
    worker->due_stale = true;
    worker->epoch++;
    for (uint32_t i = 0; i < view->n; i++)
        if (polls[i].armed)
            cv_watch_moved(worker, &polls[i]);
    worker->table = table;
    worker->stats.rx_queues = view->n;
    cv_shape_let_go(worker);
    worker->now = rte_rdtsc(); /* no queue is to be charged for it */
    atomic_store(&worker->generation, table->generation);
}

bool cv_poll_may_begin(struct poll *poll) {
    for (uint16_t i = 0; i < cv_n_workers; i++)
        if (atomic_load(&cv_workers[i].generation) < poll->since)
            return false;
    poll->waits = false;
    return true;
}
