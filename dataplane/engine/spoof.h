/* SPDX-License-Identifier: Apache-2.0 */
/* May this port send this packet? */
#ifndef CV_SPOOF_H
#define CV_SPOOF_H

#include "port.h"

/* Fills in a port's permitted sources. Returns 0 or -ENOMEM. */
int cv_sources_init(struct sources *sources, uint64_t mac, const struct cv_ip *ips, uint16_t n_ips);

void cv_sources_free(struct sources *sources);

/*
 * Compares the frame's MAC, ARP, IPv4 and IPv6 sender with the port's own, and has guard.h look at
 * what it says. A port without any address (no IPAM) is held to its MAC, and to what is not a
 * container's to say. Returns CV_DROP_COUNT if the packet may pass.
 */
enum cv_drop cv_spoof_check(const struct sources *sources, const struct rte_mbuf *packet);

#endif
