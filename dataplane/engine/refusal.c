/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that the seccomp filter refuses: they raise SIGSYS, here become EPERM, and are told
 * of. With the filter's own EPERM nobody would know why something failed.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine.h"
#include "error.h"

#define NUMBERS 1024
#define NAME_MAX_BYTES 32

static char names[NUMBERS][NAME_MAX_BYTES];
static atomic_bool told[NUMBERS];

static size_t append(char *line, size_t length, const char *text) {
    size_t n = strlen(text);

    memcpy(line + length, text, n);
    return length + n;
}

/* Async-signal-safe, unlike printf(). */
static size_t append_number(char *line, size_t length, unsigned int number) {
    char digits[12];
    size_t i = sizeof(digits) - 1;

    digits[i] = '\0';
    do
        digits[--i] = (char)('0' + number % 10);
    while (number /= 10);
    return append(line, length, digits + i);
}

static void tell(unsigned int number) {
    char line[256];
    size_t length = 0;

    if (number >= NUMBERS || atomic_exchange(&told[number], true))
        return;
    length = append(line, length, "ERROR dataplane: the seccomp filter refuses the system call ");
    length = append_number(line, length, number);
    length = append(line, length, " (");
    length = append(line, length, names[number][0] ? names[number] : "unknown");
    length = append(line, length, "); what needs it fails with EPERM; said once\n");
    if (write(STDERR_FILENO, line, length) < 0)
        return;
}

static void refuse(int signal, siginfo_t *info, void *context) {
    ucontext_t *interrupted = context;
    int error = errno;

    (void)signal;
    interrupted->uc_mcontext.gregs[REG_RAX] = -EPERM;
    tell((unsigned int)info->si_syscall);
    errno = error;
}

void cv_name_system_call(unsigned int number, const char *name) {
    if (number < NUMBERS)
        snprintf(names[number], sizeof(names[number]), "%s", name);
}

int cv_tell_of_refusals(void) {
    struct sigaction action = {.sa_sigaction = refuse, .sa_flags = SA_SIGINFO | SA_RESTART};

    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSYS, &action, NULL) < 0)
        return cv_fail(errno, "SIGSYS cannot be handled: %s", strerror(errno));
    return 0;
}
