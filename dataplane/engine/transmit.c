/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a worker's buffers into the ports: once per round, finishing in software what the egress
 * cannot.
 */
#include "gso.h"
#include "offload.h"
#include "packet.h"
#include "pools.h"
#include "port.h"
#include "shape.h"
#include "worker.h"

struct tx_queue *cv_tx_queue(struct worker *worker, struct port *out, struct rte_mbuf *packet) {
    struct lane *lane = out->lanes[worker->index];
    uint16_t n_tx = atomic_load_explicit(&out->n_tx, memory_order_relaxed);

    if (n_tx <= 1)
        return &lane->tx[0];
    return &lane->tx[(out->tx_by_worker ? worker->home : cv_flow_hash(packet)) % n_tx];
}

void cv_transmit(struct worker *worker, struct port *out, struct rte_mbuf *packet) {
    struct tx_queue *queue = cv_tx_queue(worker, out, packet);

    if (queue->n == 0) {
        queue->next_dirty = worker->dirty;
        worker->dirty = queue;
    }
    queue->buffer[queue->n++] = packet;
}

static bool fits_as_it_is(const struct port *port, const struct rte_mbuf *packet) {
    return !(packet->ol_flags & (CV_UNFINISHED | RTE_MBUF_F_RX_L4_CKSUM_GOOD)) &&
           packet->pkt_len <= port->max_frame_bytes;
}

static void hand_over(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                      uint16_t n) {
    if (n > 0)
        queue->port->ops->tx(queue, lane, packets, n);
}

static void send_segmented(struct tx_queue *queue, struct lane *lane, struct rte_mbuf *packet,
                           uint32_t offloads) {
    struct rte_mbuf *segments[CV_BURST];
    struct gso gso;
    uint16_t n;

    cv_gso_begin(&gso, packet, !(offloads & CV_OFFLOAD_TX_CHECKSUM));
    while ((n = cv_gso_next(&gso, segments, CV_BURST)) > 0)
        hand_over(queue, lane, segments, n);
    if (gso.failed)
        lane->drops[CV_DROP_NO_MBUF]++;
    lane->sw_gso_packets++;
    rte_pktmbuf_free(packet);
}

/* The way of a burst in which at least one packet is too big or unfinished; keeps the order. */
static void send_fixed(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                       uint16_t n_packets) {
    const struct port *port = queue->port;
    uint32_t offloads = atomic_load_explicit(&port->offloads, memory_order_relaxed);
    bool vouch = port->role != CV_ROLE_UPLINK && (offloads & CV_OFFLOAD_TX_CHECKSUM);
    struct rte_mbuf *run[CV_BURST];
    uint16_t n = 0;

    for (uint16_t i = 0; i < n_packets; i++) {
        struct rte_mbuf *packet = packets[i];
        uint32_t missing;

        if (vouch && cv_offload_verified(packet))
            cv_offload_vouch(packet);
        missing = cv_offload_needed(packet) & ~offloads;
        if (cv_frame_bytes(packet) > port->max_frame_bytes) {
            cv_drop(lane, CV_DROP_TOO_BIG, packet);
        } else if (packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG && missing) {
            hand_over(queue, lane, run, n);
            n = 0;
            send_segmented(queue, lane, packet, offloads);
        } else {
            if (missing) {
                cv_offload_finish_checksum(packet);
                lane->sw_csum_packets++;
            } else if (packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
                lane->tx_gso_packets++;
            }
            run[n++] = packet;
        }
    }
    hand_over(queue, lane, run, n);
}

static void drop_all(struct lane *lane, struct rte_mbuf **packets, uint16_t n,
                     enum cv_drop reason) {
    lane->drops[reason] += n;
    rte_pktmbuf_free_bulk(packets, n);
}

void cv_send(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets, uint16_t n) {
    struct port *port = queue->port;
    bool plain = true;

    for (uint16_t i = 0; i < n; i++)
        plain &= fits_as_it_is(port, packets[i]);
    if (unlikely(atomic_load_explicit(&port->n_tx, memory_order_relaxed) == 0))
        drop_all(lane, packets, n, CV_DROP_NOT_READY);
    else if (likely(plain))
        hand_over(queue, lane, packets, n);
    else
        send_fixed(queue, lane, packets, n);
}

static void flush(struct worker *worker, struct tx_queue *queue) {
    struct port *port = queue->port;

    if (unlikely(atomic_load_explicit(&port->shaper, memory_order_relaxed) != NULL))
        cv_shape(worker, queue);
    else
        cv_send(queue, port->lanes[worker->index], queue->buffer, queue->n);
    queue->n = 0;
}

void cv_transmit_flush(struct worker *worker) {
    struct tx_queue *queue = worker->dirty, *next;

    worker->dirty = NULL;
    for (; queue != NULL; queue = next) {
        next = queue->next_dirty;
        flush(worker, queue);
    }
}
