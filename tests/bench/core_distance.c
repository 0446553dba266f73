/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core_distance A B: prints how many nanoseconds a cache line takes from core A to core B and back,
 * the least of many samples, so that others may run on the cores meanwhile.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SAMPLES 50
#define TURNS 100

static _Alignas(128) atomic_int ball;
static _Alignas(128) atomic_bool stop;

static void pin(int core) {
    cpu_set_t cores;

    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof(cores), &cores) != 0) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static double now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * now.tv_sec + now.tv_nsec;
}

static void *give_back(void *core) {
    pin(*(int *)core);
    while (!stop) {
        if (ball == 1)
            ball = 0;
    }
    return NULL;
}

static double sample_ns(void) {
    double began_ns = now_ns();

    for (int i = 0; i < TURNS; i++) {
        ball = 1;
        while (ball == 1)
            ;
    }
    return (now_ns() - began_ns) / TURNS;
}

int main(int argc, char **argv) {
    double least_ns = 1e9;
    pthread_t thread;
    int other;

    if (argc != 3)
        return 2;
    pin(atoi(argv[1]));
    other = atoi(argv[2]);
    if (pthread_create(&thread, NULL, give_back, &other) != 0)
        return 1;
    for (int i = 0; i < SAMPLES; i++) {
        double ns = sample_ns();

        least_ns = ns < least_ns ? ns : least_ns;
    }
    stop = true;
    pthread_join(thread, NULL);
    printf("%.1f\n", least_ns);
    return 0;
}
