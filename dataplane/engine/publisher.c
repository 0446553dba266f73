/* SPDX-License-Identifier: Apache-2.0 */
#include "publisher.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "table.h"

#define PERIOD_NS 10000000
#define NS_PER_S 1000000000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed; /* by the monotonic clock */
static bool is_wanted, is_stopping, is_running;
static pthread_t thread;

static void rest(void) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PERIOD_NS;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_nsec -= NS_PER_S;
        until.tv_sec++;
    }
    while (!is_stopping && pthread_cond_timedwait(&changed, &lock, &until) != ETIMEDOUT)
        continue;
}

static void *run(void *argument) {
    int ret;

    (void)argument;
    pthread_mutex_lock(&lock);
    while (!is_stopping) {
        if (!is_wanted) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        is_wanted = false;
        pthread_mutex_unlock(&lock);
        ret = cv_table_publish(false);
        pthread_mutex_lock(&lock);
        if (ret < 0)
            is_wanted = true; /* of memory, there may be some later */
        rest();
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

int cv_publisher_start(void) {
    pthread_condattr_t attributes;
    sigset_t all, before;
    int ret;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
    is_stopping = false;
    sigfillset(&all);        /* signals are for the control thread only */
    sigdelset(&all, SIGSYS); /* but for what a thread's own system calls raise */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&lock);
    ret = pthread_create(&thread, NULL, run, NULL);
    is_running = ret == 0;
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret == 0)
        return 0;
    return cv_fail(ret, "the publishing thread does not start: %s", strerror(ret));
}

void cv_publisher_stop(void) {
    if (!is_running)
        return;
    pthread_mutex_lock(&lock);
    is_stopping = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    pthread_mutex_lock(&lock);
    is_running = false;
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&changed);
}

void cv_publish_soon(void) {
    pthread_mutex_lock(&lock);
    is_wanted = true;
    if (is_running)
        pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}
