/* usage: start LIBRARY.so WORKERS.  Loads a bundle as a program would, runs it once and then some more, and prints
 * milliseconds (load, open, first run, a later run) and kilobytes (the most that was resident). */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* madvise */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "edgec/bench.h"
#include "edgec/edgec.h"
#include "edgec/loader.h"
#include "edgec/pool.h"

enum { RUNS = 15, HUGE = 2 << 20 };

static void stop(const char *what, ec_status status)
{
    fprintf(stderr, "start: %s: %s\n", what, ec_strerror(status));
    exit(1);
}

static double since(uint64_t start)
{
    return (double)(ec_clock_ns() - start) * 1e-6;
}

/* In huge pages where the arena fills some: each page is a fault in the first run. */
static void *new_arena(size_t bytes)
{
    void *arena = NULL;
    const size_t page = bytes < HUGE ? 4096 : HUGE;
    bytes = (bytes + page - 1) / page * page;
    if (posix_memalign(&arena, page, bytes) != 0)
        stop("arena", EC_ERR_MEMORY);
    if (page == HUGE)
        madvise(arena, bytes, MADV_HUGEPAGE); /* a wish */
    return arena;
}

static long peak_kilobytes(void)
{
    char line[256];
    long found = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            found = strtol(line + 6, NULL, 10);
    if (file != NULL)
        fclose(file);
    return found;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static ec_status run(ec_model *model)
{
    for (uint32_t i = 0; i < model->desc->n_inputs; i++)
        memset(ec_input(model, i).data, 0, ec_input(model, i).io->bytes);
    return ec_run(model);
}

int main(int count, char **words)
{
    const uint64_t start = ec_clock_ns();
    ec_bundle bundle;
    ec_model model;
    ec_pool *pool = NULL;
    double later[RUNS];
    if (count != 3)
        return 2;
    ec_status status = ec_load(words[1], &bundle);
    if (status < 0)
        stop(words[1], status);
    const double load = since(start);
    void *arena = new_arena(bundle.desc->arena_bytes);
    if ((status = ec_open(&model, bundle.desc, arena, bundle.desc->arena_bytes)) < 0)
        stop("open", status);
    if (atoi(words[2]) > 1) {
        if ((status = ec_pool_open(&pool, (uint32_t)atoi(words[2]))) < 0 || (status = ec_use_pool(&model, pool)) < 0)
            stop("pool", status);
    }
    const double open = since(start) - load;
    if ((status = run(&model)) < 0)
        stop("run", status);
    const double first = since(start) - load - open;
    for (int i = 0; i < RUNS; i++) {
        const uint64_t begin = ec_clock_ns();
        run(&model);
        later[i] = since(begin);
    }
    qsort(later, RUNS, sizeof later[0], compare);
    printf("%.4f %.4f %.4f %.4f %ld\n", load, open, first, later[RUNS / 2], peak_kilobytes());
    ec_pool_close(pool);
    free(arena);
    ec_unload(&bundle);
    return 0;
}
