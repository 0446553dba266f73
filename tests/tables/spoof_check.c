/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spoof check alone: a frame per line of standard input, in hexadecimal, and the name of its
 * verdict per line of output. Each frame lies in memory of its own size, so that the sanitizers see
 * a read beyond it. usage: spoof-check MAC [IP…]
 */
#include <arpa/inet.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "spoof.h"

#define FRAME_BYTES_MAX 65536

static size_t read_hex(const char *text, uint8_t *bytes) {
    size_t n = 0;

    while (sscanf(text + 2 * n, "%2hhx", &bytes[n]) == 1)
        n++;
    return n;
}

static enum cv_drop verdict(const struct sources *sources, const uint8_t *frame, size_t n) {
    uint8_t *exact = malloc(n);
    struct rte_mbuf packet = {.buf_addr = exact, .data_len = n, .pkt_len = n};
    enum cv_drop reason;

    memcpy(exact, frame, n);
    reason = cv_spoof_check(sources, &packet);
    free(exact);
    return reason;
}

static const char *name_of(enum cv_drop reason) {
    return reason == CV_DROP_COUNT ? "passes" : cv_drop_name(reason);
}

int main(int argc, char **argv) {
    static char line[2 * FRAME_BYTES_MAX + 2];
    static uint8_t frame[FRAME_BYTES_MAX + 1];
    struct cv_ip ips[8] = {0};
    struct sources sources = {0};
    uint8_t mac[RTE_ETHER_ADDR_LEN];
    int n_ips = 0;

    if (argc < 2 || argc > 2 + (int)RTE_DIM(ips) || read_hex(argv[1], mac) != sizeof(mac))
        return 2;
    for (; argv[2 + n_ips] != NULL; n_ips++) {
        const char *text = argv[2 + n_ips];

        ips[n_ips].version = strchr(text, ':') == NULL ? 4 : 6;
        if (inet_pton(ips[n_ips].version == 4 ? AF_INET : AF_INET6, text, ips[n_ips].addr) != 1)
            return 2;
    }
    if (cv_sources_init(&sources, cv_mac(mac), ips, n_ips) < 0)
        return 1;
    while (fgets(line, sizeof(line), stdin) != NULL) {
        size_t n = read_hex(line, frame);

        if (n < RTE_ETHER_HDR_LEN) /* the caller's part: cv_switch() */
            return 2;
        printf("%s\n", name_of(verdict(&sources, frame, n)));
    }
    cv_sources_free(&sources);
    return 0;
}
