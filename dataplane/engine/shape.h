/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit on what goes to a port: what has no credit yet waits in one bounded queue per port,
 * which all workers fill and one at a time empties, so that no flow changes its order when its
 * receive queue moves between workers.
 */
#ifndef CV_SHAPE_H
#define CV_SHAPE_H

#include <stdint.h>

struct port;
struct shaper;
struct tx_queue;
struct worker;

/*
 * Sets the limit on what goes to a port; a rate of 0 lifts it. The first one allocates. Returns 0
 * or -ENOMEM. Control thread.
 */
int cv_shape_set(struct port *port, uint64_t rate_bits_s, uint64_t burst_bits);

/* Frees a port's shaper, if any, and what still waits there; no worker uses the port any more. */
void cv_shape_free(struct port *port);

/* Sends of a worker's buffer what has credit, holds what has none, drops what has no room. */
void cv_shape(struct worker *worker, struct tx_queue *queue);

/* Sends what has got credit since, of all ports for which this worker held packets. Returns how
 * many packets. */
uint32_t cv_shape_resume(struct worker *worker);

/* Frees what is held for ports that are going. Before the worker says that it has let go of them.
 */
void cv_shape_let_go(struct worker *worker);

#endif
