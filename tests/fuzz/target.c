/* SPDX-License-Identifier: Apache-2.0 */
/* The fuzz target: frames of one port through the engine to all others, until nothing is left. */
#include "fuzz.h"

#include <rte_cycles.h>

#define ROUNDS_WITH_LIMITS 8
#define ROUNDS_MAX 200

static uint32_t n_taken[2]; /* frames looked at, of each queue */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* Pointers from DPDK's memory are not seen. */
const char *__asan_default_options(void) {
    return "detect_leaks=0:detect_stack_use_after_return=0";
}

struct frame *frame_next(int number, uint16_t queue) {
    if (number != input.ingress)
        return NULL;
    while (n_taken[queue] < input.n_frames) {
        struct frame *frame = &input.frames[n_taken[queue]++];

        if (!fuzz_ports[number].has_two_queues || frame->queue == queue)
            return frame;
    }
    return NULL;
}

static bool is_pending(void) {
    if (fuzz_ports[input.ingress].kind == CV_KIND_VHOST && frontend_pending(input.ingress))
        return true;
    for (uint16_t q = 0; q <= fuzz_ports[input.ingress].has_two_queues; q++)
        if (n_taken[q] < input.n_frames)
            return true;
    return false;
}

static void feed(void) {
    if (fuzz_ports[input.ingress].kind == CV_KIND_VHOST && !frontend_pending(input.ingress))
        frontend_feed(input.ingress);
}

/* Time goes by, packets get through, and whatever the input has taken away is there again. */
static void drain(void) {
    allocations_left = UINT32_MAX;
    topology_lift_limits();
    for (int rounds = 0; is_pending() || rounds < 2; rounds++) {
        REQUIRE(rounds < ROUNDS_MAX, "frames are not taken by the engine");
        feed();
        rounds_run(1, rte_get_tsc_hz());
    }
    nic_send_kept();
    rounds_end();
}

/* What is for a group may be for nobody, and a wrong csum_start makes groups of stations. */
static bool may_be_for_nobody(const struct frame *frame) {
    return frame->bytes[0] & 1 || frame->vnet.csum_start + frame->vnet.csum_offset < 2;
}

/* Every packet that was received was sent, or its drop counted; some were sent more than once. */
static void check_counters(void) {
    static uint64_t received_before, done_before;
    uint64_t received = 0, done = 0, n_for_nobody = 0;

    for (uint32_t i = 0; i < input.n_frames; i++)
        n_for_nobody += may_be_for_nobody(&input.frames[i]);

    for (int i = 0; i < N_PORTS; i++) {
        const struct port *port = fuzz_ports[i].port;
        const struct lane *lane = port->lanes[0];

        for (uint16_t q = 0; q < port->queues; q++) {
            received += port->rx[q].packets;
            done += lane->tx[q].packets;
        }
        for (int reason = 0; reason < CV_DROP_COUNT; reason++)
            done += lane->drops[reason];
    }
    done += n_for_nobody;
    REQUIRE(received - received_before <= done - done_before, "%lu packets vanished uncounted",
            received - received_before - (done - done_before));
    received_before = received;
    done_before = done - n_for_nobody;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    topology_start();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_read(data, size);
    n_taken[0] = n_taken[1] = 0;
    origin_begin();
    topology_apply();
    allocations_left = input.allocations;
    for (int i = 0; i < (input.limits ? ROUNDS_WITH_LIMITS : 1); i++) {
        if (i == ROUNDS_WITH_LIMITS / 2)
            topology_lower_limits();
        feed();
        rounds_run(1, rte_get_tsc_hz() / 1000);
    }
    drain();
    REQUIRE(buffers_in_use() == 0, "%u packet buffers are lost", buffers_in_use());
    check_counters();
    return 0;
}
