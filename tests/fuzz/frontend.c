/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applications that do as virtio says: librte_vhost is real, so that packets have what it makes of
 * a virtio-net header, whatever that says. Split rings, mergeable buffers, no notifications.
 */
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"

#define RING_SIZE 256
#define RING_BYTES (64 * 1024)
#define BUFFER_BYTES 4096 /* of those to be filled */
#define RX_BYTES (RING_SIZE * BUFFER_BYTES)
#define TX_BYTES (1024 * 1024)
#define MEMORY_BYTES (2 * RING_BYTES + RX_BYTES + TX_BYTES)
#define HEADER_BYTES sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define FRAME_MAX UINT16_MAX /* a longer one stays in the ring */

#define F(bit) (UINT64_C(1) << (bit))
#define FEATURES                                                                                   \
    (F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4) |              \
     F(VIRTIO_NET_F_GUEST_TSO6) | F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_HOST_TSO6) |          \
     F(VIRTIO_NET_F_MRG_RXBUF) | F(32 /* version 1 */))

enum { RX, TX, RINGS };

/* https://qemu.readthedocs.io/en/latest/interop/vhost-user.html */
enum {
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
};

struct message {
    uint32_t request;
    uint32_t flags;
    uint32_t bytes;
    uint64_t words[6];
} __attribute__((packed));

static struct frontend {
    uint8_t *memory;
    struct vring rings[RINGS];
    uint16_t used; /* of RX, as far as it has been looked at */
} frontends[N_PORTS];

static void ask(int fd, uint32_t request, const uint64_t *words, uint32_t bytes, int passed) {
    struct message message = {.request = request, .flags = 1, .bytes = bytes};
    struct iovec iov = {&message, offsetof(struct message, words) + bytes};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(passed))];
    } control = {.header = {CMSG_LEN(sizeof(passed)), SOL_SOCKET, SCM_RIGHTS}};
    struct msghdr all = {.msg_iov = &iov, .msg_iovlen = 1};

    memcpy(message.words, words, bytes);
    if (passed >= 0) {
        memcpy(CMSG_DATA(&control.header), &passed, sizeof(passed));
        all.msg_control = &control;
        all.msg_controllen = sizeof(control);
    }
    REQUIRE(sendmsg(fd, &all, 0) == (ssize_t)iov.iov_len, "vhost-user message %u", request);
}

