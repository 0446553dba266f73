/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "log_stream.h"

#include <limits.h>
#include <poll.h>
#include <stdbool.h>
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

/*
 * Never waits for whoever reads it: every thread that logs would wait for the stream's lock. So
 * much at a time as a pipe has room for when it says that it is writable. False if not all went.
 */
static bool write_at_once(const char *text, size_t bytes) {
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    while (bytes > 0) {
        ssize_t n;

        if (poll(&fd, 1, 0) != 1 || (fd.revents & POLLOUT) == 0)
            return false;
        n = write(STDERR_FILENO, text, bytes < PIPE_BUF ? bytes : PIPE_BUF);
        if (n <= 0)
            return false;
        text += n;
        bytes -= n;
    }
    return true;
}

static bool tell_left_out(void) {
    char text[64];

    if (left_out == 0)
        return true;
    if (!write_at_once(text, snprintf(text, sizeof(text), "(%lu lines left out)\n", left_out)))
        return false;
    left_out = 0;
    return true;
}

static ssize_t write_lines(void *cookie, const char *text, size_t bytes) {
    (void)cookie;
    refill();
    if (credit == 0) {
        left_out++;
        return bytes;
    }
    credit--;
    if (!tell_left_out() || !write_at_once(text, bytes))
        left_out++;
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
