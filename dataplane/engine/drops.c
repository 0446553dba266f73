/* SPDX-License-Identifier: Apache-2.0 */
/* What the reasons for a drop are called. */
#include <stddef.h>

#include "engine.h"

static const char *const drop_names[CV_DROP_COUNT] = {
    [CV_DROP_RUNT] = "runt",
    [CV_DROP_SPOOF_MAC] = "spoof_mac",
    [CV_DROP_SPOOF_ARP] = "spoof_arp",
    [CV_DROP_SPOOF_IPV4] = "spoof_ipv4",
    [CV_DROP_SPOOF_IPV6] = "spoof_ipv6",
    [CV_DROP_SPOOF_ND] = "spoof_nd",
    [CV_DROP_ROGUE_RA] = "rogue_ra",
    [CV_DROP_ROGUE_REDIRECT] = "rogue_redirect",
    [CV_DROP_ROGUE_DHCP] = "rogue_dhcp",
    [CV_DROP_HIDDEN] = "hidden_headers",
    [CV_DROP_VLAN] = "vlan",
    [CV_DROP_NO_DESTINATION] = "no_destination",
    [CV_DROP_RESERVED] = "reserved_group",
    [CV_DROP_BAD_OFFLOAD] = "bad_offload",
    [CV_DROP_TOO_BIG] = "too_big",
    [CV_DROP_NO_MBUF] = "no_mbuf",
    [CV_DROP_NOT_READY] = "not_ready",
    [CV_DROP_TX_FULL] = "tx_full",
    [CV_DROP_RX_ERROR] = "rx_error",
    [CV_DROP_RX_MISSED] = "rx_missed",
    [CV_DROP_INGRESS_LIMIT] = "ingress_limit",
    [CV_DROP_FLOOD] = "flood",
};

const char *cv_drop_name(int reason) {
    return reason >= 0 && reason < CV_DROP_COUNT ? drop_names[reason] : NULL;
}
