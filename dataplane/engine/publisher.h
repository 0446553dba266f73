/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that frontends ask for, by switching queues: each costs every worker a moment, so that
 * there are few of them, however often is asked. The last wish is always met.
 */
#ifndef CV_PUBLISHER_H
#define CV_PUBLISHER_H

/* Returns 0 or a negative errno. Control thread, as is stop. */
int cv_publisher_start(void);

/* No table is published any more by what was asked before. */
void cv_publisher_stop(void);

/* Has a table published soon: at once, or some milliseconds after the one before. Thread-safe. */
void cv_publish_soon(void);

#endif
