/* SPDX-License-Identifier: Apache-2.0 */
/* The queues that a worker serves, as a new table gives and takes them. */
#ifndef CV_POLLS_H
#define CV_POLLS_H

#include <stdbool.h>

#include "worker.h"

/*
 * Takes up the table in force. A queue that is in both stays as it is; one that is new waits until
 * no other worker can have it. The old table's ports are whole until the new generation is told.
 * Without memory nothing changes; it is to be tried again.
 */
void cv_polls_adopt(struct worker *worker, struct table *table);

/* Says whether every worker uses the table that gave this queue to this one, or a later one. */
bool cv_poll_may_begin(struct poll *poll);

#endif
