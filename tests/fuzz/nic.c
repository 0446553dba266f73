/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NICs: the null device with queues of our own, and what it can do as a real one would say. It cuts
 * what it receives at any place, and keeps what it is to send. The linker's --wrap leads here.
 */
#include <rte_ethdev.h>
#include <string.h>

#include "fuzz.h"
#include "pools.h"

#define QUEUES 2
#define KEPT_MAX 1024

struct nic_queue {
    int number; /* of the port */
    uint16_t queue;
};

/* In the ring: nobody may change them any more. */
static struct kept {
    struct rte_mbuf *packet;
    uint64_t sum;
} kept[KEPT_MAX];
static uint32_t n_kept;

/* FNV-1a, by words. */
static uint64_t sum_of(const struct rte_mbuf *packet) {
    uint64_t sum = packet->ol_flags, word;

    for (const struct rte_mbuf *segment = packet; segment != NULL; segment = segment->next) {
        const uint8_t *bytes = rte_pktmbuf_mtod(segment, const uint8_t *);
        uint32_t n = segment->data_len;

        for (; n >= sizeof(word); n -= sizeof(word), bytes += sizeof(word)) {
            memcpy(&word, bytes, sizeof(word));
            sum = (sum ^ word) * 0x100000001b3;
        }
        while (n-- > 0)
            sum = (sum ^ *bytes++) * 0x100000001b3;
    }
    return sum;
}

void nic_send_kept(void) {
    for (uint32_t i = 0; i < n_kept; i++) {
        REQUIRE(sum_of(kept[i].packet) == kept[i].sum,
                "a packet was changed while it was in a NIC's ring");
        rte_pktmbuf_free(kept[i].packet);
    }
    n_kept = 0;
}

static struct rte_mbuf *append_piece(struct rte_mbuf *tail, const uint8_t *bytes, uint32_t n) {
    struct rte_mbuf *piece = rte_pktmbuf_alloc(cv_std_pool);

    if (piece == NULL)
        return NULL;
    memcpy(rte_pktmbuf_append(piece, n), bytes, n);
    if (tail != NULL)
        tail->next = piece;
    return piece;
}

static struct rte_mbuf *receive(struct frame *frame) {
    struct rte_mbuf *packet = NULL, *tail = NULL;

    for (uint32_t at = 0, number = 0; at < frame->n; number++) {
        uint32_t n = input_piece(frame, number, frame->n - at);

        n = RTE_MIN(n, (uint32_t)RTE_MBUF_DEFAULT_DATAROOM);
        tail = append_piece(tail, frame->bytes + at, n);
        if (tail == NULL)
            break;
        if (packet == NULL) {
            packet = tail;
            frame->first_bytes = n;
        } else {
            packet->nb_segs++;
            packet->pkt_len += n;
        }
        at += n;
    }
    if (tail == NULL) {
        rte_pktmbuf_free(packet);
        return NULL;
    }
    packet->ol_flags = frame->nic_flags;
    packet->vlan_tci = frame->nic_tci;
    packet->tso_segsz = frame->nic_flags & RTE_MBUF_F_RX_LRO ? frame->vnet.gso_size : 0;
    packet->hash.rss = frame->vnet.csum_start;
    return packet;
}

static uint16_t nic_rx(void *data, struct rte_mbuf **packets, uint16_t n) {
    const struct nic_queue *queue = data;
    uint16_t got = 0;

    while (got < n) {
        struct frame *frame = frame_next(queue->number, queue->queue);

        if (frame == NULL)
            break;
        packets[got] = receive(frame);
        if (packets[got] != NULL)
            got++;
    }
    buffers_guard_received(packets, got);
    return got;
}

static uint16_t nic_tx(void *data, struct rte_mbuf **packets, uint16_t n) {
    const struct nic_queue *queue = data;
    uint16_t taken = input.egress_full ? n / 2 : n;

    for (uint16_t i = 0; i < taken; i++) {
        check_packet(queue->number, packets[i]);
        if (n_kept == KEPT_MAX)
            nic_send_kept();
        kept[n_kept++] = (struct kept){packets[i], sum_of(packets[i])};
    }
    return taken;
}

static uint16_t nic_prepare(void *data, struct rte_mbuf **packets, uint16_t n) {
    (void)data;
    (void)packets;
    return input.prepare_refuses && input.n_calls++ % 2 == 0 ? 0 : n;
}

static int number_of(uint16_t id) {
    char name[RTE_ETH_NAME_MAX_LEN];

    if (rte_eth_dev_get_name_by_port(id, name) != 0)
        FAIL("NIC %u has no name", id);
    return atoi(name + strlen("net_null"));
}

int __real_rte_eth_dev_info_get(uint16_t id, struct rte_eth_dev_info *info);
int __wrap_rte_eth_dev_info_get(uint16_t id, struct rte_eth_dev_info *info);

/* The second uplink can do nothing, not even take a packet in pieces. */
int __wrap_rte_eth_dev_info_get(uint16_t id, struct rte_eth_dev_info *info) {
    int ret = __real_rte_eth_dev_info_get(id, info);
    int number = number_of(id);

    info->tx_offload_capa = 0;
    if (fuzz_ports[number].role == CV_ROLE_EXCEPTION)
        info->driver_name = "net_virtio_user";
    if (!fuzz_ports[number].is_simple_nic)
        info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM |
                                RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
                                RTE_ETH_TX_OFFLOAD_TCP_TSO;
    return ret;
}

int __real_rte_eth_dev_configure(uint16_t id, uint16_t n_rx, uint16_t n_tx,
                                 const struct rte_eth_conf *conf);
int __wrap_rte_eth_dev_configure(uint16_t id, uint16_t n_rx, uint16_t n_tx,
                                 const struct rte_eth_conf *conf);

int __wrap_rte_eth_dev_configure(uint16_t id, uint16_t n_rx, uint16_t n_tx,
                                 const struct rte_eth_conf *conf) {
    struct rte_eth_conf plain = *conf;

    plain.rxmode.offloads = plain.txmode.offloads = 0;
    return __real_rte_eth_dev_configure(id, n_rx, n_tx, &plain);
}

int __real_rte_eth_dev_start(uint16_t id);
int __wrap_rte_eth_dev_start(uint16_t id);

int __wrap_rte_eth_dev_start(uint16_t id) {
    static struct nic_queue queues[N_PORTS][QUEUES];
    static void *data[N_PORTS][QUEUES];
    int ret = __real_rte_eth_dev_start(id), number = number_of(id);

    for (uint16_t q = 0; q < QUEUES; q++) {
        queues[number][q] = (struct nic_queue){number, q};
        data[number][q] = &queues[number][q];
    }
    rte_eth_fp_ops[id].rx_pkt_burst = nic_rx;
    rte_eth_fp_ops[id].tx_pkt_burst = nic_tx;
    rte_eth_fp_ops[id].tx_pkt_prepare = nic_prepare;
    rte_eth_fp_ops[id].rxq.data = data[number];
    rte_eth_fp_ops[id].txq.data = data[number];
    return ret;
}
