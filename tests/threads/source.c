/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "packet.h"
#include "pools.h"
#include "port.h"
#include "worker.h"

#define NO_FLOW UINT16_MAX
#define UNKNOWN 0xee /* an address of the uplink's side */
#define BYTES 64

struct frame {
    struct rte_ether_hdr ether;
    uint16_t flow;
    uint64_t number;
};

struct source {
    uint16_t number;
    uint32_t calls[QUEUES];
};

struct flow flows[FLOWS];
_Atomic uint16_t rates[SOURCES];
_Atomic uint64_t n_faults;
_Atomic int n_open;

static int kicks[SOURCES][QUEUES];

/* vhost-user sources that are open; held while one of them is toggled. */
static struct port *togglable[SOURCES];
static pthread_mutex_t togglable_lock = PTHREAD_MUTEX_INITIALIZER;

void sources_open(void) {
    for (int i = 0; i < SOURCES; i++)
        for (int q = 0; q < QUEUES; q++)
            kicks[i][q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void sources_kick(void) {
    for (int i = 0; i < SOURCES; i++)
        for (int q = 0; q < QUEUES; q++)
            eventfd_write(kicks[i][q], 1);
}

void source_mac(uint8_t mac[6], uint16_t number) {
    memcpy(mac, (uint8_t[]){2, 0, 0, 0, 0, number}, 6);
}

/* Source numbers are the MAC addresses' last bytes. */
static int source_open(struct port *port, const struct cv_port_conf *conf) {
    struct source *source = calloc(1, sizeof(*source));

    source->number = conf->mac[5];
    port->device = source;
    n_open++;
    if (conf->kind == CV_KIND_TAP) {
        cv_port_set_ready(port, port->queues, port->queues);
        return 0;
    }
    pthread_mutex_lock(&togglable_lock);
    togglable[source->number] = port;
    pthread_mutex_unlock(&togglable_lock);
    return 0;
}

static void source_close(struct port *port) {
    struct source *source = port->device;

    pthread_mutex_lock(&togglable_lock);
    togglable[source->number] = NULL;
    pthread_mutex_unlock(&togglable_lock);
    free(source);
    n_open--;
}

void *toggle_until(void *stop) {
    unsigned int seed = 1;

    while (!atomic_load((_Atomic bool *)stop)) {
        int i = rand_r(&seed) % SOURCES, n = rand_r(&seed) % (QUEUES + 1);

        pthread_mutex_lock(&togglable_lock);
        if (togglable[i] != NULL) {
            cv_port_set_ready(togglable[i], RTE_MIN(n, togglable[i]->queues), n > 0);
            if (n == 0)
                cv_workers_quiesce();
        }
        pthread_mutex_unlock(&togglable_lock);
        usleep(1000);
    }
    return NULL;
}

uint16_t flow_destination(uint16_t flow) {
    uint16_t number = flow / 2 / QUEUES, queue = flow / 2 % QUEUES;

    return flow % 2 == 0 ? (number + 1 + queue) % STABLE : SOURCES;
}

static struct rte_mbuf *make(uint16_t from, uint16_t to, uint16_t flow) {
    struct rte_mbuf *packet = rte_pktmbuf_alloc(cv_std_pool);
    struct frame *frame;

    if (packet == NULL)
        return NULL;
    frame = (struct frame *)rte_pktmbuf_append(packet, BYTES);
    memset(frame, 0, BYTES);
    source_mac(frame->ether.dst_addr.addr_bytes, to);
    source_mac(frame->ether.src_addr.addr_bytes, from);
    if (to == UINT16_MAX)
        memset(&frame->ether.dst_addr, 0xff, sizeof(frame->ether.dst_addr));
    frame->ether.ether_type = RTE_BE16(0x88b5); /* for local experiments */
    frame->flow = flow;
    if (flow != NO_FLOW)
        frame->number = flows[flow].sent++;
    return packet;
}

/* Mostly to a stable source and to the uplink, now and then to all and to one that may be gone. */
static uint16_t source_rx(struct worker *worker, struct port *port, uint16_t queue,
                          struct rte_mbuf **packets, uint16_t n) {
    struct source *source = port->device;
    uint16_t number = source->number, flow = 2 * (number * QUEUES + queue), got = 0;

    (void)worker;
    n = RTE_MIN(n, atomic_load(&rates[number]));
    while (got < n) {
        uint32_t call = source->calls[queue]++;

        if (call % 61 == 0)
            packets[got] = make(number, UINT16_MAX, NO_FLOW);
        else if (call % 7 == 0)
            packets[got] = make(number, STABLE + call % (SOURCES - STABLE), NO_FLOW);
        else if (call % 2 == 0)
            packets[got] = make(number, flow_destination(flow), flow);
        else
            packets[got] = make(number, UNKNOWN, number < STABLE ? flow + 1 : NO_FLOW);
        if (packets[got] == NULL)
            break;
        got++;
    }
    return got;
}

void check(struct rte_mbuf **packets, uint16_t n) {
    for (uint16_t i = 0; i < n; i++) {
        const struct frame *frame = rte_pktmbuf_mtod(packets[i], const struct frame *);

        if (frame->ether.ether_type != RTE_BE16(0x88b5) || frame->flow == NO_FLOW)
            continue;
        n_faults += frame->number < flows[frame->flow].next;
        flows[frame->flow].next = frame->number + 1;
        flows[frame->flow].arrived++;
    }
}

static void source_tx(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                      uint16_t n) {
    (void)lane;
    check(packets, n);
    queue->packets += n;
    rte_pktmbuf_free_bulk(packets, n);
}

static int source_arm(struct port *port, uint16_t queue) {
    const struct source *source = port->device;

    return kicks[source->number][queue];
}

static void source_disarm(struct port *port, uint16_t queue, int fd) {
    eventfd_t n;

    (void)port;
    (void)queue;
    if (eventfd_read(fd, &n) < 0)
        return;
}

static void source_state(struct port *port, struct cv_port_state *state) {
    (void)port;
    state->link_up = true;
}

#define SOURCE_OPS                                                                                 \
    {                                                                                              \
        .name = "source", .rx_least = 2, .open = source_open, .close = source_close,               \
        .rx = source_rx, .tx = source_tx, .arm = source_arm, .disarm = source_disarm,              \
        .state = source_state,                                                                     \
    }

const struct port_ops cv_tap_ops = SOURCE_OPS;
const struct port_ops cv_vhost_ops = SOURCE_OPS;
