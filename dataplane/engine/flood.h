/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the broadcasts and multicasts of one container may cost all others. A frame takes a worker
 * as long as its copies do, and there is one for each member of the network. So each container may
 * have a share of a worker's time made up of copies; what is over it is dropped. A rate of frames
 * or copies would not do: a copy to a tap costs thirty times one to a ring in shared memory.
 */
#ifndef CV_FLOOD_H
#define CV_FLOOD_H

#include <stdbool.h>
#include <stdint.h>

struct port;
struct worker;

/* Gives a new port its share, unused. */
void cv_flood_begin(struct port *port);

/* Says whether so many copies of a frame from a port may be made, and takes their cost if so. */
bool cv_flood_admit(struct worker *worker, struct port *port, uint32_t copies);

/* Takes note of what the copies of a burst, all sent by now, have cost. */
void cv_flood_measure(struct worker *worker, struct port *port);

#endif
