/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port kind "vhost": the backend of a vhost-user socket, by librte_vhost. The application in the
 * container is the frontend, whichever of the two made the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rte_vhost.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/uio.h>
#include <unistd.h>

#include "error.h"
#include "lost_memory.h"
#include "pools.h"
#include "port.h"
#include "worker.h"

#define VIRTIO_F(bit) (UINT64_C(1) << (bit))
#define VIRTIO_NET_GUEST_CSUM 1
#define VIRTIO_NET_GUEST_TSO4 7
#define VIRTIO_NET_GUEST_TSO6 8
#define VIRTIO_NET_GUEST_UFO 10
#define VIRTIO_NET_HOST_UFO 14
#define VIRTIO_NET_GUEST_ANNOUNCE 21
#define VHOST_F_LOG_ALL_BIT 26

/* Of librte_vhost's; what is not offered need not be withstood. */
#define MAX_PAIRS 128
#define PROTOCOL_FEATURES                                                                          \
    (VIRTIO_F(VHOST_USER_PROTOCOL_F_MQ) | VIRTIO_F(VHOST_USER_PROTOCOL_F_REPLY_ACK) |              \
     VIRTIO_F(VHOST_USER_PROTOCOL_F_NET_MTU) | VIRTIO_F(VHOST_USER_PROTOCOL_F_STATUS))

/* Vrings come in pairs, named from the frontend's side (virtio 1.1, 5.1.2). */
#define FRONTEND_RX(queue) (2 * (queue))
#define FRONTEND_TX(queue) (2 * (queue) + 1)

struct vhost {
    TAILQ_ENTRY(vhost) entry;
    struct port *port;
    char path[108];
    bool connect;
    _Atomic bool closing;
    _Atomic int vid;                 /* -1: no frontend, or not ready */
    _Atomic uint64_t features;       /* negotiated; of vid */
    _Atomic bool memory_lost;        /* by the last frontend */
    int connection;                  /* vhost thread: vid of the one frontend, -1 without */
    bool enabled[2 * CV_MAX_QUEUES]; /* vhost thread */
};

/* Devices by path: all that a callback is told is a path. */
static TAILQ_HEAD(, vhost) devices = TAILQ_HEAD_INITIALIZER(devices);
static pthread_mutex_t devices_lock = PTHREAD_MUTEX_INITIALIZER;

static struct vhost *find(int vid) {
    char path[sizeof(((struct vhost *)0)->path)];
    struct vhost *device;

    if (rte_vhost_get_ifname(vid, path, sizeof(path)) != 0)
        return NULL;
    pthread_mutex_lock(&devices_lock);
    TAILQ_FOREACH (device, &devices, entry) {
        if (strcmp(device->path, path) == 0)
            break;
    }
    pthread_mutex_unlock(&devices_lock);
    return device;
}

/* Queues in use: those enabled without a gap from 0. */
static uint16_t count_enabled(const struct vhost *device, uint16_t first) {
    uint16_t n = 0;

    while (n < device->port->queues && device->enabled[2 * n + first])
        n++;
    return n;
}

static void serve(struct vhost *device) {
    cv_port_set_ready(device->port, count_enabled(device, FRONTEND_TX(0)),
                      count_enabled(device, FRONTEND_RX(0)));
}

static int on_new_connection(int vid) {
    struct vhost *device = find(vid);

    if (device == NULL || device->connection >= 0)
        return -1;
    device->connection = vid;
    atomic_store(&device->memory_lost, false);
    memset(device->enabled, 0, sizeof(device->enabled));
    return 0;
}

static void on_destroy_connection(int vid) {
    struct vhost *device = find(vid);

    if (device != NULL && device->connection == vid)
        device->connection = -1;
}

/*
 * Whether memory that the frontend shares now is lost, whichever thread met it: the vhost thread
 * serves all sockets, and what it has met may be of any of them. Vhost thread.
 */
static bool has_lost_memory(struct vhost *device, int vid) {
    struct rte_vhost_memory *memory;
    bool is_lost = false;

    cv_lost_memory_met();
    if (rte_vhost_get_mem_table(vid, &memory) != 0)
        return false;
    for (uint32_t i = 0; i < memory->nregions; i++)
        is_lost |= cv_lost_memory_is_lost(memory->regions[i].mmap_addr);
    free(memory);
    if (is_lost)
        atomic_store(&device->memory_lost, true);
    return is_lost;
}

