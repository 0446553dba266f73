/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's whole way from receiving to sending on ports of our own making: what an input is,
 * who plays the ports' other ends, and what must be true of every frame that comes out.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <linux/virtio_net.h>
#include <rte_mbuf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "port.h"

#define FRAMES_MAX CV_BURST
#define FRAME_BYTES_MAX (UINT16_MAX + 129) /* what a jumbo buffer takes with its slack */
#define PIECES_MAX 100
#define N_PORTS 13

/* What the rest is about is said on stderr, for whoever reads the crash. */
#define FAIL(...)                                                                                  \
    do {                                                                                           \
        fprintf(stderr, "fuzz: " __VA_ARGS__);                                                     \
        fprintf(stderr, "\n");                                                                     \
        abort();                                                                                   \
    } while (0)
#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            FAIL(__VA_ARGS__);                                                                     \
    } while (0)

/* What a port's peer hands to the engine. */
struct frame {
    uint8_t *bytes;
    uint32_t n;
    uint32_t first_bytes; /* in the first buffer, where the engine looks for headers */
    uint8_t queue;
    uint8_t split; /* how the frame is cut into pieces */
    struct virtio_net_hdr vnet;
    uint64_t nic_flags; /* of an ethdev's mbuf */
    uint16_t nic_tci;
};

struct input {
    uint8_t ingress; /* number of the port that all frames come from */
    uint8_t mtus[2]; /* which MTU; of even and odd ports */
    uint32_t vhost_offloads;
    uint32_t nic_offloads;
    bool limits; /* on those ports that can have some */
    uint8_t rate;
    bool egress_full;     /* every second packet finds no room */
    bool prepare_refuses; /* a NIC's tx_prepare, every second packet */
    int gone;             /* number of a port that ceases to be ready, if there is one */
    uint32_t allocations; /* of packet buffers that succeed */
    uint32_t n_calls;     /* of those that refuse every second packet */
    uint32_t n_frames;
    struct frame frames[FRAMES_MAX];
};

extern struct input input;

/* input.c: takes the bytes apart; whatever they are, they make an input. */
void input_read(const uint8_t *data, size_t size);

/* Bytes of the next piece, at most `left`, of a frame that is cut up by its `split`. */
uint32_t input_piece(const struct frame *frame, uint32_t number, uint32_t left);

enum fuzz_network { LOCAL, TAGGED, UNTAGGED, OTHER, N_NETWORKS, NONE = N_NETWORKS };

/* topology.c: the ports that there are. */
struct fuzz_port {
    const char *name;
    enum cv_kind kind;
    enum cv_role role;
    enum fuzz_network network;
    int uplink; /* number of a twin's uplink, or -1 */
    bool spoof_check;
    bool has_ips;
    bool can_be_limited;
    bool is_simple_nic; /* takes whole frames in one piece only */
    bool has_two_queues;
    struct port *port; /* the engine's */
    uint8_t mac[6];
    uint8_t ip4[4];
    uint8_t ip6[16];
};

struct fuzz_vlan {
    int uplink; /* number of the port, or -1 */
    uint16_t vlan;
};

extern struct fuzz_port fuzz_ports[N_PORTS];
extern const struct fuzz_vlan fuzz_networks[N_NETWORKS];

void topology_start(void);

/* Gives the ports the MTUs, offloads and limits of the input. */
void topology_apply(void);
void topology_lower_limits(void);
void topology_lift_limits(void);

/* The number of one of the engine's ports. */
int port_number(const struct port *port);

/* buffers.c */
extern uint32_t allocations_left;

/* From now on what no mbuf's data is must not be touched. */
void buffers_guard(void);

/* Poisons what lies behind the data of received packets, and before it beyond what is prepended. */
void buffers_guard_received(struct rte_mbuf **packets, uint16_t n);
uint32_t buffers_in_use(void);

/* target.c: the next frame that the peer of a port has for the engine, or NULL. */
struct frame *frame_next(int number, uint16_t queue);

/* rounds.c */
void rounds_take_over(void);
void rounds_run(uint32_t n, uint64_t cycles_each);
void rounds_end(void);

/* frontend.c: the applications at the other end of vhost-user ports. */
void frontend_connect(int number, const char *path);
void frontend_feed(int number);
bool frontend_pending(int number);

/* nic.c: packets stay in its ring until they are sent, here. */
void nic_send_kept(void);

/* A frame on its way out, as a port's peer gets it. */
struct sent {
    const uint8_t *bytes;
    uint32_t n;
    bool needs_checksum;
    uint16_t checksum_start;
    uint16_t checksum_offset;
    uint8_t gso; /* 0, 4, 6 */
    uint16_t gso_size;
    uint16_t header_bytes;
};

/* check.c: everything that must be true of it. */
void check_sent(int number, const struct sent *sent);

/* Of the mbufs that a driver is given. Fills in what is sent, with its bytes in one piece. */
void check_packet(int number, const struct rte_mbuf *packet);
void check_chain(const struct rte_mbuf *packet);
void check_vnet(int number, const struct virtio_net_hdr *vnet, const uint8_t *bytes, uint32_t n);

/* origin.c: it must be one of the input's frames, or a segment of one. */
void check_origin(int number, const struct sent *sent);
void origin_begin(void);

/* What librte_vhost itself makes of a checksum is not ours to check. */
void origin_received(const struct rte_mbuf *packet);

static inline bool is_trunk(int number) {
    return fuzz_ports[number].role == CV_ROLE_UPLINK ||
           fuzz_ports[number].role == CV_ROLE_EXCEPTION;
}

#endif
