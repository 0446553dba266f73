/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every frame that comes out is one that went in: the same bytes but for its tag and checksums, or
 * a segment of a larger one, with headers that are right.
 */
#include <netinet/in.h>
#include <rte_ether.h>
#include <string.h>

#include "fuzz.h"

#define NO_TAG (-1)
#define CHECKSUM_BYTES 2
#define CHANGED_MAX 2 /* a checksum that may lie across two of the parts compared */
#define EXTENSIONS_MAX 8
#define FLAGS_OF_FIRST 0x80         /* CWR */
#define FLAGS_OF_LAST (0x01 | 0x08) /* FIN, PSH */

/* A frame without the tag that trunks have. */
struct view {
    int32_t tag; /* VLAN, or NO_TAG */
    const uint8_t *macs;
    const uint8_t *rest; /* from the type on */
    uint32_t n;          /* of rest */
};

/* Where TCP is, counted from the type. */
struct tcp_at {
    bool is_ipv6;
    uint32_t l3;
    uint32_t l4;
    uint32_t payload;
};

static const char *wrong; /* with the segment that a frame could be */

static uint32_t n_received; /* frames that librte_vhost has handed on, or dropped */

static uint16_t read_16(const uint8_t *bytes) {
    return bytes[0] << 8 | bytes[1];
}

static uint32_t read_32(const uint8_t *bytes) {
    return (uint32_t)read_16(bytes) << 16 | read_16(bytes + 2);
}

static struct view view_of(const uint8_t *bytes, uint32_t n, bool has_tag) {
    struct view view = {NO_TAG, bytes, bytes + 12, n - 12};

    if (has_tag) {
        view.tag = read_16(bytes + 14);
        view.rest += 4;
        view.n -= 4;
    }
    return view;
}

/* A tag is what trunks have, and what they cannot see they leave. */
static struct view view_of_input(const struct frame *frame) {
    bool has_tag = is_trunk(input.ingress) && frame->first_bytes >= 18 &&
                   read_16(frame->bytes + 12) == RTE_ETHER_TYPE_VLAN;
    struct view view;

    if (!is_trunk(input.ingress) || fuzz_ports[input.ingress].kind != CV_KIND_ETHDEV ||
        !(frame->nic_flags & RTE_MBUF_F_RX_VLAN_STRIPPED))
        return view_of(frame->bytes, frame->n, has_tag);
    view = view_of(frame->bytes, frame->n, false);
    view.tag = frame->nic_tci;
    return view;
}

/* The tag that the frame must have on its way out. */
static int32_t expected_tag(int number, const struct view *in) {
    uint16_t vlan;

    if (!is_trunk(number))
        return NO_TAG;
    if (is_trunk(input.ingress))
        return in->tag;
    vlan = fuzz_networks[fuzz_ports[input.ingress].network].vlan;
    return vlan == 0 ? NO_TAG : vlan;
}

/* How many checksums' worth of bytes differ. */
static uint32_t changed(const uint8_t *a, const uint8_t *b, uint32_t n) {
    uint32_t count = 0;

    if (memcmp(a, b, n) == 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        if (a[i] != b[i]) {
            count++;
            i += CHECKSUM_BYTES - 1;
        }
    }
    return count;
}

