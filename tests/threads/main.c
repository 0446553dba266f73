/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two workers forward while ports, networks and addresses come and go, rate limits change and
 * queues move between them. usage: engine-threads CORE CORE SECONDS
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "source.h"

#define PAUSE_US 2000
#define STEPS_PER_REBALANCE 16
#define STEPS_PER_SILENCE 64

static unsigned int seed = 1;
static int ports[SOURCES], uplink, network, n_moves;
static uint64_t n_limited, n_held, n_pauses;
static int32_t cores[SOURCES][QUEUES];

static int must(int result, const char *what) {
    if (result >= 0)
        return result;
    fprintf(stderr, "%s: %s\n", what, cv_error());
    exit(1);
}

static struct cv_port_conf source_conf(uint16_t number) {
    struct cv_port_conf conf = {
        .name = "source",
        .kind = number % 2 == 0 ? CV_KIND_TAP : CV_KIND_VHOST,
        .role = CV_ROLE_CONTAINER,
        .network = network,
        .uplink = -1,
        .has_mac = true,
        .spoof_check = true,
        .mtu = 1500,
        .queues = 1 + number % QUEUES,
    };

    if (number < STABLE)
        conf.kind = CV_KIND_TAP;
    source_mac(conf.mac, number);
    return conf;
}

static void add_source(uint16_t number) {
    struct cv_port_conf conf = source_conf(number);

    ports[number] = must(cv_port_add(&conf), "port");
}

static void add_uplink(void) {
    struct cv_port_conf conf = {
        .name = "uplink",
        .kind = CV_KIND_ETHDEV,
        .role = CV_ROLE_UPLINK,
        .network = -1,
        .uplink = -1,
        .mtu = 1500,
        .queues = NIC_QUEUES,
        .ethdev_devargs = "net_null0",
        .ethdev_netns_fd = -1,
    };

    uplink = must(cv_port_add(&conf), "uplink");
}

static int add_network(uint16_t vlan) {
    struct cv_network_conf conf = {.name = "net", .mtu = 1500, .uplink = uplink, .vlan = vlan};

    return must(cv_network_add(&conf), "network");
}

static void set_rates(void) {
    for (int i = 0; i < SOURCES; i++)
        atomic_store(&rates[i], rand_r(&seed) % 3 == 0 ? 1 + rand_r(&seed) % 32 : 1);
}

/* Nobody sends for so long that workers sleep. */
static void be_silent(void) {
    for (int i = 0; i < SOURCES; i++)
        atomic_store(&rates[i], 0);
    usleep(10 * PAUSE_US);
    set_rates();
    sources_kick();
}

static void count_moves(void) {
    struct cv_queue_counters counters;

    for (int i = 0; i < STABLE; i++) {
        for (uint16_t q = 0; cv_port_queue(ports[i], q, &counters) == 0; q++) {
            n_moves += cores[i][q] != counters.core;
            cores[i][q] = counters.core;
        }
    }
}

/* Those whose packets must all arrive have no limit on what comes to them. */
static void change_limits(void) {
    static const uint64_t rates_bits_s[] = {8000, 10000000, 100000000, 10000000000};
    int i = rand_r(&seed) % SOURCES, lowest = i < STABLE;
    uint64_t in = rates_bits_s[lowest + rand_r(&seed) % (4 - lowest)];
    uint64_t out = rates_bits_s[lowest + rand_r(&seed) % (4 - lowest)];
    struct cv_limits limits = {in, in / 100, out, out / 100};

    if (i >= LIMITED && i < STABLE)
        limits.ingress_bits_s = 0;
    if (rand_r(&seed) % 4 == 0)
        limits = (struct cv_limits){0};
    if (ports[i] >= 0)
        must(cv_port_set_limits(ports[i], &limits), "limits");
}

/* Before its port goes; all that it sends and that waits for it has had the time to arrive. */
static void count_limited(int i) {
    struct cv_port_counters counters;

    must(cv_port_counters(ports[i], &counters), "counters");
    n_held += counters.ingress_held_packets;
    n_pauses += counters.egress_pauses;
    n_limited += i < LIMITED ? counters.drops[CV_DROP_INGRESS_LIMIT] : 0;
}

static void lift_limits(void) {
    struct cv_limits none = {0};

    for (int i = 0; i < STABLE; i++)
        must(cv_port_set_limits(ports[i], &none), "limits");
    usleep(100 * PAUSE_US);
}

