/* Models on a GPU as the compiler writes them, and the emulated driver that they run on. */
#ifndef DEVICE_MODEL_H
#define DEVICE_MODEL_H

#include "edgec/cuda.h"

/* scores = (x * 2 + bias) / sum(x * 2 + bias), `many` the positive ones; `tally` counts the runs since it was opened. */
enum { X = 0, SCORES = 64, COUNT = 128, TALLY = 192, NORM_ARENA = 256 };
extern ec_desc norm_desc;

/* y = x doubled `turns` times, while it is below 100; `rows`: what it was in each turn. */
enum { START = 0, TURNS = 8, Y = 64, ROWS = 128, LOOP_ARENA = 192 };
extern ec_desc loop_desc;

extern ec_device norm_device, loop_device;
extern ec_image images[2]; /* of each model's one module; the second is as good as none */

/* Reads the kernels and names the driver in the environment. */
void prepare_device(void);

/* What the driver has given and not been given back. */
int held(void);

/* What a program that uses the driver itself would call. */
extern struct emulated {
    int (*held)(void);
    int (*early)(void); /* launches so far that could begin before the kernel before them had ended */
    int (*push)(void *context);
    int (*pop)(void **context);
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*to_device)(uint64_t to, const void *from, size_t bytes, void *stream);
    int (*from_device)(void *to, uint64_t from, size_t bytes, void *stream);
} emulated;

#endif
