/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's C API, and at the same time the cdef of its Python binding.
 *
 * Every function that can fail returns a negative errno; cv_error() then holds one sentence that
 * says what was wrong and what to do. Calls are made by one thread (the control thread); the
 * workers never call anything here.
 */
#ifndef CV_ENGINE_H
#define CV_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

/* cdef begin */
#define CV_MAX_PORTS 1024
#define CV_MAX_NETWORKS 1024
#define CV_MAX_QUEUES 256
#define CV_MAX_WORKERS 32
#define CV_NAME_SIZE 256
#define CV_DRIVER_SIZE 32
#define CV_WAKE_BUCKETS 16

enum cv_kind { CV_KIND_ETHDEV, CV_KIND_VHOST, CV_KIND_TAP };

/* An exception port is an uplink's twin in the host's kernel. */
enum cv_role { CV_ROLE_CONTAINER, CV_ROLE_HOST, CV_ROLE_UPLINK, CV_ROLE_EXCEPTION };

/* What a port's peer can take unfinished; the engine does the rest in software. */
enum cv_offload {
    CV_OFFLOAD_TX_CHECKSUM = 1, /* a TCP or UDP checksum still to be completed */
    CV_OFFLOAD_TSO4 = 2,        /* TCP segments over the MTU, IPv4 */
    CV_OFFLOAD_TSO6 = 4,        /* TCP segments over the MTU, IPv6 */
    CV_OFFLOAD_RX_CHECKSUM = 8, /* says which received checksums it has verified */
    CV_OFFLOAD_LRO = 16,        /* hands over received TCP segments merged */
};

enum cv_drop {
    CV_DROP_RUNT,           /* shorter than its headers */
    CV_DROP_SPOOF_MAC,      /* source MAC is not the port's */
    CV_DROP_SPOOF_ARP,      /* ARP sender is not the port's */
    CV_DROP_SPOOF_IPV4,     /* IPv4 source is not the port's */
    CV_DROP_SPOOF_IPV6,     /* IPv6 source is not the port's */
    CV_DROP_SPOOF_ND,       /* neighbour discovery about another's address, or with another's MAC */
    CV_DROP_ROGUE_RA,       /* router advertisement from a container */
    CV_DROP_ROGUE_REDIRECT, /* ICMP redirect from a container */
    CV_DROP_ROGUE_DHCP,     /* answer of a DHCP server from a container */
    CV_DROP_HIDDEN,         /* headers where the spoof check cannot see them */
    CV_DROP_VLAN,           /* tagged frame from a container, or a tag of no network */
    CV_DROP_NO_DESTINATION, /* unicast to an address nobody has */
    CV_DROP_RESERVED,       /* link-local control frame (802.1D group) from or to a container */
    CV_DROP_BAD_OFFLOAD,    /* virtio-net header that contradicts the packet */
    CV_DROP_TOO_BIG,        /* over the egress MTU */
    CV_DROP_NO_MBUF,        /* packet buffers exhausted */
    CV_DROP_NOT_READY,      /* egress has no frontend, or its interface is down or gone */
    CV_DROP_TX_FULL,        /* egress did not take it */
    CV_DROP_RX_ERROR,       /* the device found it broken */
    CV_DROP_RX_MISSED,      /* the device had no room for it: its rings were not emptied in time */
    CV_DROP_INGRESS_LIMIT,  /* over the rate into the container, and as much waits as may */
    CV_DROP_FLOOD,          /* broadcast or multicast over what a container's copies may cost */
    CV_DROP_COUNT
};

struct cv_options {
    uint16_t main_core;
    uint16_t n_workers;
    const uint16_t *cores; /* n_workers CPUs, one poll-mode worker each */
    uint32_t memory_mb;
    bool huge; /* false: ordinary 4 KiB pages */
    bool poll; /* true: workers never sleep */
    uint16_t n_pci;
    const char *const *pci; /* n_pci addresses that EAL may touch; no others */
    const char *iova_mode;  /* "pa" or "va", and the PCI devices are opened with their ports; NULL:
                               as they ask for, and they are opened at the start */
    const char *log_level;  /* EAL's: "error", "warning", "notice", "info", "debug" */
};

struct cv_network_conf {
    const char *name;
    uint16_t mtu;
    int32_t uplink; /* port id, or -1: local to this node */
    uint16_t vlan;  /* tag on the uplink, 0: untagged */
};

struct cv_ip {
    uint8_t version;  /* 4 or 6 */
    uint8_t addr[16]; /* network order; the first 4 bytes for IPv4 */
};

/* As CNI has it: ingress is into the container. A rate of 0 is no limit. */
struct cv_limits {
    uint64_t ingress_bits_s;
    uint64_t ingress_burst_bits;
    uint64_t egress_bits_s;
    uint64_t egress_burst_bits;
};

struct cv_port_conf {
    const char *name;
    enum cv_kind kind;
    enum cv_role role;
    int32_t network; /* network id; -1 for uplinks and exception ports */
    int32_t uplink;  /* exception port: port id of its uplink; else -1 */
    bool has_mac;
    uint8_t mac[6];
    bool spoof_check;
    uint16_t mtu;
    uint16_t queues;
    uint16_t queue_size; /* 0: the device's default */
    uint16_t n_ips;
    const struct cv_ip *ips;
    const int *tap_fds;         /* tap: one open queue each; owned by the port on success */
    const char *vhost_path;     /* vhost: socket path */
    bool vhost_connect;         /* vhost: the application made the socket, connect to it */
    const char *ethdev_devargs; /* ethdev: PCI address or "driver_name,key=value,…" */
    uint32_t ethdev_offloads;   /* ethdev: mask of enum cv_offload that may be used */
    int ethdev_netns_fd;        /* ethdev: namespace of the tap behind it, or -1: our own */
    struct cv_limits limits;    /* containers' ports only */
};

