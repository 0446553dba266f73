/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learned addresses alone: "learn MAC PORT NOW_S" and "list NOW_S" by line of standard input. A
 * list is a line per entry, "MAC PORT AGE_S", the MAC an integer in hexadecimal, and "end".
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fdb.h"
#include "packet.h"

static struct learned learned;

static void list(uint32_t now_s) {
    static struct cv_fdb_entry entries[CV_LEARN_BUCKETS * CV_LEARN_WAYS];
    uint32_t n = cv_learn_list(&learned, now_s, entries, RTE_DIM(entries));

    for (uint32_t i = 0; i < n; i++)
        printf("%" PRIx64 " %d %u\n", cv_mac(entries[i].mac), entries[i].port, entries[i].age_s);
    printf("end\n");
}

int main(void) {
    char line[80];
    uint32_t now_s;
    uint16_t port;
    uint64_t mac;

    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (sscanf(line, "learn %" SCNx64 " %hu %u", &mac, &port, &now_s) == 3)
            cv_learn(&learned, mac, port, now_s);
        else if (sscanf(line, "list %u", &now_s) == 1)
            list(now_s);
        else
            return 2;
    }
    return 0;
}
