/* The core: what ec_open refuses and chooses, how arguments, inputs and outputs are found. */
#include <string.h>

#include "check.h"
#include "tiny.h"

EC_ALIGNAS(64) static uint8_t arena[TINY_ARENA_BYTES + 64];

static ec_status open_changed(const ec_desc *desc)
{
    ec_model model;
    const ec_status status = ec_open(&model, desc, arena, sizeof arena);
    CHECK((status == EC_OK) == (model.desc != NULL));
    return status;
}

static void open_refuses_what_cannot_run(void)
{
    ec_model model;
    CHECK_EQ(ec_open(NULL, &tiny_desc, arena, sizeof arena), EC_ERR_ARG);
    CHECK_EQ(ec_open(&model, NULL, arena, sizeof arena), EC_ERR_ARG);
    CHECK_EQ(ec_open(&model, &tiny_desc, NULL, sizeof arena), EC_ERR_ARG);
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, TINY_ARENA_BYTES - 1), EC_ERR_ARENA);
    CHECK_EQ(ec_open(&model, &tiny_desc, arena + 4, TINY_ARENA_BYTES), EC_ERR_ALIGN);
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, TINY_ARENA_BYTES), EC_OK);

    ec_desc desc = tiny_desc;
    desc.abi = EC_ABI + 1;
    CHECK_EQ(open_changed(&desc), EC_ERR_ABI);
    desc = tiny_desc;
    desc.max_args = EC_MAX_ARGS + 1;
    CHECK_EQ(open_changed(&desc), EC_ERR_ABI);
    desc.max_args = EC_MAX_ARGS;
    CHECK_EQ(open_changed(&desc), EC_OK);
    desc.arena_align = 0;
    CHECK_EQ(open_changed(&desc), EC_OK);
}

static void open_refuses_a_missing_instruction_set(void)
{
    ec_desc desc = tiny_desc;
    desc.isa = ec_cpu_isa();
    CHECK_EQ(ec_missing_isa(&desc), 0);
    CHECK_EQ(open_changed(&desc), EC_OK);
    desc.isa = ec_cpu_isa() | 1u << 31;
    CHECK_EQ(ec_missing_isa(&desc), 1u << 31);
    CHECK_EQ(open_changed(&desc), EC_ERR_ISA);
    CHECK_EQ(ec_missing_isa(NULL), 0);
}

static void what_the_system_grants_is_what_the_cpu_offers(void)
{
    CHECK_EQ(ec_claim_isa(0), 0);
    CHECK_EQ(ec_claim_isa(1u << 31), 0);
    CHECK_EQ(ec_claim_isa(ec_cpu_isa()), ec_cpu_isa());
    CHECK_EQ(ec_claim_isa(ec_cpu_isa() | 1u << 31), ec_cpu_isa()); /* asking again does no harm */
}

/* Three levels of one model, as the compiler links them: the most demanding first. */
static void the_best_level_that_fits_is_taken(void)
{
    const uint32_t avx2 = EC_ISA_AVX2 | EC_ISA_FMA, avx512 = avx2 | EC_ISA_AVX512F | EC_ISA_AVX512BW;
    ec_desc low = tiny_desc, middle = tiny_desc, high = tiny_desc;
    low.isa = EC_ISA_FMA;
    middle.isa = avx2;
    middle.fallback = &low;
    high.isa = avx512;
    high.fallback = &middle;
    CHECK(ec_select(&high, avx512) == &high);
    CHECK(ec_select(&high, avx512 | EC_ISA_F16C) == &high);
    CHECK(ec_select(&high, avx512 & ~(uint32_t)EC_ISA_AVX512BW) == &middle);
    CHECK(ec_select(&high, avx2) == &middle);
    CHECK(ec_select(&high, EC_ISA_FMA) == &low);
    CHECK(ec_select(&high, EC_ISA_AVX2) == NULL);
    CHECK(ec_select(&high, 0) == NULL);
    CHECK(ec_select(&middle, avx512) == &middle); /* nobody looks upwards */
    CHECK(ec_select(NULL, avx512) == NULL);
}

static void a_model_is_opened_at_its_level(void)
{
    const uint32_t absent = 1u << 31;
    ec_desc low = tiny_desc, high = tiny_desc;
    ec_model model;
    high.isa = absent;
    high.target = "high";
    high.fallback = &low;
    low.target = "low";
    low.isa = ec_cpu_isa();
    CHECK_EQ(ec_missing_isa(&high), 0);
    CHECK_EQ(ec_open(&model, &high, arena, sizeof arena), EC_OK);
    CHECK(model.desc == &low && strcmp(model.desc->target, "low") == 0);
    high.isa = 0;
    CHECK_EQ(ec_open(&model, &high, arena, sizeof arena), EC_OK);
    CHECK(model.desc == &high);
    CHECK_EQ(ec_open(&model, high.fallback, arena, sizeof arena), EC_OK); /* the better one masked off */
    CHECK(model.desc == &low);
    high.isa = absent | 1u << 30;
    low.isa = absent;
    CHECK_EQ(ec_missing_isa(&high), absent);
    CHECK_EQ(open_changed(&high), EC_ERR_ISA);
}

