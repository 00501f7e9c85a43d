/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/loader.h - open a compiled model from a shared library at run time.  Needs dlopen; link with -ldl.
 *
 *     ec_bundle bundle;
 *     ec_status status = ec_load("build/libtiny.so", &bundle);
 *     ... ec_open(&model, bundle.desc, arena, bundle.desc->arena_bytes) ...
 *     ec_unload(&bundle);                            // after the last use of a model opened from it
 */
#ifndef EDGEC_LOADER_H
#define EDGEC_LOADER_H

#include "edgec/edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The one symbol that a bundle exports: const ec_desc *edgec_model(void). */
#define EC_BUNDLE_SYMBOL "edgec_model"

typedef struct ec_bundle {
    void *handle;
    const ec_desc *desc; /* NULL: nothing is loaded */
} ec_bundle;

/* Loads the file at `path`, a path and not a name to search for: "libtiny.so" is the one in the working directory.
 * EC_ERR_ARG, EC_ERR_LOAD (dlerror() says more), EC_ERR_SYMBOL, EC_ERR_ABI, EC_ERR_MEMORY leave the bundle empty. */
ec_status ec_load(const char *path, ec_bundle *bundle);

/* Does nothing to an empty bundle; leaves the bundle empty. */
void ec_unload(ec_bundle *bundle);

#ifdef __cplusplus
}
#endif
#endif
