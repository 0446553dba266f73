/* SPDX-License-Identifier: Apache-2.0 */
/* One sentence about the last error of the engine, beside the errno that is returned. */
#ifndef CV_ERROR_H
#define CV_ERROR_H

/* Keeps the formatted sentence for cv_error() and returns -errnum. */
int cv_fail(int errnum, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
