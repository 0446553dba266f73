/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which worker serves which receive queue. Queues are given to workers, and taken from one to be
 * given to another, only while a table is built; a worker begins with a queue that it was given
 * when every worker uses that table or a later one, so that the one before has let go.
 */
#ifndef CV_BALANCE_H
#define CV_BALANCE_H

#include <stdint.h>

/*
 * Gives every queue in service to a worker, for the table of this generation: a port's own queues
 * to as many workers as possible; then those that were busy of late so that no worker is much
 * busier than another; then all of them in equal numbers. Leaves them where they are if that will
 * do. Returns how many moved. Under the registry's lock.
 */
uint32_t cv_balance(uint64_t generation);

#endif
