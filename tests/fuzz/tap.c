/* SPDX-License-Identifier: Apache-2.0 */
/* Port kind "tap" as it is, on a kernel that is played here. */
#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuzz.h"

#define QUEUES_MAX 2

static ssize_t read_tap(int fd, uint8_t *to, size_t room);
static ssize_t write_tap(int fd, const uint8_t *from, size_t n);
static ssize_t writev_tap(int fd, const struct iovec *iov, int n);

#define read(fd, to, room) read_tap(fd, to, room)
#define write(fd, from, n) write_tap(fd, from, n)
#define writev(fd, iov, n) writev_tap(fd, iov, n)
#define ioctl(fd, request, argument) ((void)(argument), 0)
#define fcntl(fd, request, ...) 0
#define cv_tap_ops real_tap_ops
#include "port_tap.c"
#undef cv_tap_ops

/* A descriptor is a port's number and a queue. */
static ssize_t read_tap(int fd, uint8_t *to, size_t room) {
    const struct frame *frame = frame_next(fd / QUEUES_MAX, fd % QUEUES_MAX);
    size_t n;

    if (frame == NULL) {
        errno = EAGAIN;
        return -1;
    }
    n = sizeof(frame->vnet) + frame->n;
    REQUIRE(n <= room, "a tap's buffer has room for %zu of %zu bytes", room, n);
    ASAN_UNPOISON_MEMORY_REGION(to, room);
    memcpy(to, &frame->vnet, sizeof(frame->vnet));
    memcpy(to + sizeof(frame->vnet), frame->bytes, frame->n);
    ASAN_POISON_MEMORY_REGION(to + n, room - n);
    return n;
}

static bool is_full(void) {
    errno = input.n_calls & 2 ? EIO : EAGAIN;
    return input.egress_full && input.n_calls++ % 2 == 0;
}

static ssize_t write_tap(int fd, const uint8_t *from, size_t n) {
    struct virtio_net_hdr vnet;

    if (is_full())
        return -1;
    REQUIRE(n > sizeof(vnet), "a tap gets %zu bytes", n);
    memcpy(&vnet, from, sizeof(vnet));
    check_vnet(fd / QUEUES_MAX, &vnet, from + sizeof(vnet), n - sizeof(vnet));
    return n;
}

static ssize_t writev_tap(int fd, const struct iovec *iov, int n_iov) {
    static uint8_t bytes[FRAME_BYTES_MAX + 1024];
    size_t n = 0;

    for (int i = 0; i < n_iov; i++) {
        REQUIRE(n + iov[i].iov_len <= sizeof(bytes), "a tap gets too long a frame");
        memcpy(bytes + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    return write_tap(fd, bytes, n);
}

static uint16_t guarded_rx(struct worker *worker, struct port *port, uint16_t queue,
                           struct rte_mbuf **packets, uint16_t n) {
    uint16_t got = real_tap_ops.rx(worker, port, queue, packets, n);

    buffers_guard_received(packets, got);
    return got;
}

static void checked_tx(struct tx_queue *queue, struct lane *lane, struct rte_mbuf **packets,
                       uint16_t n) {
    for (uint16_t i = 0; i < n; i++)
        check_chain(packets[i]);
    real_tap_ops.tx(queue, lane, packets, n);
}

const struct port_ops cv_tap_ops = {
    .name = "tap",
    .rx_least = 2,
    .open = tap_open,
    .close = tap_close,
    .rx = guarded_rx,
    .tx = checked_tx,
    .arm = tap_arm,
    .disarm = tap_disarm,
    .state = tap_state,
};
