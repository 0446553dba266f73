/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "log_stream.h"

#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* A start with every message of EAL's has under a thousand lines. */
#define LINES_AT_ONCE 2000
#define LINES_PER_S 20

/* The stream's own lock is held. */
static uint64_t credit = LINES_AT_ONCE, left_out;
static time_t last_s;

static void refill(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (last_s != 0 && now.tv_sec > last_s)
        credit += (uint64_t)(now.tv_sec - last_s) * LINES_PER_S;
    if (credit > LINES_AT_ONCE)
        credit = LINES_AT_ONCE;
    last_s = now.tv_sec;
}

static ssize_t write_lines(void *cookie, const char *text, size_t bytes) {
    (void)cookie;
    refill();
    if (credit == 0) {
        left_out++;
        return bytes;
    }
    credit--;
    if (left_out > 0)
        dprintf(STDERR_FILENO, "(%lu lines left out)\n", left_out);
    left_out = 0;
    /* Whether anybody reads it is not the writer's business. */
    if (write(STDERR_FILENO, text, bytes) < 0)
        return bytes;
    return bytes;
}

FILE *cv_log_stream(void) {
    cookie_io_functions_t functions = {.write = write_lines};
    FILE *stream = fopencookie(NULL, "w", functions);

    if (stream == NULL)
        return stderr;
    setvbuf(stream, NULL, _IOLBF, BUFSIZ);
    return stream;
}