static uint16_t sum(const uint8_t *bytes, uint32_t n, uint32_t sum) {
    for (uint32_t i = 0; i + 1 < n; i += 2)
        sum += read_16(bytes + i);
    if (n % 2 != 0)
        sum += bytes[n - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* Bytes before the upper layer, or 0: no TCP there. */
static uint32_t ipv6_bytes(const uint8_t *l3, uint32_t n) {
    uint32_t at = 40;
    uint8_t next = l3[6];

    for (int i = 0; i < EXTENSIONS_MAX; i++) {
        if (next != 0 && next != 43 && next != 60)
            break;
        if (at + 8 > n)
            return 0;
        next = l3[at];
        at += 8 + 8 * l3[at + 1];
    }
    return next == IPPROTO_TCP ? at : 0;
}

/* The same. */
static uint32_t ipv4_bytes(const uint8_t *l3) {
    return l3[9] == IPPROTO_TCP ? (l3[0] & 0x0f) * 4u : 0;
}

static bool find_tcp(const struct view *view, struct tcp_at *tcp) {
    const uint8_t *bytes = view->rest;
    uint32_t l3 = 2, bytes_of_l3;
    uint16_t type = read_16(bytes);

    for (int i = 0; i < 2 && (type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ); i++) {
        l3 += 4;
        if (view->n < l3)
            return false;
        type = read_16(bytes + l3 - 2);
    }
    tcp->l3 = l3;
    tcp->is_ipv6 = type == RTE_ETHER_TYPE_IPV6;
    if (view->n < l3 + 40 || (!tcp->is_ipv6 && type != RTE_ETHER_TYPE_IPV4))
        return false;
    bytes_of_l3 = tcp->is_ipv6 ? ipv6_bytes(bytes + l3, view->n - l3) : ipv4_bytes(bytes + l3);
    tcp->l4 = l3 + bytes_of_l3;
    if (bytes_of_l3 < 20 || view->n < tcp->l4 + 20)
        return false;
    tcp->payload = tcp->l4 + (bytes[tcp->l4 + 12] >> 4) * 4;
    return tcp->payload >= tcp->l4 + 20 && view->n > tcp->payload;
}

/* Addresses, protocol and length; the rest of the sum is in the segment itself. */
static uint32_t pseudo_header(const uint8_t *l3, const struct tcp_at *tcp, uint32_t bytes) {
    uint32_t addresses = tcp->is_ipv6 ? sum(l3 + 8, 32, 0) : sum(l3 + 12, 8, 0);

    return addresses + IPPROTO_TCP + bytes;
}

static bool has_segment_headers(const struct view *out, const struct tcp_at *tcp,
                                bool needs_checksum) {
    const uint8_t *l3 = out->rest + tcp->l3, *l4 = out->rest + tcp->l4;
    uint32_t bytes = out->n - tcp->l4, pseudo = pseudo_header(l3, tcp, bytes);

    wrong = NULL;

    if (tcp->is_ipv6 && read_16(l3 + 4) != out->n - tcp->l3 - 40)
        wrong = "a segment's payload length";
    else if (!tcp->is_ipv6 && read_16(l3 + 2) != out->n - tcp->l3)
        wrong = "a segment's total length";
    else if (!tcp->is_ipv6 && sum(l3, tcp->l4 - tcp->l3, 0) != 0xffff)
        wrong = "a segment's header checksum";
    else if (needs_checksum && read_16(l4 + 16) != sum(l4, 0, pseudo))
        wrong = "a segment's partial checksum";
    else if (!needs_checksum && sum(l4, bytes, pseudo) != 0xffff)
        wrong = "a segment's checksum";
    return wrong == NULL;
}

static bool is_segment_of(const struct view *in, const struct view *out, const struct sent *sent) {
    uint8_t expected[1024];
    struct tcp_at tcp;
    uint32_t offset, n;

    if (!find_tcp(in, &tcp) || tcp.payload > sizeof(expected) || out->n <= tcp.payload)
        return false;
    n = out->n - tcp.payload;
    offset = read_32(out->rest + tcp.l4 + 4) - read_32(in->rest + tcp.l4 + 4);
    if (offset >= in->n - tcp.payload || n > in->n - tcp.payload - offset ||
        memcmp(out->rest + tcp.payload, in->rest + tcp.payload + offset, n) != 0)
        return false;
    memcpy(expected, in->rest, tcp.payload);
    memcpy(expected + tcp.l4 + 4, out->rest + tcp.l4 + 4, 4);   /* sequence number */
    memcpy(expected + tcp.l4 + 16, out->rest + tcp.l4 + 16, 2); /* checksum */
    if (offset > 0)
        expected[tcp.l4 + 13] &= ~FLAGS_OF_FIRST;
    if (offset + n < in->n - tcp.payload)
        expected[tcp.l4 + 13] &= ~FLAGS_OF_LAST;
    if (tcp.is_ipv6) {
        memcpy(expected + tcp.l3 + 4, out->rest + tcp.l3 + 4, 2);
    } else {
        memcpy(expected + tcp.l3 + 2, out->rest + tcp.l3 + 2, 4);   /* length and id */
        memcpy(expected + tcp.l3 + 10, out->rest + tcp.l3 + 10, 2); /* checksum */
    }
    if (memcmp(expected, out->rest, tcp.payload) != 0)
        return false;
    return has_segment_headers(out, &tcp, sent->needs_checksum);
}

/* Must a tap's frame be dropped for what its virtio-net header says? */
static bool contradicts_itself(const struct frame *frame) {
    uint8_t gso = frame->vnet.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
    uint16_t type = read_16(frame->bytes + 12);

    if (fuzz_ports[input.ingress].kind != CV_KIND_TAP || gso == VIRTIO_NET_HDR_GSO_NONE)
        return false;
    return !(frame->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || frame->vnet.gso_size < 8 ||
           !((gso == VIRTIO_NET_HDR_GSO_TCPV4 && type == RTE_ETHER_TYPE_IPV4) ||
             (gso == VIRTIO_NET_HDR_GSO_TCPV6 && type == RTE_ETHER_TYPE_IPV6));
}

/* Does the ingress say that nothing is left to be done? */
static bool was_complete(const struct frame *frame) {
    switch (fuzz_ports[input.ingress].kind) {
    case CV_KIND_TAP:
        return !(frame->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
    case CV_KIND_ETHDEV:
        return (frame->nic_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD &&
               !(frame->nic_flags & RTE_MBUF_F_RX_LRO);
    default:
        return false;
    }
}

/* One that was complete is partial now: the pseudo-header's sum, over what is to be completed. */
static bool is_partial(const struct view *out, const struct sent *sent) {
    uint32_t start = sent->checksum_start - (out->rest - out->macs), at = 2, sum_of_addresses;
    uint16_t type = read_16(out->rest), field = read_16(out->rest + start + sent->checksum_offset);

    for (; type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ; at += 4)
        type = read_16(out->rest + at + 2);
    sum_of_addresses = type == RTE_ETHER_TYPE_IPV6 ? sum(out->rest + at + 8, 32, 0)
                                                   : sum(out->rest + at + 12, 8, 0);
    sum_of_addresses += sent->checksum_offset == 6 ? IPPROTO_UDP : IPPROTO_TCP;
    wrong = "its pseudo-header's sum";
    return field == sum(out->rest, 0, sum_of_addresses + out->n - start);
}

/* Left as it was, or complete: of what the virtio-net header says, if a tap has given it. */
static bool is_checksum_right(const struct frame *frame, const struct view *out,
                              const struct sent *sent) {
    uint32_t start = frame->vnet.csum_start, at = start + frame->vnet.csum_offset;
    uint32_t tag_bytes = out->tag == NO_TAG ? 0 : 4;
    uint16_t complete, found;

    if (was_complete(frame) && sent->needs_checksum)
        return is_partial(out, sent);
    if (fuzz_ports[input.ingress].kind != CV_KIND_TAP ||
        !(frame->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || at < 12 || at + 2 > frame->n)
        return true;
    wrong = "its checksum";
    if (sent->needs_checksum)
        return (sent->gso == 0 || sent->gso_size == frame->vnet.gso_size) &&
               sent->checksum_start == start + tag_bytes &&
               sent->checksum_offset == frame->vnet.csum_offset &&
               memcmp(frame->bytes + 12, out->rest, out->n) == 0;
    complete = ~sum(frame->bytes + start, frame->n - start, 0);
    found = read_16(out->rest + at - 12);
    return found == complete || (found == 0xffff && complete == 0);
}

static bool is_of(const struct frame *frame, int number, const struct sent *sent) {
    struct view in = view_of_input(frame), out;
    int32_t tag = expected_tag(number, &in);
    bool has_tag = tag != NO_TAG;

    if (frame->n < RTE_ETHER_HDR_LEN || (has_tag && sent->n < 18) || contradicts_itself(frame))
        return false;
    out = view_of(sent->bytes, sent->n, has_tag);
    if (out.tag != tag || (has_tag && read_16(out.macs + 12) != RTE_ETHER_TYPE_VLAN))
        return false;
    if (is_trunk(input.ingress) && !is_trunk(number)) {
        uint16_t vlan = in.tag == NO_TAG ? 0 : in.tag & 0xfff;

        if (vlan != fuzz_networks[fuzz_ports[number].network].vlan)
            return false;
    }
    if (in.n == out.n &&
        changed(in.macs, out.macs, 12) + changed(in.rest, out.rest, in.n) <= CHANGED_MAX)
        return is_checksum_right(frame, &out, sent);
    return sent->gso == 0 && out.n < in.n && memcmp(in.macs, out.macs, 12) == 0 &&
           is_segment_of(&in, &out, sent);
}

void origin_received(const struct rte_mbuf *packet) {
    static uint8_t bytes[FRAME_BYTES_MAX];

    for (; n_received < input.n_frames; n_received++) {
        struct frame *frame = &input.frames[n_received];
        uint32_t n = packet->pkt_len;
        const uint8_t *whole = rte_pktmbuf_read(packet, 0, n, bytes);

        if (whole == NULL || n != frame->n || changed(whole, frame->bytes, n) > 1)
            continue;
        memcpy(frame->bytes, whole, n);
        n_received++;
        return;
    }
    FAIL("librte_vhost gives %u bytes that the frontend has not sent", packet->pkt_len);
}

void origin_begin(void) {
    n_received = 0;
}

void check_origin(int number, const struct sent *sent) {
    wrong = NULL;
    for (uint32_t i = 0; i < input.n_frames; i++)
        if (is_of(&input.frames[i], number, sent))
            return;
    FAIL("%u bytes to %s that did not come in so: %s", sent->n, fuzz_ports[number].name,
         wrong == NULL ? "other contents" : wrong);
}
