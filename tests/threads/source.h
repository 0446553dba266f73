/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports that make numbered packets and check those of others, in place of taps and vhost-user.
 * What they count is not protected in any way: a queue with two workers at a time, or one whose
 * next worker begins too early, is a data race that ThreadSanitizer sees.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include <rte_mbuf.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SOURCES 24
#define STABLE 6  /* the first ones are never deleted: all that is sent to them must arrive */
#define LIMITED 3 /* but for these, the first of them: their limits may drop some */
#define QUEUES 3

/* A queue has a flow to a stable source, and if its own is stable too one to the uplink. */
#define FLOWS (SOURCES * QUEUES * 2)

struct flow {
    uint64_t sent;
    uint64_t arrived;
    uint64_t next; /* number after the last that arrived */
};

extern struct flow flows[FLOWS];

/* The source that a flow goes to, or SOURCES: the uplink. */
uint16_t flow_destination(uint16_t flow);

/* Packets that a source's queue makes a call, 0 to 32. */
extern _Atomic uint16_t rates[SOURCES];

/* Sources that are open. */
extern _Atomic int n_open;

/* Whether this thread gets no memory for tables. */
extern _Thread_local bool no_tables;

/* Packets that were overtaken. */
extern _Atomic uint64_t n_faults;

/* Makes the sources' eventfds. */
void sources_open(void);

/* Says to whoever sleeps that there are packets. */
void sources_kick(void);

/* Makes the vhost-user sources' queues come and go until stopped, as librte_vhost's thread does. */
void *toggle_until(void *stop);

/* Takes note of packets that were sent to where they should. */
void check(struct rte_mbuf **packets, uint16_t n);

#define NIC_QUEUES 2
#define NIC_KEEPS 32

/* Sends what the NIC still keeps. */
void nic_send_all(void);

void source_mac(uint8_t mac[6], uint16_t number);

#endif
