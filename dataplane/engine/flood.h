/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the broadcasts and multicasts of one container may cost all others. A frame takes a worker
 * as long as its copies do, and there is one for each member of the network. So each container may
 * have a share of a worker's time made up of copies; what is over it is dropped. A rate of frames
 * or copies would not do: a copy to a tap costs thirty times one to a ring in shared memory. Each
 * kind of port has its price: what is measured, a container could drive down.
 */
#ifndef CV_FLOOD_H
#define CV_FLOOD_H

#include <stdbool.h>
#include <stdint.h>

struct port;

/* Gives a new port its share, unused. */
void cv_flood_begin(struct port *port);

/* Says whether a port may have copies made that take about ns, and charges it with that if so. */
bool cv_flood_admit(struct port *port, uint32_t ns);

#endif