static void a_closed_model_answers_with_errors(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, NULL, arena, sizeof arena), EC_ERR_ARG);
    CHECK_EQ(ec_run(&model), EC_ERR_ARG);
    CHECK_EQ(ec_step_next(&model), EC_ERR_ARG);
    CHECK_EQ(ec_set_profile(&model, NULL, NULL, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_set_dispatch(&model, NULL, NULL), EC_ERR_ARG);
    CHECK(ec_input(&model, 0).data == NULL && ec_output(&model, 0).io == NULL);
    CHECK_EQ(ec_run(NULL), EC_ERR_ARG);
    CHECK_EQ(ec_step_next(NULL), EC_ERR_ARG);
    CHECK_EQ(ec_set_profile(NULL, NULL, NULL, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_set_dispatch(NULL, NULL, NULL), EC_ERR_ARG);
    CHECK(ec_input(NULL, 0).data == NULL && ec_output(NULL, 0).data == NULL);
    ec_restart(NULL);
}

static void inputs_and_outputs_are_views_into_the_arena(void)
{
    ec_model model;
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    CHECK(ec_input(&model, 0).data == arena);
    CHECK(ec_output(&model, 0).data == arena + 64);
    CHECK_EQ(ec_output(&model, 0).io->bytes, 16);
    CHECK(ec_input(&model, 1).data == NULL && ec_input(&model, 1).io == NULL);
    CHECK(ec_output(&model, 1).data == NULL && ec_output(&model, 1).io == NULL);
    CHECK_EQ(ec_model_bytes(), sizeof model);

    ec_io constant = tiny_desc.outputs[0];
    constant.data.region = EC_WEIGHTS;
    constant.data.offset = 4;
    ec_desc desc = tiny_desc;
    desc.outputs = &constant;
    CHECK_EQ(ec_open(&model, &desc, arena, sizeof arena), EC_OK);
    CHECK((const uint8_t *)ec_output(&model, 0).data == tiny_desc.weights + 4);
}

static void names_are_found_whole(void)
{
    const ec_io ios[] = {{"image", {EC_ARENA, 0}, 0, EC_F32, 0, -1, NULL, 0, 0, {0, 0}},
                         {"images", {EC_ARENA, 0}, 0, EC_F32, 0, -1, NULL, 0, 0, {0, 0}},
                         {"", {EC_ARENA, 0}, 0, EC_F32, 0, -1, NULL, 0, 0, {0, 0}}};
    CHECK_EQ(ec_find(ios, 3, "image"), 0);
    CHECK_EQ(ec_find(ios, 3, "images"), 1);
    CHECK_EQ(ec_find(ios, 3, ""), 2);
    CHECK_EQ(ec_find(ios, 3, "imag"), EC_ERR_ARG);
    CHECK_EQ(ec_find(ios, 3, "imagesque"), EC_ERR_ARG);
    CHECK_EQ(ec_find(ios, 0, "image"), EC_ERR_ARG);
    CHECK_EQ(ec_find(ios, 3, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_find(NULL, 3, "image"), EC_ERR_ARG);
}

static void scratch_is_per_worker(void)
{
    const ec_ref refs[] = {{EC_ARENA, 8}, {EC_WEIGHTS, 12}, {EC_SCRATCH, 16}};
    const ec_step step = {NULL, refs, 3, 1, 1, 32, 0, "step"};
    ec_model model;
    void *args[EC_MAX_ARGS];
    CHECK_EQ(ec_open(&model, &tiny_desc, arena, sizeof arena), EC_OK);
    for (uint32_t worker = 0; worker < 4; worker++) {
        ec_step_args(&model, &step, worker, args);
        CHECK(args[0] == arena + 8);
        CHECK((const uint8_t *)args[1] == tiny_desc.weights + 12);
        CHECK(args[2] == arena + 16 + (size_t)worker * 32);
    }
}

static void every_status_has_its_words(void)
{
    for (ec_status a = EC_ERR_DIFFERS; a <= EC_OK; a++) {
        CHECK(strcmp(ec_strerror(a), "unknown status") != 0);
        for (ec_status b = EC_ERR_DIFFERS; b < a; b++)
            CHECK(strcmp(ec_strerror(a), ec_strerror(b)) != 0);
    }
    CHECK(strcmp(ec_strerror(1), "unknown status") == 0);
    CHECK(strcmp(ec_strerror(EC_ERR_DIFFERS - 1), "unknown status") == 0);
}

#if defined(__x86_64__)
#define CHECK_CPU(feature, bit) CHECK_EQ((ec_cpu_isa() & (bit)) != 0, __builtin_cpu_supports(feature) != 0)
#endif

static void the_cpu_is_what_the_compiler_library_says(void)
{
#if defined(__x86_64__)
    CHECK_CPU("avx2", EC_ISA_AVX2);
    CHECK_CPU("fma", EC_ISA_FMA);
    CHECK_CPU("avx512f", EC_ISA_AVX512F);
    CHECK_CPU("avx512bw", EC_ISA_AVX512BW);
    CHECK_CPU("avx512vl", EC_ISA_AVX512VL);
    CHECK_CPU("avx512dq", EC_ISA_AVX512DQ);
    CHECK_CPU("avx512vnni", EC_ISA_AVX512VNNI);
    CHECK_CPU("avx512vbmi", EC_ISA_AVX512VBMI);
#elif defined(__aarch64__)
    CHECK((ec_cpu_isa() & EC_ISA_NEON) != 0);
#endif
}

int main(void)
{
    open_refuses_what_cannot_run();
    open_refuses_a_missing_instruction_set();
    what_the_system_grants_is_what_the_cpu_offers();
    the_best_level_that_fits_is_taken();
    a_model_is_opened_at_its_level();
    a_closed_model_answers_with_errors();
    inputs_and_outputs_are_views_into_the_arena();
    names_are_found_whole();
    scratch_is_per_worker();
    every_status_has_its_words();
    the_cpu_is_what_the_compiler_library_says();
    return CHECK_RESULT();
}
