/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port kind "ethdev": any DPDK network device (a NIC, AF_XDP, virtio-user), created at run time by
 * rte_eal_hotplug_add.
 */
#include <errno.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_spinlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "offload.h"
#include "packet.h"
#include "plug.h"
#include "pools.h"
#include "port.h"
#include "worker.h"

#define DEFAULT_QUEUE_SIZE 1024

/* Fill, receive and completion ring of 2048 each, and what is on its way. */
#define AF_XDP_BUFFERS_PER_QUEUE 8192

struct ethdev {
    bool multi_segment;
    bool shared_tx; /* several workers may send to one queue */
    uint64_t tx_offloads;
    uint16_t n_tx;
    struct rte_mempool *pool; /* of what it receives */
    struct plug plug;
    rte_spinlock_t tx_locks[CV_MAX_QUEUES];
};

static void release(struct ethdev *device) {
    cv_unplug(&device->plug);
    if (device->pool != cv_std_pool)
        rte_mempool_free(device->pool);
    free(device);
}

static uint64_t rx_offloads(const struct rte_eth_dev_info *info, uint32_t wanted) {
    uint64_t offloads = 0;

    if (wanted & CV_OFFLOAD_RX_CHECKSUM)
        offloads |= RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    /* Of the others, some merge segments without saying how large they were. */
    if (wanted & CV_OFFLOAD_LRO && strncmp(info->driver_name, "net_virtio", 10) == 0)
        offloads |= RTE_ETH_RX_OFFLOAD_TCP_LRO | RTE_ETH_RX_OFFLOAD_SCATTER;
    return offloads & info->rx_offload_capa;
}

static uint64_t tx_offloads(const struct rte_eth_dev_info *info, uint32_t wanted) {
    uint64_t offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

    if (wanted & CV_OFFLOAD_TX_CHECKSUM)
        offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
                    RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    if (wanted & (CV_OFFLOAD_TSO4 | CV_OFFLOAD_TSO6))
        offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
    return offloads & info->tx_offload_capa;
}

