/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine.h"

static char last_error[512];

int cv_fail(int errnum, const char *format, ...) {
    va_list args;

    va_start(args, format);
    vsnprintf(last_error, sizeof(last_error), format, args);
    va_end(args);
    return -errnum;
}

const char *cv_error(void) {
    return last_error;
}
