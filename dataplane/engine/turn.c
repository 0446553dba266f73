/* SPDX-License-Identifier: Apache-2.0 */
#include "turn.h"

#include <rte_common.h>
#include <rte_cycles.h>

#include "port.h"

/* About two writes to taps. */
#define TURNS_PER_S 200000

/* Looks take no more than a ninth of a round, unless there are hundreds of them. */
#define TURN_PER_LOOKING 8

/* As long as a burst of writes to a tap. */
#define TURNS_PER_LAP 12

/* 7.7 ms: 32 packets of 1,600 segments made in software. The rest is forgiven. */
#define QUANTA_OWED_MAX 128

/* The weight of the last turn in what is expected of the next one. */
#define EXPECTED_SHIFT 2

void cv_laps_begin(struct laps *laps) {
    *laps = (struct laps){.turn_cycles = rte_get_tsc_hz() / TURNS_PER_S};
    laps->quantum = laps->turn_cycles * TURNS_PER_LAP;
    laps->lap = QUANTA_OWED_MAX; /* so that a new queue has credit */
}

void cv_laps_change(struct laps *laps) {
    laps->holder = NULL;
}

void cv_laps_end_round(struct laps *laps) {
    laps->lap += laps->holder == NULL && !laps->is_waiting;
    laps->is_waiting = false;
    laps->turn_cycles = RTE_MAX(laps->quantum / TURNS_PER_LAP, laps->looking * TURN_PER_LOOKING);
    laps->looking = 0;
    laps->spent = 0;
}

static void take_up(const struct laps *laps, struct turn *turn) {
    uint64_t laps_since = RTE_MIN(laps->lap - turn->lap, (uint64_t)QUANTA_OWED_MAX);

    turn->credit = RTE_MIN(turn->credit + (int64_t)laps_since * laps->quantum, laps->quantum);
    turn->lap = laps->lap;
    turn->left = CV_BURST;
}

static bool may_hold(const struct laps *laps, const struct turn *turn) {
    if (laps->holder != NULL)
        return laps->holder == turn;
    return laps->spent < laps->turn_cycles;
}

uint16_t cv_turn_begin(struct laps *laps, struct turn *turn, uint16_t least) {
    int64_t cycles;

    if (turn->lap != laps->lap)
        take_up(laps, turn);
    turn->most = 0;
    if (turn->credit <= 0 || turn->left == 0)
        return 0;
    if (turn->is_backlogged && !may_hold(laps, turn)) {
        laps->is_waiting = true;
        return 0;
    }
    if (turn->is_backlogged)
        laps->holder = turn;
    turn->most = RTE_MAX(turn->left, least);
    cycles = RTE_MIN(turn->credit, laps->turn_cycles);
    if (unlikely(!turn->is_known))
        turn->most = least;
    else if (unlikely(turn->packet_cycles * turn->most > cycles))
        turn->most = RTE_MAX(cycles / turn->packet_cycles, (int64_t)least);
    turn->most = RTE_ALIGN_FLOOR(turn->most, least);
    return turn->most;
}

/* Of a whole burst without a division. */
static int64_t per_packet(int64_t cycles, uint16_t n) {
    return n == CV_BURST ? cycles / CV_BURST : cycles / n;
}

static void expect(struct turn *turn, int64_t packet_cycles) {
    if (unlikely(!turn->is_known))
        turn->packet_cycles = packet_cycles;
    turn->packet_cycles += (packet_cycles - turn->packet_cycles) >> EXPECTED_SHIFT;
    turn->is_known = true;
}

void cv_turn_end(struct laps *laps, struct turn *turn, uint16_t n, int64_t cycles) {
    turn->is_backlogged = n > 0 && n >= turn->most;
    if (n > 0) {
        turn->left -= RTE_MIN(turn->left, n);
        expect(turn, per_packet(cycles, n));
    } else {
        laps->looking += cycles;
    }
    if (n > 0 || cycles >= laps->turn_cycles)
        turn->credit -= RTE_MIN(cycles, laps->quantum * QUANTA_OWED_MAX);
    if (laps->holder != turn)
        return;
    laps->spent += cycles;
    if (!turn->is_backlogged || turn->credit <= 0 || turn->left == 0)
        laps->holder = NULL;
}
