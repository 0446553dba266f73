/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lost memory alone. The first argument says where a file shrinks under its mapping, and what is
 * accessed then: "guarded", "unguarded" (no more) or "beside". Without a SIGBUS that ends it, it
 * says by how many mappings the process has grown.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lost_memory.h"

#define PAGE 4096
#define PAGES 1024

static int count_mappings(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    int n = 0, c;

    while ((c = fgetc(maps)) != EOF)
        n += c == '\n';
    fclose(maps);
    return n;
}

static volatile char *map_file(int *fd) {
    char *memory;

    *fd = memfd_create("memory", 0);
    assert(ftruncate(*fd, PAGES * PAGE) == 0);
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    assert(memory != MAP_FAILED);
    memset(memory, 1, PAGES * PAGE);
    return memory;
}

int main(int argc, char **argv) {
    int fd, other_fd, before;
    volatile char *memory = map_file(&fd), *other = map_file(&other_fd);

    assert(argc == 2);
    cv_lost_memory_watch();
    assert(cv_lost_memory_guard((void *)memory, PAGES * PAGE));
    if (strcmp(argv[1], "unguarded") == 0)
        cv_lost_memory_unguard((void *)memory);
    before = count_mappings();
    assert(ftruncate(fd, 0) == 0 && ftruncate(other_fd, 0) == 0);
    assert(!cv_lost_memory_met() && !cv_lost_memory_is_lost((void *)memory));
    errno = EXDEV;
    if (strcmp(argv[1], "beside") == 0)
        other[0] = 2;
    for (int i = PAGES - 2; i >= 0; i -= 2)
        memory[i * PAGE]++;
    assert(errno == EXDEV);
    assert(memory[2 * PAGE] == 1 && memory[PAGE] == 0);
    assert(cv_lost_memory_met() && !cv_lost_memory_met());
    assert(cv_lost_memory_is_lost((void *)memory) && !cv_lost_memory_is_lost((void *)other));
    cv_lost_memory_unguard((void *)memory);
    assert(!cv_lost_memory_is_lost((void *)memory));
    printf("%d\n", count_mappings() - before);
    return 0;
}
