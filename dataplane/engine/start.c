/* SPDX-License-Identifier: Apache-2.0 */
/* From structured options to a running EAL, and back. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>
#include <rte_version.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "log_stream.h"
#include "lost_memory.h"
#include "pools.h"
#include "publisher.h"
#include "registry.h"
#include "worker.h"

#define ARGUMENTS_MAX 128
#define NO_PCI_DEVICE "ffff:ff:1f.7" /* an allow-list that is empty allows all */

struct arguments {
    int n;
    char *list[ARGUMENTS_MAX + 1];
};

static void append(struct arguments *arguments, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct arguments *arguments, const char *format, ...) {
    va_list values;

    if (arguments->n == ARGUMENTS_MAX)
        return;
    va_start(values, format);
    if (vasprintf(&arguments->list[arguments->n], format, values) >= 0)
        arguments->n++;
    va_end(values);
}

/* Lcore 0 is the main thread, lcore i+1 worker i; a core may serve two of them. */
static void append_lcores(struct arguments *arguments, const struct cv_options *options) {
    char map[16 * (CV_MAX_WORKERS + 1)];
    int n = snprintf(map, sizeof(map), "0@%u", options->main_core);

    for (uint16_t i = 0; i < options->n_workers; i++)
        n += snprintf(map + n, sizeof(map) - n, ",%u@%u", i + 1, options->cores[i]);
    append(arguments, "--lcores");
    append(arguments, "%s", map);
}

/*
 * EAL opens whatever it is allowed to when it starts. While another process has the devices that
 * would fail at best, and through UIO reset them beneath it. So it is allowed none then, and
 * plugging a device allows that one.
 */
static void append_pci(struct arguments *arguments, const struct cv_options *options) {
    uint16_t allowed = options->iova_mode == NULL ? options->n_pci : 0;

    if (options->n_pci == 0) {
        append(arguments, "--no-pci");
    } else if (options->iova_mode != NULL) {
        append(arguments, "--iova-mode=%s", options->iova_mode);
        append(arguments, "-a");
        append(arguments, NO_PCI_DEVICE);
    }
    for (uint16_t i = 0; i < allowed; i++) {
        append(arguments, "-a");
        append(arguments, "%s", options->pci[i]);
    }
}

/* In memory only: no hugepage file, no shared configuration, nothing to be left after a crash. */
static void make_arguments(struct arguments *arguments, const struct cv_options *options) {
    append(arguments, "cni-virtio-dataplane");
    append_lcores(arguments, options);
    append(arguments, options->huge ? "--in-memory" : "--no-shconf");
    append(arguments, "--no-telemetry");
    append(arguments, "-m");
    append(arguments, "%u", options->memory_mb);
    if (!options->huge)
        append(arguments, "--no-huge");
    append(arguments, "--log-level=%s", options->log_level);
    append_pci(arguments, options);
}

/* EAL makes its runtime directory even when it puts nothing there. */
static void remove_runtime_directory(void) {
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s", rte_eal_get_runtime_dir());
    if (rmdir(path) == 0)
        rmdir(dirname(path));
}

static int start_eal(const struct cv_options *options) {
    struct arguments arguments = {0};
    sigset_t all, before;
    int ret;

    make_arguments(&arguments, options);
    rte_openlog_stream(cv_log_stream());
    cv_lost_memory_watch();
    /* EAL's threads inherit the mask: signals are for the control thread only, but for one's own.
     */
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSYS); /* blocked, a refused system call would end the process */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = rte_eal_init(arguments.n, arguments.list);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    remove_runtime_directory();
    if (ret >= 0)
        return 0; /* EAL keeps the arguments */
    return cv_fail(rte_errno ? rte_errno : EINVAL,
                   "DPDK does not start with %u MiB of %s memory: %s (its own words are above)",
                   options->memory_mb, options->huge ? "hugepage" : "ordinary",
                   rte_strerror(rte_errno));
}

int cv_start(const struct cv_options *options) {
    int ret;

    if (options->n_workers == 0 || options->n_workers > CV_MAX_WORKERS)
        return cv_fail(ERANGE, "%u worker cores; 1 to %d are possible", options->n_workers,
                       CV_MAX_WORKERS);
    ret = start_eal(options);
    if (ret < 0)
        return ret;
    ret = cv_pools_create(options->memory_mb, options->n_workers);
    if (ret == 0)
        ret = cv_workers_start(options);
    if (ret == 0)
        ret = cv_publisher_start();
    if (ret < 0)
        cv_stop();
    return ret;
}

void cv_stop(void) {
    cv_clear();
    cv_publisher_stop();
    cv_workers_stop();
    cv_clear(); /* what workers could not be made to let go of */
    cv_pools_free();
    rte_eal_cleanup();
}

const char *cv_dpdk_version(void) {
    return rte_version();
}

const char *cv_iova_mode(void) {
    return rte_eal_iova_mode() == RTE_IOVA_PA ? "pa" : "va";
}

uint64_t cv_tsc_hz(void) {
    return rte_get_tsc_hz();
}