struct cv_port_state {
    bool ready; /* packets can pass */
    bool link_up;
    uint8_t mac[6];
    uint16_t mtu;
    uint16_t rx_queues; /* in use now */
    uint16_t tx_queues;
    uint32_t offloads; /* mask of enum cv_offload in effect */
    uint64_t features; /* vhost: negotiated virtio features */
    bool memory_lost;  /* vhost: the frontend took away memory that it had shared; not served */
    uint32_t speed_mbps;
    char driver[CV_DRIVER_SIZE];
};

struct cv_queue_counters {
    uint64_t rx_packets; /* from the port's peer into the engine */
    uint64_t rx_bytes;
    uint64_t tx_packets; /* from the engine to the port's peer */
    uint64_t tx_bytes;
    int32_t core; /* of the worker that receives from it, -1 while none does */
};

struct cv_port_counters {
    uint64_t rx_packets;
    uint64_t rx_bytes;
    uint64_t tx_packets;
    uint64_t tx_bytes;
    uint64_t rx_gso_packets;       /* received with segments still merged (over the MTU) */
    uint64_t tx_gso_packets;       /* handed on so */
    uint64_t sw_gso_packets;       /* segmented in software for this egress */
    uint64_t sw_csum_packets;      /* checksum completed in software for this egress */
    uint64_t ingress_held_packets; /* waited for the limit before they went or were dropped */
    uint64_t egress_pauses;        /* times that a queue was left alone, being over the limit */
    uint64_t drops[CV_DROP_COUNT];
};

struct cv_fdb_entry {
    uint8_t mac[6];
    bool is_static;
    int32_t port;
    uint32_t age_s; /* since last seen; 0 for static entries */
};

struct cv_worker_stats {
    uint16_t core;
    uint16_t rx_queues;    /* assigned to this worker */
    uint64_t busy_cycles;  /* in rounds that moved packets */
    uint64_t idle_cycles;  /* in rounds that found none */
    uint64_t sleep_cycles; /* asleep */
    uint64_t rounds;
    uint64_t empty_rounds;
    uint64_t packets;
    uint64_t sleeps;
    uint64_t tables;                 /* published since the start, up to the one in use */
    uint64_t wake_cycles;            /* how late it woke, of those sleeps whose end is known */
    uint64_t wakes[CV_WAKE_BUCKETS]; /* those sleeps: [i] at most 2^i us late; the last, any */
};

struct cv_pool_stats {
    char name[CV_DRIVER_SIZE];
    uint32_t size;
    uint32_t in_use;
    uint32_t buffer_bytes;
};

/* One sentence about the last error. */
const char *cv_error(void);

/* Starts EAL, the packet pools and one worker per core. Once per process. */
int cv_start(const struct cv_options *options);

/* Deletes what is left, ends the workers and EAL. */
void cv_stop(void);

const char *cv_dpdk_version(void);
const char *cv_iova_mode(void); /* "pa" or "va": how devices address memory */

/* Whether librte_vhost has our guards against hostile frontends, which an installed one has not. */
bool cv_frontends_are_guarded(void);

uint64_t cv_tsc_hz(void);

/* Adds an L2 domain. Returns its id. -EEXIST, -ENOENT (uplink), -ENOSPC, -EBUSY (VLAN taken). */
int cv_network_add(const struct cv_network_conf *conf);

/* -ENOENT; -EBUSY while it has ports. */
int cv_network_del(int network);

/* Adds a port and starts to serve it. Returns its id. Fds are taken over on success only. */
int cv_port_add(const struct cv_port_conf *conf);

/* Stops serving the port, waits for the workers to let go, closes it. -ENOENT, -EBUSY (in use). */
int cv_port_del(int port);

/* Deletes all ports and networks: containers' ports first, uplinks last. -ENOMEM: all are there. */
int cv_clear(void);

/*
 * Sets a port's limits, while it runs; packets that wait keep their order. -ENOENT, -EINVAL (no
 * container's port), -ENOMEM.
 */
int cv_port_set_limits(int port, const struct cv_limits *limits);

/*
 * While held, ports receive nothing: what their peers send waits in rings and queues. So that many
 * can be added, or given to another process, as if at once. -ENOMEM.
 */
int cv_hold(bool on);

int cv_port_state(int port, struct cv_port_state *state);
int cv_port_counters(int port, struct cv_port_counters *counters);
int cv_port_queue(int port, uint16_t queue, struct cv_queue_counters *counters);

/* Short name of a drop reason, as shown to users; NULL beyond the last. */
const char *cv_drop_name(int reason);

/* Copies at most max forwarding entries of a network. Returns how many there are. */
int cv_fdb(int network, struct cv_fdb_entry *entries, uint32_t max);

/* Worker i of n_workers; one that sleeps is woken, to time it. -ENOENT beyond the last. */
int cv_worker(uint16_t index, struct cv_worker_stats *stats);

/*
 * Measures how busy each receive queue has kept its worker since the call before, and moves some to
 * other workers if one is much busier than another. To be called every few seconds. -ENOMEM.
 */
int cv_rebalance(void);

/*
 * Has system calls that a seccomp filter refuses fail with EPERM, and each told of on stderr once,
 * by the name it was given. Before the filter is installed.
 */
int cv_tell_of_refusals(void);
void cv_name_system_call(unsigned int number, const char *name);

/* Packet pool i. -ENOENT beyond the last. */
int cv_pool(uint16_t index, struct cv_pool_stats *stats);
/* cdef end */

#endif