/* A frontend that has taken memory away is not served before it connects anew. */
static int on_new_device(int vid) {
    struct vhost *device = find(vid);
    uint32_t offloads = CV_OFFLOAD_RX_CHECKSUM | CV_OFFLOAD_LRO;
    uint64_t features;

    if (device == NULL || vid != device->connection || atomic_load(&device->memory_lost) ||
        rte_vhost_get_negotiated_features(vid, &features) != 0)
        return -1;
    if (features & VIRTIO_F(VIRTIO_NET_GUEST_CSUM))
        offloads |= CV_OFFLOAD_TX_CHECKSUM;
    if (features & VIRTIO_F(VIRTIO_NET_GUEST_TSO4))
        offloads |= CV_OFFLOAD_TSO4;
    if (features & VIRTIO_F(VIRTIO_NET_GUEST_TSO6))
        offloads |= CV_OFFLOAD_TSO6;
    atomic_store(&device->port->offloads, offloads);
    atomic_store(&device->features, features);
    for (uint16_t q = 0; q < device->port->queues; q++) {
        rte_vhost_enable_guest_notification(vid, FRONTEND_TX(q), 0);
        rte_vhost_enable_guest_notification(vid, FRONTEND_RX(q), 0);
    }
    if (has_lost_memory(device, vid))
        return -1;
    atomic_store(&device->vid, vid);
    serve(device);
    return 0;
}

static void on_destroy_device(int vid) {
    struct vhost *device = find(vid);

    if (device == NULL || vid != device->connection)
        return;
    /* First, so that no later round takes it up. */
    atomic_store(&device->vid, -1);
    cv_port_set_ready(device->port, 0, 0);
    /*
     * vhost_close() comes when the workers have let go already, and librte_vhost then holds a lock
     * that its own thread may want while it holds a vring's, for which a worker spins.
     */
    if (!atomic_load(&device->closing))
        cv_workers_quiesce();
}

static int on_vring_state(int vid, uint16_t vring, int enable) {
    struct vhost *device = find(vid);

    if (device == NULL || vid != device->connection || vring >= RTE_DIM(device->enabled))
        return 0;
    device->enabled[vring] = enable;
    if (atomic_load(&device->vid) == vid)
        serve(device);
    return 0;
}

static const struct rte_vhost_device_ops callbacks = {
    .new_connection = on_new_connection,
    .destroy_connection = on_destroy_connection,
    .new_device = on_new_device,
    .destroy_device = on_destroy_device,
    .vring_state_changed = on_vring_state,
};

/* Of our librte_vhost, and of newer ones. */
int rte_vhost_driver_set_max_queue_num(const char *path, uint32_t pairs) __attribute__((weak));

static bool bound_queues(const struct vhost *device) {
    return rte_vhost_driver_set_max_queue_num == NULL ||
           rte_vhost_driver_set_max_queue_num(device->path,
                                              RTE_MIN(device->port->queues, MAX_PAIRS)) == 0;
}

/* With the errno of what librte_vhost tried last. */
static int not_registered(const struct vhost *device) {
    const char *name = device->port->name;

    if (errno == EMFILE || errno == ENFILE)
        return cv_fail(EMFILE,
                       "%s: the dataplane is out of file descriptors: raise its limit "
                       "(LimitNOFILE)",
                       name);
    return cv_fail(ENOSPC, "%s: librte_vhost took no socket at %s (at most 1024 in all)", name,
                   device->path);
}

static int start_driver(struct vhost *device) {
    uint64_t flags = RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS;
    uint64_t without = VIRTIO_F(VIRTIO_NET_HOST_UFO) | VIRTIO_F(VIRTIO_NET_GUEST_UFO) |
                       VIRTIO_F(VIRTIO_NET_GUEST_ANNOUNCE) | VIRTIO_F(VHOST_F_LOG_ALL_BIT);

    if (device->connect)
        flags |= RTE_VHOST_USER_CLIENT;
    errno = 0;
    if (rte_vhost_driver_register(device->path, flags) != 0)
        return not_registered(device);
    if (rte_vhost_driver_disable_features(device->path, without) == 0 &&
        rte_vhost_driver_set_protocol_features(device->path, PROTOCOL_FEATURES) == 0 &&
        bound_queues(device) && rte_vhost_driver_callback_register(device->path, &callbacks) == 0 &&
        rte_vhost_driver_start(device->path) == 0)
        return 0;
    rte_vhost_driver_unregister(device->path);
    return cv_fail(EADDRNOTAVAIL,
                   "%s: cannot %s %s: does the directory exist, and is the path free?",
                   device->port->name, device->connect ? "connect to" : "listen on", device->path);
}

static int vhost_open(struct port *port, const struct cv_port_conf *conf) {
    struct vhost *device = calloc(1, sizeof(*device));
    int ret;

    if (device == NULL)
        return cv_fail(ENOMEM, "%s: out of memory", conf->name);
    if (strlen(conf->vhost_path) >= sizeof(device->path)) {
        free(device);
        return cv_fail(ENAMETOOLONG, "%s: socket path %s has over %zu bytes", conf->name,
                       conf->vhost_path, sizeof(device->path) - 1);
    }
    device->port = port;
    device->connect = conf->vhost_connect;
    atomic_store(&device->vid, -1);
    device->connection = -1;
    strcpy(device->path, conf->vhost_path);
    port->device = device;
    pthread_mutex_lock(&devices_lock);
    TAILQ_INSERT_TAIL(&devices, device, entry);
    pthread_mutex_unlock(&devices_lock);
    ret = start_driver(device);
    if (ret < 0) {
        pthread_mutex_lock(&devices_lock);
        TAILQ_REMOVE(&devices, device, entry);
        pthread_mutex_unlock(&devices_lock);
        free(device);
    }
    return ret;
}

