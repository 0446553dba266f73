/* SPDX-License-Identifier: Apache-2.0 */
/* What the workers and the control thread know of a port. */
#ifndef CV_PORT_H
#define CV_PORT_H

#include <rte_common.h>
#include <rte_mbuf.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "limit.h"

/* Packets taken from a queue in one go; as many as librte_vhost moves in one call. */
#define CV_BURST 32

struct lane;
struct port;
struct shaper;
struct tx_queue;
struct worker;

/* A kind of port. All but rx, tx, arm and disarm are called by the control thread only. */
struct port_ops {
    const char *name;
    uint32_t copy_ns; /* that a worker needs to send one small packet alone, about */
    uint16_t
        rx_least; /* rx is asked for a multiple of it, a power of two, unless there is a limit */

    /* Opens the device. May call cv_port_set_ready() from now on. Returns 0 or a negative errno. */
    int (*open)(struct port *port, const struct cv_port_conf *conf);

    /* Lets go of descriptors that came with the configuration, before close. May be NULL. */
    void (*give_back)(struct port *port);

    /* Ends what open began; no worker uses the port any more. */
    void (*close)(struct port *port);

    /* Takes at most n packets from a queue. */
    uint16_t (*rx)(struct worker *worker, struct port *port, uint16_t queue,
                   struct rte_mbuf **packets, uint16_t n);

    /* Sends n packets, all of which it takes; counts each as sent or as dropped. */
    void (*tx)(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets, uint16_t n);

    /* Asks for a notification; returns an fd that will be readable, or -ENOTSUP. */
    int (*arm)(struct port *port, uint16_t queue);

    /* Takes arm's request back before the queue is polled again; ends arm's fd. */
    void (*disarm)(struct port *port, uint16_t queue, int fd);

    /* Adds what the device itself has dropped. May be NULL. */
    void (*device_drops)(struct port *port, uint64_t *drops);

    /* Fills in what only the kind knows; the rest is set before. */
    void (*state)(struct port *port, struct cv_port_state *state);
};

extern const struct port_ops cv_ethdev_ops;
extern const struct port_ops cv_vhost_ops;
extern const struct port_ops cv_tap_ops;

/* Addresses that a container may send from. */
struct sources {
    uint16_t n_ip4;
    uint16_t n_ip6;
    uint32_t *ip4;      /* network order */
    uint8_t (*ip6)[16]; /* the last one is the link-local address made of the MAC */
    uint64_t mac;
};

/* Packets waiting for the end of a worker's round, for one queue of a port. */
struct tx_queue {
    uint16_t n;
    uint16_t queue;
    struct port *port;
    struct tx_queue *next_dirty; /* of the worker's, while n > 0 */
    uint64_t packets;
    uint64_t bytes;
    struct rte_mbuf *buffer[CV_BURST];
};

/* One worker's own side of a port: nothing here is written by anybody else. */
struct lane {
    uint64_t drops[CV_DROP_COUNT];
    uint64_t tx_gso_packets;
    uint64_t sw_gso_packets;
    uint64_t sw_csum_packets;
    uint64_t ingress_held_packets; /* that had to wait for credit */
    struct lane *next_holding;     /* of the worker's, while is_holding */
    bool is_holding;
    struct tx_queue tx[];
} __rte_cache_aligned;

/* A receive queue. */
struct rx_queue {
    /* written by the one worker that serves it */
    uint64_t packets;
    uint64_t bytes;
    uint64_t gso_packets;
    uint64_t pauses;         /* for want of credit */
    _Atomic uint64_t cycles; /* spent on its packets; counted by several workers only */

    /* under the registry's lock */
    uint64_t since; /* generation of the table that gave it to its worker */
    uint64_t cycles_before;
    uint16_t busy_permille;  /* of its worker's time, when last measured */
    uint16_t home;           /* the worker in whose name its packets leave by an uplink */
    _Atomic uint16_t worker; /* CV_NO_WORKER while it is not in service */
} __rte_cache_aligned;

#define CV_NO_WORKER UINT16_MAX

struct port {
    /* read for every packet */
    const struct port_ops *ops;
    uint64_t mac;              /* as cv_load_mac() gives it */
    _Atomic uint32_t offloads; /* enum cv_offload */
    uint32_t max_frame_bytes;  /* without a VLAN tag */
    uint16_t id;
    uint16_t network;      /* meaningless for trunks */
    _Atomic uint16_t n_tx; /* queues to spread transmission over */
    bool spoof_check;
    bool tx_by_worker; /* queue by worker (that of the receive queue's home), not by flow */
    enum cv_role role;
    _Atomic(struct shaper *) shaper; /* of what goes to the port, or NULL: it never had a limit */
    _Atomic bool has_egress_limit;   /* of what comes from it */
    struct sources sources;
    void *device; /* the kind's own */
    struct rx_queue *rx;
    _Atomic(uint16_t) *vlans;    /* trunks: network id by tag; CV_NO_NETWORK where none */
    _Atomic(struct port *) peer; /* trunks: an uplink's twin, a twin's uplink */
    struct lane *lanes[CV_MAX_WORKERS];

    /* shared by the workers */
    struct limit ingress; /* into the container: what the engine sends */
    struct limit egress;  /* out of it: what the engine receives */
    struct limit flood;   /* containers: the cycles that copies of what they broadcast may take */

    /* control thread */
    char name[CV_NAME_SIZE];
    uint16_t mtu;
    uint16_t queues;          /* as configured */
    uint16_t n_served;        /* receive queues that have a worker; under the registry's lock */
    _Atomic uint16_t n_rx;    /* to be polled, from 0 */
    _Atomic uint32_t service; /* changes whenever queues start or cease to be served */
    _Atomic bool ready;
    _Atomic bool is_going; /* the workers are to let go of what they hold for it */
};

#define CV_NO_NETWORK UINT16_MAX

/*
 * Tells the workers how many queues are to be served in each direction; 0 stops service. Does not
 * wait for them. Thread-safe.
 */
void cv_port_set_ready(struct port *port, uint16_t n_rx, uint16_t n_tx);

/* The port of an id, or NULL. Control thread. */
struct port *cv_port_get(int id);

/* Uplinks and their twins carry every VLAN. */
static inline bool cv_is_trunk(const struct port *port) {
    return port->role == CV_ROLE_UPLINK || port->role == CV_ROLE_EXCEPTION;
}

/* Counts and frees one packet. */
static inline void cv_drop(struct lane *lane, enum cv_drop reason, struct rte_mbuf *packet) {
    lane->drops[reason]++;
    rte_pktmbuf_free(packet);
}

#endif
