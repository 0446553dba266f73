/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of DPDK, created and taken away at run time. */
#ifndef CV_PLUG_H
#define CV_PLUG_H

#include <rte_dev.h>
#include <stdint.h>

#include "engine.h"

/* A device that is there. */
struct plug {
    uint16_t id; /* DPDK's port id */
    char bus[CV_DRIVER_SIZE];
    char name[RTE_DEV_NAME_MAX_LEN];
};

/*
 * Creates the device that conf->ethdev_devargs describe, in the network namespace of
 * conf->ethdev_netns_fd if that is not -1. Returns 0; -ENODEV if DPDK cannot open it; -ENOSPC if
 * the kernel's vhost cannot map the dataplane's memory.
 */
int cv_plug(struct plug *plug, const struct cv_port_conf *conf);

/* Stops, closes and removes the device. */
void cv_unplug(const struct plug *plug);

#endif
