/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four networks: one local to the node, two on one uplink with a twin, one on another uplink; in
 * each a tap and a vhost-user port.
 */
#include <rte_ether.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "worker.h"

#define MTU_MAX 65521
#define OWN_IPS 2
#define QUEUES_MAX 2

#define NIC .kind = CV_KIND_ETHDEV, .network = NONE, .has_two_queues = true
#define TAP .kind = CV_KIND_TAP, .role = CV_ROLE_CONTAINER, .uplink = -1
#define VHOST .kind = CV_KIND_VHOST, .role = CV_ROLE_CONTAINER, .uplink = -1
#define CHECKED .spoof_check = true, .has_ips = true

struct fuzz_port fuzz_ports[N_PORTS] = {
    {"uplink0", NIC, .role = CV_ROLE_UPLINK, .uplink = -1},
    {"twin0", NIC, .role = CV_ROLE_EXCEPTION, .uplink = 0},
    {"uplink1", NIC, .role = CV_ROLE_UPLINK, .uplink = -1, .is_simple_nic = true},
    {"local-tap", TAP, .network = LOCAL, CHECKED, .has_two_queues = true},
    {"local-vhost", VHOST, .network = LOCAL, CHECKED},
    {"local-free", TAP, .network = LOCAL},
    {"local-limited", VHOST, .network = LOCAL, CHECKED, .can_be_limited = true},
    {"tagged-tap", TAP, .network = TAGGED, CHECKED},
    {"tagged-vhost", VHOST, .network = TAGGED, CHECKED},
    {"untagged-tap", TAP, .network = UNTAGGED, .spoof_check = true, .can_be_limited = true},
    {"untagged-vhost", VHOST, .network = UNTAGGED},
    {"other-tap", TAP, .network = OTHER, CHECKED},
    {"other-vhost", VHOST, .network = OTHER, CHECKED},
};

const struct fuzz_vlan fuzz_networks[N_NETWORKS] = {
    [LOCAL] = {-1, 0}, [TAGGED] = {0, 100}, [UNTAGGED] = {0, 0}, [OTHER] = {2, 7}};

static int network_ids[N_NETWORKS];
static char directory[] = "/tmp/cni-virtio-fuzz.XXXXXX";

static int must(int result, const char *what) {
    REQUIRE(result >= 0, "%s: %s", what, cv_error());
    return result;
}

int port_number(const struct port *port) {
    for (int i = 0; i < N_PORTS; i++)
        if (fuzz_ports[i].port == port)
            return i;
    FAIL("%s is none of our ports", port->name);
}

static void set_addresses(int number) {
    struct fuzz_port *port = &fuzz_ports[number];

    memcpy(port->mac, (uint8_t[]){2, 0, 0, 0, 0, number + 1}, 6);
    memcpy(port->ip4, (uint8_t[]){10, 9, 0, number + 1}, 4);
    memcpy(port->ip6, (uint8_t[16]){0xfd, 0, 0, 9, [15] = number + 1}, 16);
}

static void add_port(int number) {
    struct fuzz_port *port = &fuzz_ports[number];
    int fds[QUEUES_MAX] = {QUEUES_MAX * number, QUEUES_MAX * number + 1};
    struct cv_ip ips[OWN_IPS] = {{.version = 4}, {.version = 6}};
    char device[32], path[sizeof(directory) + 32];
    struct cv_port_conf conf = {.name = port->name,
                                .kind = port->kind,
                                .role = port->role,
                                .network = port->network == NONE ? -1 : network_ids[port->network],
                                .uplink = port->uplink,
                                .has_mac = true,
                                .spoof_check = port->spoof_check,
                                .mtu = MTU_MAX,
                                .queues = port->has_two_queues ? 2 : 1,
                                .n_ips = port->has_ips ? OWN_IPS : 0,
                                .ips = ips,
                                .tap_fds = fds,
                                .vhost_path = path,
                                .ethdev_devargs = device,
                                .ethdev_offloads = UINT32_MAX,
                                .ethdev_netns_fd = -1};

    set_addresses(number);
    memcpy(conf.mac, port->mac, sizeof(conf.mac));
    memcpy(ips[0].addr, port->ip4, sizeof(port->ip4));
    memcpy(ips[1].addr, port->ip6, sizeof(port->ip6));
    snprintf(device, sizeof(device), "net_null%d", number);
    snprintf(path, sizeof(path), "%s/%d.sock", directory, number);
    port->port = cv_port_get(must(cv_port_add(&conf), port->name));
    if (port->kind != CV_KIND_VHOST)
        return;
    frontend_connect(number, path);
    unlink(path);
    for (int waits = 0; !atomic_load(&port->port->ready); waits++) {
        REQUIRE(waits < 5000, "%s does not become ready", port->name);
        usleep(1000);
    }
}

