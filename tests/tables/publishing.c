/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The publisher alone: how often a table was tried after one wish, if the first tries, as many as
 * the argument says, find no memory.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "error.h"
#include "publisher.h"
#include "table.h"

#define TRIES_MAX_US 500000

static _Atomic int tries, failures;

int cv_table_publish(bool wait) {
    (void)wait;
    return ++tries <= failures ? -ENOMEM : 0;
}

int cv_fail(int errnum, const char *format, ...) {
    (void)format;
    return -errnum;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    failures = atoi(argv[1]);
    if (cv_publisher_start() < 0)
        return 1;
    cv_publish_soon();
    usleep(TRIES_MAX_US);
    cv_publisher_stop();
    printf("%d\n", tries);
    return 0;
}
