/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/selftest.h - whether a model computes here what it computed where it was compiled.
 *
 * `edgec compile --self-test` adds inputs, the outputs that they give, and a digest of what each step leaves in memory;
 * tiny.h then declares `tiny_golden`.  Linked into no program that does not name it.  After power-on, say:
 *
 *     uint32_t step;
 *     status = ec_selftest(&model, &tiny_golden, &step);
 *     if (status == EC_ERR_DIFFERS && step < model.desc->n_steps)
 *         report(model.desc->steps[step].name); // named after the ONNX node that it ends with
 *
 * It finds flash that has lost a bit, weights that were never copied to where they are read, an arena that something else
 * writes to, a core that computes otherwise.
 */
#ifndef EDGEC_SELFTEST_H
#define EDGEC_SELFTEST_H

#include "edgec/edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a step left at a place: FNV-1a of 32 bits over its bytes. */
typedef struct ec_digest {
    uint32_t step;
    ec_ref place;
    uint32_t bytes, digest;
} ec_digest;

typedef struct ec_golden {
    const ec_desc *desc;
    const uint8_t *data; /* all inputs, then all outputs, one behind the other */
    const ec_digest *digests;
    uint32_t n_digests; /* sorted by step */
    uint32_t n_banks;
    const uint32_t *bank_bytes; /* of ec_model.banks; 0: weights */
} ec_golden;

/* Runs the model, step by step, on memory that is zero at first; inputs and outputs are lost.
 * EC_OK; EC_ERR_DIFFERS, and in *step the first step that left something else (n_steps: none did, and yet an output
 * differs); EC_ERR_ARG for a model that is not open, on a device, or not the one of `golden`. */
ec_status ec_selftest(ec_model *model, const ec_golden *golden, uint32_t *step);

#ifdef __cplusplus
}
#endif
#endif
