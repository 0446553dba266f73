/* SPDX-License-Identifier: Apache-2.0 */
#include "gso.h"

#include <rte_ip.h>
#include <rte_tcp.h>

#include "packet.h"
#include "pools.h"

static void skip(struct gso *gso, uint32_t bytes) {
    gso->segment_offset += bytes;
    while (gso->segment != NULL && gso->segment_offset >= gso->segment->data_len) {
        gso->segment_offset -= gso->segment->data_len;
        gso->segment = gso->segment->next;
    }
}

void cv_gso_begin(struct gso *gso, const struct rte_mbuf *packet, bool checksum) {
    *gso = (struct gso){.packet = packet, .segment = packet, .checksum = checksum};
    gso->header_len = packet->l2_len + packet->l3_len + packet->l4_len;
    gso->payload_left = packet->pkt_len - gso->header_len;
    skip(gso, gso->header_len);
}

/* Copies payload to the end of out, which may grow into a chain. Returns false without buffers. */
static bool copy_payload(struct gso *gso, struct rte_mbuf *out, uint32_t bytes) {
    struct rte_mbuf *tail = out;

    while (bytes > 0) {
        const uint8_t *from =
            rte_pktmbuf_mtod_offset(gso->segment, const uint8_t *, gso->segment_offset);
        uint32_t n = RTE_MIN(bytes, gso->segment->data_len - gso->segment_offset);

        if (rte_pktmbuf_tailroom(tail) == 0) {
            tail->next = rte_pktmbuf_alloc(cv_std_pool);
            if (tail->next == NULL)
                return false;
            tail = tail->next;
            out->nb_segs++;
        }
        n = RTE_MIN(n, (uint32_t)rte_pktmbuf_tailroom(tail));
        rte_memcpy(rte_pktmbuf_mtod_offset(tail, void *, tail->data_len), from, n);
        tail->data_len += n;
        out->pkt_len += n;
        bytes -= n;
        skip(gso, n);
    }
    return true;
}

static void fix_ip(const struct gso *gso, struct rte_mbuf *out) {
    uint16_t l3_bytes = out->pkt_len - out->l2_len;

    if (out->ol_flags & RTE_MBUF_F_TX_IPV6) {
        struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(out, struct rte_ipv6_hdr *, out->l2_len);

        ip->payload_len = rte_cpu_to_be_16(l3_bytes - sizeof(*ip));
    } else {
        struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(out, struct rte_ipv4_hdr *, out->l2_len);

        ip->total_length = rte_cpu_to_be_16(l3_bytes);
        ip->packet_id = rte_cpu_to_be_16(rte_be_to_cpu_16(ip->packet_id) + gso->index);
        ip->hdr_checksum = 0;
        ip->hdr_checksum = rte_ipv4_cksum(ip);
    }
}

/* Sum over source, destination, protocol and TCP length (RFC 9293, 3.1; RFC 8200, 8.1). */
static uint16_t pseudo_header(const struct rte_mbuf *out) {
    const uint8_t *ip = rte_pktmbuf_mtod_offset(out, const uint8_t *, out->l2_len);
    uint32_t tcp_bytes = out->pkt_len - out->l2_len - out->l3_len;
    struct {
        uint32_t len;
        uint32_t proto;
    } tail = {rte_cpu_to_be_32(tcp_bytes), RTE_BE32(IPPROTO_TCP)};
    uint32_t sum;

    if (out->ol_flags & RTE_MBUF_F_TX_IPV6)
        sum = __rte_raw_cksum(ip + offsetof(struct rte_ipv6_hdr, src_addr), 32, 0);
    else
        sum = __rte_raw_cksum(ip + offsetof(struct rte_ipv4_hdr, src_addr), 8, 0);
    sum = __rte_raw_cksum(&tail, sizeof(tail), sum);
    return __rte_raw_cksum_reduce(sum);
}

static void fix_tcp(const struct gso *gso, struct rte_mbuf *out, bool last) {
    uint32_t at = out->l2_len + out->l3_len;
    struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(out, struct rte_tcp_hdr *, at);

    tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + gso->payload_done);
    if (gso->index > 0)
        tcp->tcp_flags &= ~RTE_TCP_CWR_FLAG;
    if (!last)
        tcp->tcp_flags &= ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
    tcp->cksum = pseudo_header(out);
    if (!gso->checksum)
        return;
    out->ol_flags = 0;
    tcp->cksum = ~cv_sum(out, at);
}

static struct rte_mbuf *make_segment(struct gso *gso) {
    uint32_t payload = RTE_MIN(gso->payload_left, (uint32_t)gso->packet->tso_segsz);
    const struct rte_mbuf *packet = gso->packet;
    struct rte_mbuf *out = rte_pktmbuf_alloc(cv_std_pool);

    if (out == NULL)
        return NULL;
    rte_memcpy(rte_pktmbuf_append(out, gso->header_len), rte_pktmbuf_mtod(packet, void *),
               gso->header_len);
    out->tx_offload = packet->tx_offload;
    out->ol_flags = packet->ol_flags & (RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6);
    out->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
    out->tso_segsz = 0;
    if (!copy_payload(gso, out, payload)) {
        rte_pktmbuf_free(out);
        return NULL;
    }
    fix_ip(gso, out);
    fix_tcp(gso, out, payload == gso->payload_left);
    gso->payload_left -= payload;
    gso->payload_done += payload;
    gso->index++;
    return out;
}

uint16_t cv_gso_next(struct gso *gso, struct rte_mbuf **segments, uint16_t max) {
    uint16_t n = 0;

    while (n < max && gso->payload_left > 0) {
        segments[n] = make_segment(gso);
        if (segments[n] == NULL) {
            gso->failed = true;
            gso->payload_left = 0;
            break;
        }
        n++;
    }
    return n;
}
