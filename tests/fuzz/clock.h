/* SPDX-License-Identifier: Apache-2.0 */
/* Included before all else: the engine's TSC is a variable, so that an input does the same twice.
 */
#ifndef FUZZ_CLOCK_H
#define FUZZ_CLOCK_H

#include <rte_cycles.h>
#include <stdint.h>

extern uint64_t fuzz_tsc;

#define rte_rdtsc() fuzz_tsc

#endif
