/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of an input: 5 about the ports (see input_read), then frames, each of 16 bytes about it
 * (see read_frame) and its first bytes; the rest of it, which nobody parses, is made here.
 */
#include "fuzz.h"

#include <string.h>

#define HEAD_BYTES 5
#define FRAME_HEAD_BYTES 16
#define ALL_FRAMES_BYTES (100 * 1000)

/* Of the byte about addresses: the destination in its low bits, 0 as it is. */
#define DESTINATION_MASK 0x0f
#define DESTINATION_UNKNOWN 14
#define DESTINATION_ALL 15
#define OWN_SOURCE 0x10
#define SECOND_QUEUE 0x20
#define LONGER 0x40 /* than 16 bits can say */

struct input input;

static uint8_t arena[ALL_FRAMES_BYTES + FRAME_BYTES_MAX];

static uint16_t read_16(const uint8_t *bytes) {
    return bytes[0] | bytes[1] << 8;
}

static void pad(uint8_t *bytes, uint32_t n) {
    static uint8_t pattern[FRAME_BYTES_MAX];

    if (pattern[1] == 0)
        for (uint32_t i = 0; i < sizeof(pattern); i++)
            pattern[i] = i * 167 + (i >> 8) * 29;
    memcpy(bytes, pattern, n);
}

static void set_destination(struct frame *frame, uint8_t which) {
    static const uint8_t unknown[6] = {2, 0, 0, 0, 0, 0xee};

    if (which == 0 || frame->n < 6)
        return;
    if (which == DESTINATION_ALL)
        memset(frame->bytes, 0xff, 6);
    else
        memcpy(frame->bytes, which == DESTINATION_UNKNOWN ? unknown : fuzz_ports[which - 1].mac, 6);
}

/* So that half of the inputs get by the spoof check. */
static void set_own_source(struct frame *frame) {
    const struct fuzz_port *port = &fuzz_ports[input.ingress];
    uint8_t *bytes = frame->bytes;
    uint16_t type;

    if (frame->n < 14)
        return;
    memcpy(bytes + 6, port->mac, 6);
    type = bytes[12] << 8 | bytes[13];
    if (type == 0x0800 && frame->n >= 34)
        memcpy(bytes + 26, port->ip4, 4);
    if (type == 0x86dd && frame->n >= 54)
        memcpy(bytes + 22, port->ip6, 16);
    if (type == 0x0806 && frame->n >= 42) {
        memcpy(bytes + 22, port->mac, 6);
        memcpy(bytes + 28, port->ip4, 4);
    }
}

/* Any combination that some driver may give; the virtio-net header's bytes say which. */
static void set_nic_metadata(struct frame *frame) {
    static const uint64_t checksums[] = {0, RTE_MBUF_F_RX_L4_CKSUM_NONE,
                                         RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_BAD};
    uint8_t bits = frame->vnet.flags;

    frame->nic_flags = checksums[bits & 3];
    if (bits & 4)
        frame->nic_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
    if (bits & 8)
        frame->nic_flags |= RTE_MBUF_F_RX_RSS_HASH;
    if (frame->vnet.gso_type & 7)
        frame->nic_flags |= RTE_MBUF_F_RX_LRO;
    frame->nic_tci = frame->vnet.csum_offset;
}

/* Of `left` bytes at data; those of the frame go to `to`. Returns how many bytes it took. */
static size_t read_frame(struct frame *frame, const uint8_t *data, size_t left, uint8_t *to) {
    uint8_t control = data[0];
    uint32_t n = read_16(data + 12), whole = read_16(data + 14);

    *frame = (struct frame){.bytes = to, .split = data[11]};
    frame->queue = (control & SECOND_QUEUE) != 0;
    memcpy(&frame->vnet, data + 1, sizeof(frame->vnet));
    n = RTE_MIN(n, left - FRAME_HEAD_BYTES);
    whole += control & LONGER ? FRAME_BYTES_MAX - UINT16_MAX : 0;
    frame->n = RTE_MAX(RTE_MAX(n, whole), 1u);
    pad(to, frame->n);
    memcpy(to, data + FRAME_HEAD_BYTES, n);
    set_destination(frame, control & DESTINATION_MASK);
    if (control & OWN_SOURCE)
        set_own_source(frame);
    set_nic_metadata(frame);
    return FRAME_HEAD_BYTES + n;
}

void input_read(const uint8_t *data, size_t size) {
    uint8_t head[HEAD_BYTES] = {0};
    size_t at = RTE_MIN(size, sizeof(head)), bytes = 0;

    memcpy(head, data, at);
    memset(&input, 0, offsetof(struct input, frames));
    input.ingress = head[0] % N_PORTS;
    input.mtus[0] = head[1] & 7;
    input.mtus[1] = head[1] >> 4 & 7;
    input.vhost_offloads = head[2] & 7;
    input.nic_offloads = head[2] >> 3 & 7;
    input.limits = head[2] & 0x40;
    input.prepare_refuses = head[2] & 0x80;
    input.allocations = head[3] == 0 ? UINT32_MAX : head[3] - 1u;
    input.rate = head[4] & 7;
    input.egress_full = head[4] & 8;
    input.gone = (head[4] >> 4) - 1;
    while (size - at >= FRAME_HEAD_BYTES && input.n_frames < FRAMES_MAX &&
           bytes < ALL_FRAMES_BYTES) {
        struct frame *frame = &input.frames[input.n_frames++];

        at += read_frame(frame, data + at, size - at, arena + bytes);
        bytes += frame->n;
    }
}

uint32_t input_piece(const struct frame *frame, uint32_t number, uint32_t left) {
    uint32_t least = frame->n / PIECES_MAX + 1, piece;

    if (frame->split == 0)
        return left;
    piece = number == 0 ? frame->split * 4u : 1 + (frame->split * 7919u * number) % 1531;
    return RTE_MIN(RTE_MAX(piece, least), left);
}
