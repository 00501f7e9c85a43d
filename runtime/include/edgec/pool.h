/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/pool.h - run the tasks of each step on several threads.  POSIX threads; link with -pthread.
 *
 *     ec_pool *pool;
 *     ec_status status = ec_pool_open(&pool, 4);     // the calling thread and three more
 *     ec_use_pool(&model, pool);                     // after ec_open, before ec_run
 *     ... ec_run(&model) as often as you like ...
 *     ec_pool_close(pool);
 *
 * The answers are the same as without a pool, for any number of workers.  A model uses at most ec_desc.threads of
 * them: its arena has scratch memory for so many (`edgec compile --threads N`).  Steps that are too short to share
 * (ec_step.grain) run in the calling thread.
 *
 * Several models may share a pool.  It serves one step at a time: a step that finds it busy, because another thread
 * runs a model on the same pool, runs in its own thread alone.
 */
#ifndef EDGEC_POOL_H
#define EDGEC_POOL_H

#include "edgec/edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ec_pool ec_pool;

/* Starts a pool of `workers` workers, the thread that calls ec_run being one of them; 0: one per core that this process
 * may use, and never more than that, because more would only take turns.  One allocation, freed by ec_pool_close.
 * EC_ERR_ARG (above 256), EC_ERR_MEMORY, EC_ERR_THREAD leave *pool NULL. */
ec_status ec_pool_open(ec_pool **pool, uint32_t workers);

/* Ends the threads.  No model may be running on the pool, nor run afterwards before ec_use_pool(&model, NULL). */
void ec_pool_close(ec_pool *pool);

/* How many it has, the calling thread included. */
uint32_t ec_pool_workers(const ec_pool *pool);

/* Makes `model` run its steps on `pool`; NULL, or one worker: in the calling thread again, without any detour. */
ec_status ec_use_pool(ec_model *model, ec_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
