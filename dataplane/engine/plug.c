/* SPDX-License-Identifier: Apache-2.0 */
#include "plug.h"

#include <errno.h>
#include <pthread.h>
#include <rte_ethdev.h>
#include <rte_memory.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

#define MAX_MEM_REGIONS "/sys/module/vhost/parameters/max_mem_regions"

/* What a thread needs to plug a device while it is in another network namespace. */
struct plugging {
    const struct plug *plug;
    const char *arguments;
    int netns_fd;
    int result;
};

/* virtio-user opens its tap in the namespace of the thread that plugs it; the thread ends there. */
static void *plug_in_namespace(void *argument) {
    struct plugging *plugging = argument;

    if (setns(plugging->netns_fd, CLONE_NEWNET) < 0)
        plugging->result = -errno;
    else
        plugging->result =
            rte_eal_hotplug_add(plugging->plug->bus, plugging->plug->name, plugging->arguments);
    return NULL;
}

static int hotplug(const struct plug *plug, const char *arguments, int netns_fd) {
    struct plugging plugging = {.plug = plug, .arguments = arguments, .netns_fd = netns_fd};
    pthread_t thread;
    int error;

    if (netns_fd < 0)
        return rte_eal_hotplug_add(plug->bus, plug->name, arguments);
    error = pthread_create(&thread, NULL, plug_in_namespace, &plugging);
    if (error != 0)
        return -error;
    pthread_join(thread, NULL);
    return plugging.result;
}

/* "0000:3b:00.0" is on the PCI bus, "driver_name,key=value" on the vdev bus. */
static void name_device(struct plug *plug, const char *devargs) {
    unsigned int pci[4];

    snprintf(plug->name, sizeof(plug->name), "%.*s", (int)strcspn(devargs, ","), devargs);
    snprintf(plug->bus, sizeof(plug->bus), "%s",
             sscanf(devargs, "%x:%x:%x.%x", &pci[0], &pci[1], &pci[2], &pci[3]) == 4 ? "pci"
                                                                                     : "vdev");
}

static int count_region(const struct rte_memseg_list *list, void *argument) {
    unsigned int *regions = argument;

    if (!list->external)
        ++*regions;
    return 0;
}

/*
 * virtio-user shows vhost-net each list of memory segments as one region. If those are too many
 * its driver says so in the log only, and the device carries nothing.
 */
static int check_memory_regions(const struct cv_port_conf *conf) {
    unsigned int regions = 0, max = 64;
    FILE *file;

    if (strstr(conf->ethdev_devargs, "path=/dev/vhost-net") == NULL)
        return 0;
    file = fopen(MAX_MEM_REGIONS, "re");
    if (file != NULL) {
        if (fscanf(file, "%u", &max) != 1)
            max = 64;
        fclose(file);
    }
    rte_memseg_list_walk(count_region, &regions);
    if (regions <= max)
        return 0;
    return cv_fail(ENOSPC,
                   "%s: the dataplane's memory is %u regions, the kernel's vhost takes %u: load "
                   "the module vhost with max_mem_regions=%u or more",
                   conf->name, regions, max, RTE_MAX(regions, 64u));
}

int cv_plug(struct plug *plug, const struct cv_port_conf *conf) {
    const char *comma = strchr(conf->ethdev_devargs, ',');
    int ret = check_memory_regions(conf);

    if (ret < 0)
        return ret;
    name_device(plug, conf->ethdev_devargs);
    /* EAL has opened the PCI devices that it was allowed to, and keeps them when they are closed.
     */
    if (rte_eth_dev_get_port_by_name(plug->name, &plug->id) == 0)
        return 0;
    ret = hotplug(plug, comma == NULL ? "" : comma + 1, conf->ethdev_netns_fd);
    /* Drivers say why in DPDK's log only: what comes back is -1, or EFAULT for an unknown driver.
     */
    if (ret < 0)
        return cv_fail(
            ENODEV,
            "%s: DPDK cannot open %s: no such driver, interface or device, no permission, "
            "or another process has it (its own words are in the log)",
            conf->name, conf->ethdev_devargs);
    ret = rte_eth_dev_get_port_by_name(plug->name, &plug->id);
    if (ret == 0)
        return 0;
    rte_eal_hotplug_remove(plug->bus, plug->name);
    return cv_fail(ENODEV, "%s: %s is not a network device", conf->name, plug->name);
}

void cv_unplug(const struct plug *plug) {
    rte_eth_dev_stop(plug->id);
    rte_eth_dev_close(plug->id);
    rte_eal_hotplug_remove(plug->bus, plug->name);
}