static void step(int number) {
    int i = STABLE + rand_r(&seed) % (SOURCES - STABLE);
    struct cv_fdb_entry entries[256];
    struct cv_port_counters counters;

    if (ports[i] < 0) {
        add_source(i);
    } else {
        count_limited(i);
        must(cv_port_del(ports[i]), "port");
        ports[i] = -1;
    }
    change_limits();
    must(cv_network_del(add_network(7)), "network");
    must(cv_fdb(network, entries, 256), "fdb");
    must(cv_port_counters(ports[0], &counters), "counters");
    count_moves();
    sources_kick();
    if (number % STEPS_PER_REBALANCE == 0) {
        must(cv_rebalance(), "rebalance");
        set_rates();
    }
    if (number % STEPS_PER_SILENCE == 0)
        be_silent();
    usleep(PAUSE_US);
}

static int report(void) {
    struct cv_worker_stats stats;
    uint64_t sent = 0, missing = 0, missing_limited = 0, sleeps = 0;

    for (int i = 0; i < FLOWS; i++) {
        sent += flows[i].sent;
        *(flow_destination(i) < LIMITED ? &missing_limited : &missing) +=
            flows[i].sent - flows[i].arrived;
    }
    for (uint16_t w = 0; cv_worker(w, &stats) == 0; w++)
        sleeps += stats.sleeps;
    printf("%lu packets, %lu missing, %lu held, %lu pauses, %lu of %lu over limits, "
           "%lu overtaken, %d moves, %lu sleeps\n",
           sent, missing, n_held, n_pauses, missing_limited, n_limited, n_faults, n_moves, sleeps);
    return sent == 0 || missing > 0 || n_held == 0 || n_pauses == 0 ||
           missing_limited > n_limited || n_faults > 0 || n_moves == 0 || sleeps == 0;
}

/*
 * Of a port that workers cannot be told of nothing is left. Those that they cannot be told to let
 * go of stay, until the workers have ended.
 */
static int stop_without_memory(void) {
    struct cv_port_conf added[] = {source_conf(0), source_conf(STABLE + 1), source_conf(0)};
    int before = n_open, n = 0, empty = add_network(9);

    added[2].role = CV_ROLE_EXCEPTION;
    added[2].uplink = uplink;
    no_tables = true;
    n += cv_network_del(empty) != -ENOMEM || cv_network_del(empty) != -ENOMEM;
    for (size_t i = 0; i < RTE_DIM(added); i++)
        n += cv_port_add(&added[i]) != -ENOMEM || n_open != before;
    no_tables = false;
    for (size_t i = 0; i < RTE_DIM(added); i++)
        must(cv_port_add(&added[i]), "port");
    no_tables = true;
    n += cv_clear() != -ENOMEM || n_open != before + (int)RTE_DIM(added);
    cv_stop();
    n += n_open != 0;
    printf("%d faults without memory\n", n);
    return n > 0;
}

int main(int argc, char **argv) {
    uint16_t on[2] = {argc > 1 ? atoi(argv[1]) : 0, argc > 2 ? atoi(argv[2]) : 1};
    struct cv_options options = {
        .main_core = on[0], .n_workers = 2, .cores = on, .memory_mb = 128, .log_level = "error"};
    time_t end = time(NULL) + (argc > 3 ? atoi(argv[3]) : 5);
    _Atomic bool stop = false;
    pthread_t toggler;
    int failed;

    sources_open();
    must(cv_start(&options), "start");
    add_uplink();
    network = add_network(0);
    for (int i = 0; i < SOURCES; i++)
        add_source(i);
    set_rates();
    pthread_create(&toggler, NULL, toggle_until, &stop);
    for (int number = 1; time(NULL) < end; number++)
        step(number);
    atomic_store(&stop, true);
    pthread_join(toggler, NULL);
    lift_limits();
    for (int i = STABLE; i < SOURCES; i++)
        if (ports[i] >= 0)
            must(cv_port_del(ports[i]), "port");
    for (int i = 0; i < STABLE; i++) {
        count_limited(i);
        must(cv_port_del(ports[i]), "port");
    }
    nic_send_all();
    failed = report();
    failed |= stop_without_memory();
    return failed;
}
