/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which queue a worker serves, and for how long: deficit round robin (Shreedhar and Varghese, 1995)
 * with time as its quantum, as one packet costs 50 ns and another 50 us. In a lap each queue may
 * have one quantum, or a burst of packets, which it spends in turns that are much shorter. A queue
 * that a turn does not empty, a backlogged one, has its turns in one go, round after round, and the
 * next such one begins when it has spent its quantum or is empty: what is done many times in a row
 * costs least, and wakes the receiver once. All others have a turn in each round meanwhile, so that
 * what is seldom sent waits for one turn at most. What a turn takes over its time is owed in the
 * next laps.
 */
#ifndef CV_TURN_H
#define CV_TURN_H

#include <stdbool.h>
#include <stdint.h>

/* A queue's; times are cycles of the TSC. All zero at first. */
struct turn {
    int64_t credit;        /* left of this lap; below 0: owed */
    int64_t packet_cycles; /* expected, if known */
    bool is_known;
    uint64_t lap;
    uint16_t left; /* packets, of this lap */
    uint16_t most; /* packets that it might take */
    bool is_backlogged;
};

/* A worker's. */
struct laps {
    int64_t quantum;
    int64_t turn_cycles; /* of backlogged queues together, in this round */
    int64_t looking;     /* spent in this round on queues that have nothing, or not their turn */
    uint64_t lap;
    const struct turn *holder; /* of the backlogged queues, the one whose turns these are */
    int64_t spent;             /* by backlogged queues in this round */
    bool is_waiting;           /* another backlogged queue, with something left of this lap */
};

void cv_laps_begin(struct laps *laps);

/* Forgets who is served, as the queues are others from now on. */
void cv_laps_change(struct laps *laps);

/*
 * Ends a round: if no backlogged queue had any credit left, a new lap begins. Turns get longer
 * where there are many queues to be looked at in each round: it must not take long beside them.
 */
void cv_laps_end_round(struct laps *laps);

/*
 * Returns how many packets a queue may take now: 0 to CV_BURST, a multiple of least, which is a
 * power of two.
 */
uint16_t cv_turn_begin(struct laps *laps, struct turn *turn, uint16_t least);

/*
 * Charges a turn in which n packets have taken so many cycles. A look at an empty queue is free, if
 * it is short.
 */
void cv_turn_end(struct laps *laps, struct turn *turn, uint16_t n, int64_t cycles);

#endif
