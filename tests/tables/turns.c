/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's turns alone, in a time of its own. By line of standard input: "queue COST_NS EVERY_NS
 * LOOK_NS", a queue whose packets cost so much to move and come so often from the first millisecond
 * on (0: there are always more), or so much to look at if there is none; and "run MS". That is
 * answered by a line for each queue: packets, nanoseconds spent on them, the longest time that one
 * had waited.
 */
#include <inttypes.h>
#include <rte_common.h>
#include <stdio.h>

#include "turn.h"

#define QUEUES_MAX 512
#define LEAST 2
#define SKIP_NS 10
#define ROUND_NS 50
#define HZ 1000000000
#define NS_PER_MS 1000000

struct queue {
    struct turn turn;
    uint64_t cost_ns, every_ns, look_ns, next_at, packets, spent_ns, waited_ns;
};

static struct queue queues[QUEUES_MAX];
static int n_queues;
static uint64_t now;

uint64_t rte_get_tsc_hz(void) {
    return HZ;
}

static uint64_t pending(const struct queue *queue) {
    if (queue->every_ns == 0)
        return UINT16_MAX;
    return now < queue->next_at ? 0 : 1 + (now - queue->next_at) / queue->every_ns;
}

static void serve(struct laps *laps, struct queue *queue) {
    uint64_t n = cv_turn_begin(laps, &queue->turn, LEAST), cycles;

    if (n == 0) {
        now += SKIP_NS;
        laps->looking += SKIP_NS;
        return;
    }
    n = RTE_MIN(n, pending(queue));
    if (n > 0 && queue->every_ns > 0) {
        queue->waited_ns = RTE_MAX(queue->waited_ns, now - queue->next_at);
        queue->next_at += n * queue->every_ns;
    }
    cycles = n > 0 ? n * queue->cost_ns : queue->look_ns;
    now += cycles;
    queue->packets += n;
    queue->spent_ns += cycles;
    cv_turn_end(laps, &queue->turn, n, cycles);
}

static void run(uint64_t ms) {
    uint64_t until = now + ms * NS_PER_MS;
    struct laps laps;

    cv_laps_begin(&laps);
    while (now < until) {
        for (int i = 0; i < n_queues; i++)
            serve(&laps, &queues[i]);
        now += ROUND_NS;
        cv_laps_end_round(&laps);
    }
    for (int i = 0; i < n_queues; i++)
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", queues[i].packets, queues[i].spent_ns,
               queues[i].waited_ns);
}

int main(void) {
    uint64_t cost_ns, every_ns, look_ns, ms;
    char line[80];

    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (n_queues < QUEUES_MAX && sscanf(line, "queue %" SCNu64 " %" SCNu64 " %" SCNu64,
                                            &cost_ns, &every_ns, &look_ns) == 3)
            queues[n_queues++] = (struct queue){
                .cost_ns = cost_ns, .every_ns = every_ns, .look_ns = look_ns, .next_at = NS_PER_MS};
        else if (sscanf(line, "run %" SCNu64, &ms) == 1)
            run(ms);
        else
            return 2;
    }
    return 0;
}
