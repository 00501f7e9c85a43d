/* SPDX-License-Identifier: Apache-2.0 */
/* What the runtime knows of a model on a GPU: shared by its instances in this process, and of each.  Part of cuda.c and
 * its neighbours. */
#ifndef EDGEC_CUDA_MODEL_H
#define EDGEC_CUDA_MODEL_H

#include <stdbool.h>

#include "cuda_driver.h"

typedef struct cuda_shared {
    const ec_desc *desc;
    const cuda_driver *driver;
    cu_device device;
    cu_context context;
    uint32_t users;
    bool early; /* a kernel may begin before the one before it has ended: all of them wait for that ... */
    uint32_t most_blocks; /* ... where that one has no more blocks: waiting blocks must not take the place of others */
    cu_address weights;
    cu_module *modules;
    cu_function *functions; /* of each step; NULL where the runtime does it */
    struct cuda_shared *next;
} cuda_shared;

typedef struct cuda_instance {
    cuda_shared *shared;
    cu_stream own, stream; /* made for it; where it runs */
    cu_address arena, zeros;
    cu_address *args;  /* of all steps, one step after the other */
    void **params;     /* pointers to them, NULL behind those of each step */
    uint32_t *first;   /* of each step in params */
    cu_event *events;  /* NULL until a hook wants times; one more than steps */
    cu_graph_exec run; /* a whole run, NULL until it was captured */
    uint32_t copies;
    bool pinned;
    bool straight; /* no step depends on what another has computed */
} cuda_instance;

/* Takes a share in what the instances of `desc` have in common on the device that is to be used; or gives it back. */
EC_HIDDEN ec_status cuda_share(const ec_desc *desc, cuda_shared **shared);
EC_HIDDEN void cuda_unshare(cuda_shared *shared);

/* Makes the context the calling thread's current one, and the one before it again. */
EC_HIDDEN ec_status cuda_enter(const cuda_shared *shared);
EC_HIDDEN void cuda_leave(const cuda_shared *shared);

EC_HIDDEN cu_address cuda_place(const ec_model *model, ec_ref ref);

/* The context is current.  What is queued on a stream (`may_begin`: whether what the stream did last is a kernel behind
 * which another may begin early; NULL where nobody knows) ... */
EC_HIDDEN ec_status cuda_copy_inputs(const ec_model *model, cu_stream stream);
EC_HIDDEN ec_status cuda_queue_step(const ec_model *model, uint32_t index, cu_stream stream, bool *may_begin);
EC_HIDDEN ec_status cuda_copy_outputs(const ec_model *model, cu_stream stream);

/* ... and what waits for the model's stream: nothing else, or a few bytes that are needed here. */
EC_HIDDEN ec_status cuda_synchronize(const ec_model *model);
EC_HIDDEN ec_status cuda_fetch(const ec_model *model, ec_ref from, void *to, size_t bytes);

/* Whole runs, single steps. */
EC_HIDDEN ec_status cuda_run(ec_model *model);
EC_HIDDEN ec_status cuda_step(ec_model *model);

#endif