static void add_networks(void) {
    for (int i = 0; i < N_NETWORKS; i++) {
        const struct fuzz_vlan *network = &fuzz_networks[i];
        int uplink = network->uplink < 0 ? -1 : fuzz_ports[network->uplink].port->id;
        struct cv_network_conf conf = {
            .name = "net", .mtu = MTU_MAX, .uplink = uplink, .vlan = network->vlan};

        network_ids[i] = must(cv_network_add(&conf), "network");
    }
}

static uint16_t first_core(const cpu_set_t *allowed) {
    uint16_t core = 0;

    while (!CPU_ISSET(core, allowed))
        core++;
    return core;
}

static void set_limits(const struct cv_limits *limits) {
    for (int i = 0; i < N_PORTS; i++)
        if (fuzz_ports[i].can_be_limited)
            must(cv_port_set_limits(fuzz_ports[i].port->id, limits), "limits");
}

void topology_start(void) {
    cpu_set_t allowed;
    uint16_t core;
    struct cv_options options = {
        .n_workers = 1, .cores = &core, .memory_mb = 64, .poll = true, .log_level = "critical"};

    sched_getaffinity(0, sizeof(allowed), &allowed);
    core = options.main_core = first_core(&allowed);
    REQUIRE(mkdtemp(directory) != NULL, "no directory %s", directory);
    setenv("RUNTIME_DIRECTORY", directory, 1);
    must(cv_start(&options), "start");
    for (int i = 0; i < N_PORTS && fuzz_ports[i].network == NONE; i++)
        add_port(i);
    add_networks();
    for (int i = 0; i < N_PORTS; i++)
        if (fuzz_ports[i].network != NONE)
            add_port(i);
    rmdir(directory);
    rounds_take_over();
    rounds_end();
    sched_setaffinity(0, sizeof(allowed), &allowed);
    set_limits(&(struct cv_limits){.ingress_bits_s = 1}); /* what that allocates stays */
    set_limits(&(struct cv_limits){0});
    buffers_guard();
}

void topology_apply(void) {
    static const uint16_t mtus[8] = {1500, 68, 576, 1280, 1499, 9000, 65000, MTU_MAX};
    static const uint64_t rates_bits_s[8] = {8000,      100000,     1000000,     10000000,
                                             100000000, 1000000000, 10000000000, 1};
    uint64_t rate = rates_bits_s[input.rate];
    struct cv_limits limits = {rate, rate / 100, rate, rate / 100};

    for (int i = 0; i < N_PORTS; i++) {
        struct port *port = fuzz_ports[i].port;

        atomic_store(&port->n_tx, i == input.gone ? 0 : fuzz_ports[i].has_two_queues ? 2 : 1);
        port->max_frame_bytes = mtus[input.mtus[i % 2]] + RTE_ETHER_HDR_LEN;
        if (is_trunk(i))
            port->max_frame_bytes += RTE_VLAN_HLEN;
        if (fuzz_ports[i].kind == CV_KIND_VHOST)
            atomic_store(&port->offloads, input.vhost_offloads);
        else if (fuzz_ports[i].kind == CV_KIND_ETHDEV && !fuzz_ports[i].is_simple_nic)
            atomic_store(&port->offloads, input.nic_offloads);
    }
    if (input.limits)
        set_limits(&limits);
}

void topology_lower_limits(void) {
    static const struct cv_limits lowest = {1000, 10, 1000, 10};

    if (input.limits)
        set_limits(&lowest);
}

void topology_lift_limits(void) {
    static const struct cv_limits none;

    if (input.limits)
        set_limits(&none);
}