static uint32_t effective(uint64_t rx, uint64_t tx, uint32_t wanted) {
    uint64_t checksums = RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    uint32_t offloads = 0;

    if ((tx & checksums) == checksums)
        offloads |= CV_OFFLOAD_TX_CHECKSUM;
    if ((tx & RTE_ETH_TX_OFFLOAD_TCP_TSO) && (tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS))
        offloads |= wanted & (CV_OFFLOAD_TSO4 | CV_OFFLOAD_TSO6);
    if (rx & RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
        offloads |= CV_OFFLOAD_RX_CHECKSUM;
    if (rx & RTE_ETH_RX_OFFLOAD_TCP_LRO)
        offloads |= CV_OFFLOAD_LRO;
    return offloads;
}

/*
 * AF_XDP's driver forgets the buffers in its rings when it is closed: it gets a pool of its own,
 * which goes with it. The others share one.
 */
static int choose_pool(struct ethdev *device, const struct cv_port_conf *conf) {
    char name[RTE_MEMPOOL_NAMESIZE];

    device->pool = cv_std_pool;
    if (strncmp(device->plug.name, "net_af_xdp", 10) != 0)
        return 0;
    snprintf(name, sizeof(name), "xdp-%u", device->plug.id);
    device->pool = rte_pktmbuf_pool_create(name, AF_XDP_BUFFERS_PER_QUEUE * conf->queues, 256, 0,
                                           RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (device->pool == NULL)
        return cv_fail(rte_errno, "%s: no memory for the buffers of %u queues (%s); raise memory",
                       conf->name, conf->queues, rte_strerror(rte_errno));
    return 0;
}

static int set_up_queues(struct ethdev *device, const struct cv_port_conf *conf) {
    uint16_t rx_size = conf->queue_size ? conf->queue_size : DEFAULT_QUEUE_SIZE;
    uint16_t tx_size = rx_size;
    int ret = rte_eth_dev_adjust_nb_rx_tx_desc(device->plug.id, &rx_size, &tx_size);

    for (uint16_t q = 0; ret == 0 && q < conf->queues; q++) {
        ret =
            rte_eth_rx_queue_setup(device->plug.id, q, rx_size, SOCKET_ID_ANY, NULL, device->pool);
        if (ret == 0)
            ret = rte_eth_tx_queue_setup(device->plug.id, q, tx_size, SOCKET_ID_ANY, NULL);
    }
    if (ret < 0)
        return cv_fail(-ret, "%s: %s cannot have %u queues of %u: %s", conf->name,
                       device->plug.name, conf->queues, rx_size, strerror(-ret));
    return 0;
}

static int configure(struct port *port, struct ethdev *device, const struct cv_port_conf *conf) {
    struct rte_eth_conf eth = {0};
    struct rte_eth_dev_info info;
    int ret = rte_eth_dev_info_get(device->plug.id, &info);

    if (ret < 0)
        return cv_fail(-ret, "%s: %s tells nothing of itself: %s", conf->name, device->plug.name,
                       strerror(-ret));
    if (conf->queues > info.max_rx_queues || conf->queues > info.max_tx_queues)
        return cv_fail(ERANGE,
                       "%s: %u queues asked for, %s has %u receive and %u transmit queues: ask "
                       "for fewer",
                       conf->name, conf->queues, device->plug.name, info.max_rx_queues,
                       info.max_tx_queues);
    eth.rxmode.offloads = rx_offloads(&info, conf->ethdev_offloads);
    eth.txmode.offloads = tx_offloads(&info, conf->ethdev_offloads);
    if (eth.rxmode.offloads & RTE_ETH_RX_OFFLOAD_TCP_LRO)
        eth.rxmode.max_lro_pkt_size = info.max_lro_pkt_size;
    if (conf->queues > 1 && info.flow_type_rss_offloads != 0) {
        eth.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        eth.rx_adv_conf.rss_conf.rss_hf =
            info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
    }
    ret = rte_eth_dev_configure(device->plug.id, conf->queues, conf->queues, &eth);
    if (ret < 0)
        return cv_fail(-ret, "%s: %s cannot be configured with %u queues: %s", conf->name,
                       device->plug.name, conf->queues, strerror(-ret));
    device->n_tx = conf->queues;
    device->shared_tx = cv_n_workers > 1;
    device->tx_offloads = eth.txmode.offloads;
    device->multi_segment = eth.txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    atomic_store(&port->offloads,
                 effective(eth.rxmode.offloads, eth.txmode.offloads, conf->ethdev_offloads));
    return set_up_queues(device, conf);
}

static int start(struct port *port, struct ethdev *device, const struct cv_port_conf *conf) {
    struct rte_ether_addr mac;
    int ret = rte_eth_dev_set_mtu(device->plug.id, conf->mtu);

    if (ret < 0 && ret != -ENOTSUP)
        return cv_fail(-ret, "%s: %s cannot carry an MTU of %u: %s", conf->name, device->plug.name,
                       conf->mtu, strerror(-ret));
    ret = rte_eth_dev_start(device->plug.id);
    if (ret < 0)
        return cv_fail(-ret, "%s: %s does not start: %s", conf->name, device->plug.name,
                       strerror(-ret));
    /* The containers behind it have addresses of their own. */
    if (conf->role == CV_ROLE_UPLINK) {
        ret = rte_eth_promiscuous_enable(device->plug.id);
        if (ret < 0 && ret != -ENOTSUP) /* a device that cannot does not filter */
            return cv_fail(-ret,
                           "%s: %s cannot be promiscuous, containers would receive nothing: %s",
                           conf->name, device->plug.name, strerror(-ret));
    }
    if (!conf->has_mac && rte_eth_macaddr_get(device->plug.id, &mac) == 0)
        port->mac = cv_mac(mac.addr_bytes);
    return 0;
}

static int ethdev_open(struct port *port, const struct cv_port_conf *conf) {
    struct ethdev *device = calloc(1, sizeof(*device));
    int ret;

    if (device == NULL)
        return cv_fail(ENOMEM, "%s: out of memory", conf->name);
    ret = cv_plug(&device->plug, conf);
    if (ret < 0) {
        free(device);
        return ret;
    }
    ret = choose_pool(device, conf);
    if (ret == 0)
        ret = configure(port, device, conf);
    if (ret == 0)
        ret = start(port, device, conf);
    if (ret < 0) {
        release(device);
        return ret;
    }
    port->device = device;
    cv_port_set_ready(port, conf->queues, conf->queues);
    return 0;
}

static void ethdev_close(struct port *port) {
    release(port->device);
}

static uint16_t ethdev_rx(struct worker *worker, struct port *port, uint16_t queue,
                          struct rte_mbuf **packets, uint16_t n) {
    const struct ethdev *device = port->device;

    (void)worker;
    return rte_eth_rx_burst(device->plug.id, queue, packets, n);
}

/*
 * A device keeps packets until it has sent them: jumbo buffers are for a worker's round only, other
 * devices' buffers go with them, and a device without scatter wants one piece. Returns NULL if
 * there is no room.
 */
static struct rte_mbuf *own_copy(const struct ethdev *device, struct rte_mbuf *packet) {
    struct rte_mbuf *copy = packet;

    if (packet->pool == cv_std_pool && (packet->nb_segs == 1 || device->multi_segment))
        return packet;
    if (packet->pkt_len <= RTE_MBUF_DEFAULT_DATAROOM || device->multi_segment)
        copy = rte_pktmbuf_copy(packet, cv_std_pool, 0, UINT32_MAX);
    else
        copy = NULL;
    rte_pktmbuf_free(packet);
    return copy;
}

/* Flags that the device's own checksum units want beside ours. */
static void complete_flags(const struct ethdev *device, struct rte_mbuf *packet) {
    if ((packet->ol_flags & RTE_MBUF_F_TX_TCP_SEG) && (packet->ol_flags & RTE_MBUF_F_TX_IPV4) &&
        (device->tx_offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM))
        packet->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
}

static uint16_t prepare(const struct ethdev *device, struct lane *lane, uint16_t queue,
                        struct rte_mbuf **packets, uint16_t n) {
    uint16_t kept = 0;

    for (uint16_t i = 0; i < n; i++) {
        struct rte_mbuf *packet = own_copy(device, packets[i]);

        if (unlikely(packet == NULL)) {
            lane->drops[CV_DROP_NO_MBUF]++;
            continue;
        }
        if (unlikely(packet->ol_flags & CV_UNFINISHED)) {
            complete_flags(device, packet);
            if (rte_eth_tx_prepare(device->plug.id, queue, &packet, 1) != 1) {
                cv_drop(lane, CV_DROP_BAD_OFFLOAD, packet);
                continue;
            }
        }
        packets[kept++] = packet;
    }
    return kept;
}

static void ethdev_tx(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                      uint16_t n) {
    struct ethdev *device = queue->port->device;
    uint32_t bytes[CV_BURST];
    uint16_t sent;

    n = prepare(device, lane, queue->queue, packets, n);
    for (uint16_t i = 0; i < n; i++)
        bytes[i] = packets[i]->pkt_len;
    if (device->shared_tx)
        rte_spinlock_lock(&device->tx_locks[queue->queue]);
    sent = rte_eth_tx_burst(device->plug.id, queue->queue, packets, n);
    if (device->shared_tx)
        rte_spinlock_unlock(&device->tx_locks[queue->queue]);
    for (uint16_t i = 0; i < sent; i++)
        queue->bytes += bytes[i];
    queue->packets += sent;
    lane->drops[CV_DROP_TX_FULL] += n - sent;
    rte_pktmbuf_free_bulk(packets + sent, n - sent);
}

/* None of the drivers that can be uplinks here notifies yet: polled, with a bounded sleep. */
static int ethdev_arm(struct port *port, uint16_t queue) {
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static void ethdev_disarm(struct port *port, uint16_t queue, int fd) {
    (void)port;
    (void)queue;
    (void)fd;
}

static void ethdev_device_drops(struct port *port, uint64_t *drops) {
    const struct ethdev *device = port->device;
    struct rte_eth_stats stats;

    if (rte_eth_stats_get(device->plug.id, &stats) != 0)
        return;
    drops[CV_DROP_RX_ERROR] += stats.ierrors;
    drops[CV_DROP_RX_MISSED] += stats.imissed;
    drops[CV_DROP_NO_MBUF] += stats.rx_nombuf;
}

static void ethdev_state(struct port *port, struct cv_port_state *state) {
    const struct ethdev *device = port->device;
    struct rte_eth_dev_info info;
    struct rte_eth_link link;

    if (rte_eth_link_get_nowait(device->plug.id, &link) == 0) {
        state->link_up = link.link_status;
        state->speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
    }
    if (rte_eth_dev_info_get(device->plug.id, &info) == 0)
        snprintf(state->driver, sizeof(state->driver), "%s", info.driver_name);
}

const struct port_ops cv_ethdev_ops = {
    .name = "ethdev",
    .copy_ns = 500, /* vhost-net has to be woken, often */
    .rx_least = 8,  /* vector drivers take none when asked for fewer */
    .open = ethdev_open,
    .close = ethdev_close,
    .rx = ethdev_rx,
    .tx = ethdev_tx,
    .arm = ethdev_arm,
    .disarm = ethdev_disarm,
    .device_drops = ethdev_device_drops,
    .state = ethdev_state,
};
