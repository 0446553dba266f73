/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CV_LOG_STREAM_H
#define CV_LOG_STREAM_H

#include <stdio.h>

/*
 * Where DPDK is to log: stderr, but for lines beyond what is bearable for long, as a frontend can
 * have as many written as it likes, and those that nobody reads in time. How many were left out is
 * said. Falls back to stderr itself.
 */
FILE *cv_log_stream(void);

#endif
