/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port kind "tap": the kernel's tun/tap device by read and write, with virtio-net headers
 * (Documentation/networking/tuntap.rst, linux/if_tun.h). The queues' fds come from the agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "error.h"
#include "offload.h"
#include "packet.h"
#include "pools.h"
#include "port.h"
#include "worker.h"

#define VNET_BYTES ((int)sizeof(struct virtio_net_hdr))
#define SEGMENTS_MAX 64

/* A round moves no more than fits the L2 cache between its reads and its writes. */
#define ROUND_BYTES (256 * 1024)

struct tap {
    uint16_t n;
    int fds[];
};

static int set_up_queue(int fd, const char *name) {
    int flags = fcntl(fd, F_GETFL), vnet_bytes = VNET_BYTES, little_endian = 1;
    unsigned int offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

    if (ioctl(fd, TUNSETVNETHDRSZ, &vnet_bytes) < 0)
        return cv_fail(errno, "%s: descriptor %d is not a tap with vnet_hdr: %s", name, fd,
                       strerror(errno));
    if (ioctl(fd, TUNSETOFFLOAD, offloads) < 0)
        return cv_fail(errno, "%s: cannot set the tap's offloads: %s", name, strerror(errno));
    if (ioctl(fd, TUNSETVNETLE, &little_endian) < 0 || flags < 0 ||
        fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return cv_fail(errno, "%s: cannot set up the tap: %s", name, strerror(errno));
    return 0;
}

static int tap_open(struct port *port, const struct cv_port_conf *conf) {
    struct tap *tap;
    int ret;

    for (uint16_t i = 0; i < conf->queues; i++) {
        ret = set_up_queue(conf->tap_fds[i], conf->name);
        if (ret < 0)
            return ret;
    }
    tap = calloc(1, sizeof(*tap) + conf->queues * sizeof(tap->fds[0]));
    if (tap == NULL)
        return cv_fail(ENOMEM, "%s: out of memory", conf->name);
    tap->n = conf->queues;
    memcpy(tap->fds, conf->tap_fds, tap->n * sizeof(tap->fds[0]));
    port->device = tap;
    atomic_store(&port->offloads, CV_OFFLOAD_TX_CHECKSUM | CV_OFFLOAD_TSO4 | CV_OFFLOAD_TSO6 |
                                      CV_OFFLOAD_RX_CHECKSUM | CV_OFFLOAD_LRO);
    cv_port_set_ready(port, tap->n, tap->n);
    return 0;
}

static void tap_give_back(struct port *port) {
    struct tap *tap = port->device;

    tap->n = 0;
}

static void tap_close(struct port *port) {
    struct tap *tap = port->device;

    for (uint16_t i = 0; i < tap->n; i++)
        close(tap->fds[i]);
    free(tap);
}

/*
 * Moves what lies beyond a jumbo buffer's end, in its slack, to a buffer of its own: the last bytes
 * of the longest frame that there is. Returns false if there is none.
 */
static bool spill(struct rte_mbuf *packet) {
    uint32_t room = packet->data_len, n = packet->pkt_len - room;

    packet->next = rte_pktmbuf_alloc(cv_std_pool);
    if (packet->next == NULL)
        return false;
    packet->nb_segs = 2;
    packet->next->data_len = n;
    memcpy(rte_pktmbuf_mtod(packet->next, void *), rte_pktmbuf_mtod_offset(packet, void *, room),
           n);
    return true;
}

/*
 * One frame off the tap, or NULL when there is none. The virtio-net header lands in the headroom:
 * one plain read costs less than a vectored one.
 */
static struct rte_mbuf *read_frame(struct worker *worker, struct lane *lane, int fd,
                                   struct virtio_net_hdr *vnet) {
    struct rte_mbuf *packet = worker->jumbo;
    uint32_t room = rte_pktmbuf_tailroom(packet);
    uint8_t *start = rte_pktmbuf_mtod(packet, uint8_t *) - VNET_BYTES;
    ssize_t n = read(fd, start, VNET_BYTES + room + CV_JUMBO_SLACK);

    if (n <= VNET_BYTES)
        return NULL;
    n -= VNET_BYTES;
    memcpy(vnet, start, sizeof(*vnet));
    packet->pkt_len = n;
    packet->data_len = RTE_MIN((uint32_t)n, room);
    if (unlikely(n > room) && !spill(packet)) {
        lane->drops[CV_DROP_NO_MBUF]++;
        packet->data_len = 0; /* it is kept, and has all its room again */
        return NULL;
    }
    worker->jumbo = NULL;
    return packet;
}

static uint16_t tap_rx(struct worker *worker, struct port *port, uint16_t queue,
                       struct rte_mbuf **packets, uint16_t n) {
    struct lane *lane = port->lanes[worker->index];
    const struct tap *tap = port->device;
    uint32_t bytes = 0;
    uint16_t got = 0;

    for (uint16_t i = 0; i < n && bytes < ROUND_BYTES; i++) {
        struct virtio_net_hdr vnet;
        struct rte_mbuf *packet;

        if (worker->jumbo == NULL)
            worker->jumbo = rte_pktmbuf_alloc(cv_jumbo_pool);
        if (unlikely(worker->jumbo == NULL))
            break;
        packet = read_frame(worker, lane, tap->fds[queue], &vnet);
        if (packet == NULL)
            break;
        bytes += packet->pkt_len;
        if ((vnet.flags | vnet.gso_type) != 0 && !cv_offload_from_vnet(packet, &vnet)) {
            cv_drop(lane, CV_DROP_BAD_OFFLOAD, packet);
            continue;
        }
        packets[got++] = packet;
    }
    return got;
}

static ssize_t write_pieces(int fd, const struct rte_mbuf *packet) {
    struct virtio_net_hdr vnet;
    struct iovec iov[1 + SEGMENTS_MAX] = {{.iov_base = &vnet, .iov_len = sizeof(vnet)}};
    int n = 1;

    cv_offload_to_vnet(packet, &vnet);
    for (const struct rte_mbuf *segment = packet; segment != NULL; segment = segment->next) {
        if (n == RTE_DIM(iov)) {
            errno = EMSGSIZE;
            return -1;
        }
        iov[n].iov_base = rte_pktmbuf_mtod(segment, void *);
        iov[n++].iov_len = segment->data_len;
    }
    return writev(fd, iov, n);
}

/* In one piece, the header put in front, where the packet is nobody else's. */
static ssize_t write_frame(int fd, struct rte_mbuf *packet) {
    struct virtio_net_hdr vnet;
    uint8_t *start;

    if (packet->nb_segs > 1 || rte_mbuf_refcnt_read(packet) > 1 || !RTE_MBUF_DIRECT(packet) ||
        rte_pktmbuf_headroom(packet) < VNET_BYTES)
        return write_pieces(fd, packet);
    cv_offload_to_vnet(packet, &vnet);
    start = rte_pktmbuf_mtod(packet, uint8_t *) - VNET_BYTES;
    memcpy(start, &vnet, sizeof(vnet));
    return write(fd, start, VNET_BYTES + packet->data_len);
}

static void tap_tx(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                   uint16_t n) {
    const struct tap *tap = queue->port->device;
    int fd = tap->fds[queue->queue];

    for (uint16_t i = 0; i < n; i++) {
        if (likely(write_frame(fd, packets[i]) > 0)) {
            queue->packets++;
            queue->bytes += packets[i]->pkt_len;
        } else {
            /* EIO: the interface is down; EBADFD: it has been deleted. */
            lane->drops[errno == EIO || errno == EBADFD ? CV_DROP_NOT_READY : CV_DROP_TX_FULL]++;
        }
    }
    rte_pktmbuf_free_bulk(packets, n);
}

/* A tap's fd is readable by itself; there is nothing to be switched on. */
static int tap_arm(struct port *port, uint16_t queue) {
    const struct tap *tap = port->device;

    return tap->fds[queue];
}

static void tap_disarm(struct port *port, uint16_t queue, int fd) {
    (void)port;
    (void)queue;
    (void)fd;
}

static void tap_state(struct port *port, struct cv_port_state *state) {
    (void)port;
    state->link_up = true;
}

const struct port_ops cv_tap_ops = {
    .name = "tap",
    .copy_ns = 2500, /* a system call, and the way through the receiver's kernel */
    .rx_least = 2,   /* so that a single packet is seen to be all */
    .open = tap_open,
    .give_back = tap_give_back,
    .close = tap_close,
    .rx = tap_rx,
    .tx = tap_tx,
    .arm = tap_arm,
    .disarm = tap_disarm,
    .state = tap_state,
};
