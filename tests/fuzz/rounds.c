/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's rounds, one by one, in the thread of the fuzzer. */
#include "worker.c"

#include "fuzz.h"

uint64_t fuzz_tsc = UINT64_C(1) << 40;

/* The worker that cv_start() has launched has taken up the ports; it ends here. */
void rounds_take_over(void) {
    struct worker *worker = &cv_workers[0];

    atomic_store(&worker->stop, true);
    rte_eal_wait_lcore(worker->lcore);
}

void rounds_run(uint32_t n, uint64_t cycles_each) {
    struct worker *worker = &cv_workers[0];
    bool is_busy;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t packets;

        worker->now = fuzz_tsc;
        packets = one_round(worker, &is_busy);
        fuzz_tsc += cycles_each;
        worker->now_s = fuzz_tsc / rte_get_tsc_hz();
        count_round(worker, cycles_each, packets, is_busy);
    }
}

/* What it keeps for later must not make a difference to the next input. */
void rounds_end(void) {
    rte_pktmbuf_free(cv_workers[0].jumbo);
    cv_workers[0].jumbo = NULL;
}