static void set_up_ring(int fd, struct frontend *frontend, uint32_t index) {
    struct vring *ring = &frontend->rings[index];
    uint64_t num[1] = {index | (uint64_t)RING_SIZE << 32}, base[1] = {index}, which[1] = {index};
    uint64_t addresses[5] = {index, (uintptr_t)ring->desc, (uintptr_t)ring->used,
                             (uintptr_t)ring->avail, 0};

    ask(fd, SET_VRING_NUM, num, sizeof(num), -1);
    ask(fd, SET_VRING_BASE, base, sizeof(base), -1);
    ask(fd, SET_VRING_ADDR, addresses, sizeof(addresses), -1);
    ask(fd, SET_VRING_CALL, which, sizeof(which), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ask(fd, SET_VRING_KICK, which, sizeof(which), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static uint8_t *rx_memory(const struct frontend *frontend) {
    return frontend->memory + RINGS * RING_BYTES;
}

static uint8_t *tx_memory(const struct frontend *frontend) {
    return rx_memory(frontend) + RX_BYTES;
}

static void offer(struct frontend *frontend, uint16_t buffer) {
    struct vring *ring = &frontend->rings[RX];
    uint16_t at = ring->avail->idx;

    ring->avail->ring[at % RING_SIZE] = buffer;
    ring->avail->idx = at + 1;
}

static void lay_out(struct frontend *frontend) {
    for (int i = 0; i < RINGS; i++) {
        vring_init(&frontend->rings[i], RING_SIZE, frontend->memory + i * RING_BYTES, 4096);
        frontend->rings[i].avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    }
    for (uint16_t i = 0; i < RING_SIZE; i++) {
        frontend->rings[RX].desc[i] =
            (struct vring_desc){.addr = (uintptr_t)(rx_memory(frontend) + i * BUFFER_BYTES),
                                .len = BUFFER_BYTES,
                                .flags = VRING_DESC_F_WRITE};
        offer(frontend, i);
    }
}

void frontend_connect(int number, const char *path) {
    struct frontend *frontend = &frontends[number];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), memory = memfd_create("frontend", 0);
    uint64_t features[1] = {FEATURES}, table[5] = {1}, none[1];

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    REQUIRE(ftruncate(memory, MEMORY_BYTES) == 0, "a frontend's memory");
    frontend->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    REQUIRE(frontend->memory != MAP_FAILED, "a frontend's memory");
    lay_out(frontend);
    REQUIRE(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connecting to %s",
            path);
    table[1] = table[3] = (uintptr_t)frontend->memory;
    table[2] = MEMORY_BYTES;
    ask(fd, SET_OWNER, none, 0, -1);
    ask(fd, SET_FEATURES, features, sizeof(features), -1);
    ask(fd, SET_MEM_TABLE, table, sizeof(table), memory);
    set_up_ring(fd, frontend, RX);
    set_up_ring(fd, frontend, TX);
}

/* The header, and the frame in the pieces that it is cut into. Returns the descriptor after. */
static uint16_t chain(struct frontend *frontend, uint16_t first, uint8_t *to,
                      const struct frame *frame) {
    struct vring_desc *desc = frontend->rings[TX].desc;
    struct virtio_net_hdr_mrg_rxbuf header = {.hdr = frame->vnet};
    uint32_t number = 0, n = HEADER_BYTES, all = HEADER_BYTES + frame->n;
    uint16_t next = first;

    memcpy(to, &header, sizeof(header));
    memcpy(to + sizeof(header), frame->bytes, frame->n);
    if (frame->split == 0)
        n = all;
    for (uint32_t at = 0; at < all; at += n, n = input_piece(frame, number++, all - at)) {
        desc[next] = (struct vring_desc){.addr = (uintptr_t)(to + at), .len = n};
        if (at + n < all) {
            desc[next].flags = VRING_DESC_F_NEXT;
            desc[next].next = next + 1;
        }
        next++;
    }
    return next;
}

static bool has_room(const struct frontend *frontend, uint16_t descriptor, const uint8_t *to,
                     const struct frame *frame) {
    return descriptor + PIECES_MAX + 2 <= RING_SIZE &&
           to + HEADER_BYTES + frame->n <= tx_memory(frontend) + TX_BYTES;
}

void frontend_feed(int number) {
    struct frontend *frontend = &frontends[number];
    struct vring *ring = &frontend->rings[TX];
    uint8_t *to = tx_memory(frontend);
    uint16_t descriptor = 0;
    struct frame *frame;

    while ((frame = frame_next(number, 0)) != NULL) {
        frame->n = RTE_MIN(frame->n, (uint32_t)FRAME_MAX);
        if (!has_room(frontend, descriptor, to, frame))
            break;
        frame->first_bytes = RTE_MIN(frame->n, (uint32_t)RTE_MBUF_DEFAULT_DATAROOM);
        ring->avail->ring[ring->avail->idx % RING_SIZE] = descriptor;
        descriptor = chain(frontend, descriptor, to, frame);
        to += HEADER_BYTES + frame->n;
        atomic_thread_fence(memory_order_release);
        ring->avail->idx++;
    }
}

bool frontend_pending(int number) {
    const struct vring *ring = &frontends[number].rings[TX];

    return ring->used->idx != ring->avail->idx;
}

/* A frame may be in several buffers. */
static void take_frame(int number, struct frontend *frontend) {
    static uint8_t bytes[FRAME_BYTES_MAX + BUFFER_BYTES];
    struct vring *ring = &frontend->rings[RX];
    struct virtio_net_hdr_mrg_rxbuf header = {.num_buffers = 1};
    uint32_t n = 0;

    for (uint16_t i = 0; i < header.num_buffers; i++) {
        const struct vring_used_elem *used = &ring->used->ring[frontend->used++ % RING_SIZE];
        const uint8_t *buffer = rx_memory(frontend) + used->id * BUFFER_BYTES;
        uint32_t skip = i == 0 ? HEADER_BYTES : 0;

        REQUIRE(used->len >= skip && n + used->len <= sizeof(bytes), "a frontend gets %u bytes",
                used->len);
        if (i == 0)
            memcpy(&header, buffer, sizeof(header));
        memcpy(bytes + n, buffer + skip, used->len - skip);
        n += used->len - skip;
        offer(frontend, used->id);
    }
    check_vnet(number, &header.hdr, bytes, n);
}

#define cv_vhost_ops real_vhost_ops
#include "port_vhost.c"
#undef cv_vhost_ops

static uint16_t guarded_rx(struct worker *worker, struct port *port, uint16_t queue,
                           struct rte_mbuf **packets, uint16_t n) {
    uint16_t got = vhost_rx(worker, port, queue, packets, n);

    buffers_guard_received(packets, got);
    for (uint16_t i = 0; i < got; i++)
        origin_received(packets[i]);
    return got;
}

static void checked_tx(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                       uint16_t n) {
    int number = port_number(queue->port);
    struct frontend *frontend = &frontends[number];

    for (uint16_t i = 0; i < n; i++)
        check_packet(number, packets[i]);
    vhost_tx(queue, lane, packets, n);
    while (frontend->used != frontend->rings[RX].used->idx)
        take_frame(number, frontend);
}

const struct port_ops cv_vhost_ops = {
    .name = "vhost",
    .rx_least = 2,
    .open = vhost_open,
    .close = vhost_close,
    .rx = guarded_rx,
    .tx = checked_tx,
    .arm = vhost_arm,
    .disarm = vhost_disarm,
    .state = vhost_state,
};
