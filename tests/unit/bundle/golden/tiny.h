/* tiny.h - the model "tiny", compiled by edgec 0.1.0 for x86.
 *
 * Memory: 320 bytes per instance (the arena); 32 bytes of weights and CODE bytes of
 * code are read-only and shared by all instances.  Tensors are row-major.
 *
 * Inputs
 *   0  x: float32[2, 4], 32 bytes
 *
 * Outputs
 *   0  y/out: float32[2, 4], 32 bytes
 *
 * Usage (edgec/edgec.h is the manual):
 *
 *     EC_ALIGNAS(TINY_ARENA_ALIGN) static uint8_t arena[TINY_ARENA_BYTES];
 *     ec_model model;
 *     ec_status status = ec_open(&model, &tiny_desc, arena, sizeof arena);
 *     if (status < 0) { puts(ec_strerror(status)); return 1; }
 *     memcpy(ec_input(&model, 0).data, source, TINY_INPUT_X_BYTES);  // every input, before every run
 *     status = ec_run(&model);
 *     const float *result = (const float *)ec_output(&model, 0).data;  // valid until the next run
 *
 *     cc -I DIR app.c DIR/libtiny.a -lm              (DIR: the folder of this file)
 *     With edgec/pool.h, loader.h or bench.h (threads, loading, timing): link DIR/libedgec.a -pthread too.
 *     CMake: find_package(tiny CONFIG REQUIRED PATHS DIR) and target_link_libraries(app tiny::tiny)
 */
#ifndef TINY_H
#define TINY_H

#include "edgec/edgec.h"

#define TINY_ARENA_BYTES 320u
#define TINY_ARENA_ALIGN 64
#define TINY_WEIGHTS_BYTES 32u
#define TINY_CODE_BYTES CODEu
#define TINY_STEPS 2
#define TINY_THREADS 2 /* workers that the arena has scratch memory for */

#define TINY_INPUTS 1
#define TINY_INPUT_X 0 /* x: float32[2, 4] */
#define TINY_INPUT_X_BYTES 32u
#define TINY_INPUT_X_SIZE 8u
#define TINY_INPUT_X_RANK 2
#define TINY_INPUT_X_SHAPE {2, 4}

#define TINY_OUTPUTS 1
#define TINY_OUTPUT_Y_OUT 0 /* y/out: float32[2, 4] */
#define TINY_OUTPUT_Y_OUT_BYTES 32u
#define TINY_OUTPUT_Y_OUT_SIZE 8u
#define TINY_OUTPUT_Y_OUT_RANK 2
#define TINY_OUTPUT_Y_OUT_SHAPE {2, 4}

#ifdef __cplusplus
extern "C" {
#endif
extern const ec_desc tiny_desc;
#ifdef __cplusplus
}
#endif
#endif