static void vhost_close(struct port *port) {
    struct vhost *device = port->device;

    atomic_store(&device->closing, true);
    rte_vhost_driver_unregister(device->path);
    pthread_mutex_lock(&devices_lock);
    TAILQ_REMOVE(&devices, device, entry);
    pthread_mutex_unlock(&devices_lock);
    free(device);
}

/*
 * To be called after whatever has accessed a frontend's memory, so that nobody else is blamed for
 * what it has taken away.
 */
static void check_memory(struct vhost *device) {
    if (likely(!cv_lost_memory_met()))
        return;
    atomic_store(&device->memory_lost, true);
    atomic_store(&device->vid, -1);
}

static uint16_t vhost_rx(struct worker *worker, struct port *port, uint16_t queue,
                         struct rte_mbuf **packets, uint16_t n) {
    struct vhost *device = port->device;
    int vid = atomic_load_explicit(&device->vid, memory_order_relaxed);

    (void)worker;
    if (unlikely(vid < 0))
        return 0;
    n = rte_vhost_dequeue_burst(vid, FRONTEND_TX(queue), cv_std_pool, packets, n);
    check_memory(device);
    return n;
}

static void vhost_tx(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                     uint16_t n) {
    struct vhost *device = queue->port->device;
    int vid = atomic_load_explicit(&device->vid, memory_order_relaxed);
    uint16_t sent = 0;

    if (likely(vid >= 0)) {
        sent = rte_vhost_enqueue_burst(vid, FRONTEND_RX(queue->queue), packets, n);
        check_memory(device);
    }
    for (uint16_t i = 0; i < sent; i++)
        queue->bytes += packets[i]->pkt_len;
    queue->packets += sent;
    lane->drops[CV_DROP_TX_FULL] += n - sent;
    rte_pktmbuf_free_bulk(packets, n);
}

/* The frontend chooses what it passes as kick: only an eventfd can neither block nor be another's.
 */
static bool is_eventfd(int fd) {
    static const char wanted[] = "anon_inode:[eventfd]";
    char link[32], target[sizeof(wanted)];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof(target)) == sizeof(wanted) - 1 &&
           memcmp(target, wanted, sizeof(wanted) - 1) == 0;
}

static int vhost_arm(struct port *port, uint16_t queue) {
    struct vhost *device = port->device;
    int vid = atomic_load(&device->vid), fd;
    struct rte_vhost_vring vring;
    int ret;

    if (atomic_load(&device->memory_lost))
        return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* it has nothing to say any more */
    if (vid < 0 || rte_vhost_get_vhost_vring(vid, FRONTEND_TX(queue), &vring) != 0)
        return -ENOTSUP;
    /* Ours, as librte_vhost may close its own at any time. */
    fd = fcntl(vring.kickfd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -ENOTSUP;
    ret = is_eventfd(fd) ? rte_vhost_enable_guest_notification(vid, FRONTEND_TX(queue), 1) : -1;
    check_memory(device);
    if (ret == 0)
        return fd;
    close(fd);
    return -ENOTSUP;
}

static void vhost_disarm(struct port *port, uint16_t queue, int fd) {
    struct vhost *device = port->device;
    int vid = atomic_load(&device->vid);
    uint64_t kicks;
    struct iovec iov = {.iov_base = &kicks, .iov_len = sizeof(kicks)};

    if (vid >= 0) {
        rte_vhost_enable_guest_notification(vid, FRONTEND_TX(queue), 0);
        check_memory(device);
    }
    /* Readable until it is read; the frontend may have made it blocking and read it itself. */
    if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) < 0)
        kicks = 0;
    close(fd);
}

static void vhost_state(struct port *port, struct cv_port_state *state) {
    struct vhost *device = port->device;
    int vid = atomic_load(&device->vid);

    state->ready &= vid >= 0;
    state->link_up = vid >= 0;
    state->features = vid >= 0 ? atomic_load(&device->features) : 0;
    state->memory_lost = atomic_load(&device->memory_lost);
}

const struct port_ops cv_vhost_ops = {
    .name = "vhost",
    .copy_ns = 100,
    .rx_least = 2, /* so that a single packet is seen to be all */
    .open = vhost_open,
    .close = vhost_close,
    .rx = vhost_rx,
    .tx = vhost_tx,
    .arm = vhost_arm,
    .disarm = vhost_disarm,
    .state = vhost_state,
};
