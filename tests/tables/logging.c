/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's stream alone: as many lines to it as the argument says, "ready" on standard output,
 * and then a line of the log for each line of standard input.
 */
#include <stdio.h>
#include <stdlib.h>

#include "log_stream.h"

int main(int argc, char **argv) {
    FILE *stream = cv_log_stream();
    char line[80];

    if (argc != 2)
        return 2;
    for (int i = 0; i < atoi(argv[1]); i++)
        fprintf(stream, "line %d %0500d\n", i, 0);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL)
        fprintf(stream, "%s", line);
    return 0;
}
