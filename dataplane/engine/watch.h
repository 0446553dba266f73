/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues without traffic are not polled but watched: their notifications are switched on and their
 * fds are in the worker's epoll set. A worker that watches all of its queues sleeps.
 */
#ifndef CV_WATCH_H
#define CV_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "worker.h"

/* Makes the epoll set and the fd that wakes the worker. Returns 0 or a negative errno. */
int cv_watch_open(struct worker *worker);

void cv_watch_close(struct worker *worker);

/* Begins to watch a queue. Returns false if its port cannot notify: it must go on being polled. */
bool cv_watch(struct worker *worker, struct poll *poll);

/* Ceases to watch a queue, if it is watched. */
void cv_unwatch(struct worker *worker, struct poll *poll);

/* Tells the epoll set a queue's place in a new array of polls. */
void cv_watch_moved(struct worker *worker, const struct poll *poll);

/* Has queues that became readable polled again, without waiting. */
void cv_watch_collect(struct worker *worker);

/*
 * Sleeps until a queue is readable, somebody wakes the worker, credit comes, or the time is up.
 * Returns false when the time was up.
 */
bool cv_watch_sleep(struct worker *worker);

#endif
