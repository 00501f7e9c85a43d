/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a model on inputs from a file, and writes what it measured and the outputs to another file.
 *
 * `request`: uint32 mode, runs; for each run all inputs.
 * `probes`:  in mode PROBED uint32 step, offset, bytes of places in the arena, sorted by step, and (uint32_t)-1 as last.
 * `answer`:  uint64 ticks that 1,000,000 instructions take; for each run
 *            TIMED: uint64 ticks; STEPS: uint64 ticks of each step; STACK: uint64 bytes; PROBED: the probed memory;
 *            then each output, and int64 how many entries of it count.
 */
#include "firmware_model.h" /* MODEL, ARENA_BYTES, ARENA_ALIGN, STEPS */
#include "semihost.h"
#include "ticks.h"

#define STACK_PAINTED 65536u
#define STACK_PAINT 0x5a17c0deu

enum { TIMED, STEPS_TIMED, STACK, PROBED };

extern uint32_t firmware_bss_end[];

EC_ALIGNAS(ARENA_ALIGN) static uint8_t arena[ARENA_BYTES];
static uint32_t answer;

_Noreturn static void fail(const char *what)
{
    print(what);
    print("\n");
    stop(1);
}

static uint32_t opened(const char *path, int writing)
{
    const uint32_t file = file_open(path, writing);
    if (file == 0)
        fail("a file cannot be opened");
    return file;
}

static void get(uint32_t file, void *to, size_t bytes)
{
    if (!file_read(file, to, bytes))
        fail("the request is cut short");
}

static void put(const void *from, size_t bytes)
{
    if (!file_write(answer, from, bytes))
        fail("the answer cannot be written");
}

static ec_status checked(ec_status status)
{
    if (status < 0)
        fail(ec_strerror(status));
    return status;
}

static void run_timed(ec_model *model)
{
    const uint64_t start = ticks();
    checked(ec_run(model));
    const uint64_t taken = ticks() - start;
    put(&taken, sizeof taken);
}

static void add(void *user, uint32_t step, uint64_t taken)
{
    ((uint64_t *)user)[step] += taken; /* a step inside a loop runs several times */
}

static void run_steps_timed(ec_model *model)
{
    static uint64_t sums[STEPS + 1];
    for (uint32_t i = 0; i < STEPS; i++)
        sums[i] = 0;
    checked(ec_set_profile(model, add, sums, ticks));
    checked(ec_run(model));
    put(sums, STEPS * sizeof sums[0]);
}

/* The stack that a run needs, from the call of ec_run on: how much of the paint below is gone. */
__attribute__((noinline)) static void run_on_paint(ec_model *model)
{
    uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    uint32_t *lowest = top - STACK_PAINTED / sizeof *top;
    if (lowest < firmware_bss_end)
        lowest = firmware_bss_end;
    for (volatile uint32_t *at = lowest; at < top; at++)
        *at = STACK_PAINT;
    ticks_stop(); /* its interrupt takes stack too */
    checked(ec_run(model));
    const volatile uint32_t *used = lowest;
    while (used < top && *used == STACK_PAINT)
        used++;
    const uint64_t bytes = (uintptr_t)top - (uintptr_t)used;
    put(&bytes, sizeof bytes);
}

static void run_probed(ec_model *model)
{
    struct {
        uint32_t step, offset, bytes;
    } probe;
    const uint32_t probes = opened("probes", 0);
    ec_status left;
    get(probes, &probe, sizeof probe);
    do {
        const uint32_t step = model->next;
        left = checked(ec_step_next(model));
        for (; probe.step == step; get(probes, &probe, sizeof probe))
            put(arena + probe.offset, probe.bytes);
    } while (left > 0);
    file_close(probes);
}

static void write_outputs(const ec_model *model)
{
    for (uint32_t i = 0; i < MODEL.n_outputs; i++) {
        const ec_tensor tensor = ec_output(model, i);
        const int64_t count = ec_output_count(model, i);
        put(tensor.data, tensor.io->bytes);
        put(&count, sizeof count);
    }
}

int main(void)
{
    static void (*const modes[])(ec_model *) = {run_timed, run_steps_timed, run_on_paint, run_probed};
    struct {
        uint32_t mode, runs;
    } asked;
    ec_model model;
    const uint32_t request = opened("request", 0);
    answer = opened("answer", 1);
    get(request, &asked, sizeof asked);
    checked(ec_open(&model, &MODEL, arena, sizeof arena));
    ticks_start();
    const uint64_t per_million = ticks_per_million();
    put(&per_million, sizeof per_million);
    for (uint32_t run = 0; run < asked.runs; run++) {
        for (uint32_t i = 0; i < MODEL.n_inputs; i++) {
            const ec_tensor tensor = ec_input(&model, i);
            get(request, tensor.data, tensor.io->bytes);
        }
        modes[asked.mode](&model);
        write_outputs(&model);
    }
    file_close(answer);
    return 0;
}
