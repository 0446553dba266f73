/* SPDX-License-Identifier: Apache-2.0 */
/* A poll-mode worker: one thread on one core, serving the receive queues assigned to it. */
#ifndef CV_WORKER_H
#define CV_WORKER_H

#include <rte_common.h>
#include <rte_mbuf.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "port.h"
#include "table.h"
#include "turn.h"

/* One receive queue as its worker sees it. */
struct poll {
    struct port *port;
    uint16_t queue;
    uint16_t home;         /* the receive queue's */
    uint16_t empty_rounds; /* since the last packet */
    uint32_t service;      /* the port's, when this entry was made */
    uint64_t since;        /* generation of the table that gave it to this worker */
    bool waits;            /* not polled: another worker may not have let go yet */
    bool armed;            /* not polled: its fd is in the worker's epoll set */
    int fd;                /* valid while armed */
    struct turn turn;
};

struct worker {
    uint16_t index;
    uint16_t core;
    unsigned int lcore;
    bool may_sleep;
    _Atomic bool stop;
    _Atomic uint64_t generation; /* of the table that it uses */
    _Atomic uint64_t rounds_begun;
    _Atomic bool asleep;
    _Atomic uint64_t called; /* when it was woken by cv_worker_wake, 0: it was not */
    int epoll_fd;
    int wake_fd;
    uint32_t now_s; /* engine time */
    uint64_t looked_after_at;
    uint16_t home; /* of the receive queue being served */
    bool charges;  /* counts the cycles that each queue takes */
    struct laps laps;
    uint64_t now;        /* TSC: when the last turn ended, or the round began */
    uint64_t collect_at; /* TSC: when to look at the watched queues */

    struct table *table;
    struct poll *polls;
    uint32_t n_polls;
    struct poll **due; /* those of polls that are not armed */
    uint32_t n_due;
    bool due_stale;
    uint32_t n_armed;
    uint32_t epoch; /* of polls: an event from before is not about them */

    struct tx_queue *dirty; /* list of those with packets to be sent at the end of the round */

    struct lane *holding; /* list of those that may have packets waiting for credit */
    uint64_t due_at;      /* TSC: when somebody gets credit; UINT64_MAX: nobody waits for any */
    uint32_t n_paused;    /* of polls: not polled in this round, for want of credit */

    struct rte_mbuf *jumbo; /* kept for the next tap read */

    struct cv_worker_stats stats;
} __rte_cache_aligned;

extern struct worker cv_workers[CV_MAX_WORKERS];
extern uint16_t cv_n_workers;

/* Launches n_workers on EAL's worker lcores. Returns 0 or a negative errno. */
int cv_workers_start(const struct cv_options *options);

/* Ends all workers and frees what they hold. */
void cv_workers_stop(void);

/* Makes a sleeping worker look at the table. */
void cv_worker_wake(struct worker *worker);

/*
 * Returns when every worker has finished the round in which it may have read what the caller has
 * changed before. Must not be called while holding anything that a port's rx, tx or arm could want.
 */
void cv_workers_quiesce(void);

/* switch.c: takes packets received from a port through the network. */
void cv_switch(struct worker *worker, struct port *in, struct rte_mbuf **packets, uint16_t n);

/* transmit.c: puts a packet into the port's buffer of this worker. Takes the packet. */
void cv_transmit(struct worker *worker, struct port *out, struct rte_mbuf *packet);

/* transmit.c: the port's queue, of this worker, that a packet goes to. */
struct tx_queue *cv_tx_queue(struct worker *worker, struct port *out, struct rte_mbuf *packet);

/* transmit.c: sends packets of one queue now, whatever the port's limit. Takes them. */
void cv_send(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets, uint16_t n);

/* transmit.c: sends all that this round has put into buffers. */
void cv_transmit_flush(struct worker *worker);

#endif
