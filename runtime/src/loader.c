/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a bundle with dlopen and looks at it before anybody uses it. */
#include "edgec/loader.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef const ec_desc *(*accessor)(void);

/* dlopen searches the system's library path for a name without a slash, and takes "" for this program. */
static ec_status open_library(const char *path, void **handle)
{
    char *local = NULL;
    if (strchr(path, '/') == NULL) {
        const size_t size = strlen(path) + 1;
        local = (char *)malloc(size + 2);
        if (local == NULL)
            return EC_ERR_MEMORY;
        memcpy(local, "./", 2);
        memcpy(local + 2, path, size);
    }
    *handle = dlopen(local != NULL ? local : path, RTLD_NOW | RTLD_LOCAL);
    free(local);
    return *handle == NULL ? EC_ERR_LOAD : EC_OK;
}

static ec_status find_desc(ec_bundle *bundle)
{
    void *symbol = dlsym(bundle->handle, EC_BUNDLE_SYMBOL);
    if (symbol == NULL)
        return EC_ERR_SYMBOL;
    accessor get;
    memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from an object pointer to a function pointer */
    const ec_desc *desc = get();
    if (desc == NULL)
        return EC_ERR_SYMBOL;
    if (desc->abi != EC_ABI)
        return EC_ERR_ABI;
    bundle->desc = desc;
    return EC_OK;
}

ec_status ec_load(const char *path, ec_bundle *bundle)
{
    if (bundle == NULL)
        return EC_ERR_ARG;
    bundle->handle = NULL;
    bundle->desc = NULL;
    if (path == NULL)
        return EC_ERR_ARG;
    ec_status status = open_library(path, &bundle->handle);
    if (status == EC_OK)
        status = find_desc(bundle);
    if (status != EC_OK)
        ec_unload(bundle);
    return status;
}

void ec_unload(ec_bundle *bundle)
{
    if (bundle == NULL)
        return;
    if (bundle->handle != NULL)
        dlclose(bundle->handle);
    bundle->handle = NULL;
    bundle->desc = NULL;
}
