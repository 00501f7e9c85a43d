/* Loads the NVIDIA driver, and keeps what it says of failures. */
#include "cuda_driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static __thread char said[320];

/* ---- Failures ---------------------------------------------------------------------------------------------------- */

const char *cuda_error(void)
{
    return said;
}

ec_status cuda_refuse(ec_status status, const char *format, const char *what)
{
    snprintf(said, sizeof said, "%s%s", format, what);
    return status;
}

void cuda_blame(const char *step)
{
    char before[sizeof said];
    memcpy(before, said, sizeof said);
    snprintf(said, sizeof said, "step %.100s: %.200s", step, before);
}

void cuda_blame_version(const cuda_driver *driver)
{
    int version = 0;
    const size_t length = strlen(said);
    if (driver->cuDriverGetVersion(&version) == CU_SUCCESS)
        snprintf(said + length, sizeof said - length, "; the driver is for CUDA %d.%d", version / 1000, version % 1000 / 10);
}

static ec_status meaning(cu_result result)
{
    switch (result) {
    case CU_NO_MEMORY:
        return EC_ERR_MEMORY;
    case CU_NO_DEVICE:
    case CU_STUB_LIBRARY:
        return EC_ERR_NO_DEVICE;
    case CU_OLD_DRIVER:
    case CU_NEW_PTX:
    case CU_DRIVER_MISMATCH:
        return EC_ERR_DRIVER;
    case CU_NO_BINARY:
        return EC_ERR_ARCH;
    default:
        return EC_ERR_DEVICE;
    }
}

ec_status cuda_status(const cuda_driver *driver, const char *call, cu_result result)
{
    if (result == CU_SUCCESS)
        return EC_OK;
    const char *name = NULL, *text = NULL;
    if (driver->cuGetErrorName(result, &name) != CU_SUCCESS || name == NULL)
        name = "an error that the driver does not name";
    if (driver->cuGetErrorString(result, &text) != CU_SUCCESS || text == NULL)
        text = "?";
    snprintf(said, sizeof said, "%s: %s (%d): %s", call, name, result, text);
    return meaning(result);
}

/* ---- The library ------------------------------------------------------------------------------------------------- */

typedef struct entry {
    const char *name;
    size_t at;
} entry;

static const entry entries[] = {
#define ENTRY(name, version, params) {#name version, offsetof(cuda_driver, name)},
    CUDA_DRIVER(ENTRY)
#undef ENTRY
};

static ec_status find_entries(void *library, cuda_driver *driver)
{
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        void *symbol = dlsym(library, entries[i].name);
        if (symbol == NULL)
            return cuda_refuse(EC_ERR_DRIVER, "the driver lacks ", entries[i].name);
        memcpy((char *)driver + entries[i].at, &symbol, sizeof symbol); /* ISO C has no cast for it */
    }
    return EC_OK;
}

/* What newer drivers have. */
static void find_newer(void *library, cuda_driver *driver)
{
    int version = 0;
    void *symbol = dlsym(library, "cuLaunchKernelEx");
    memcpy(&driver->cuLaunchKernelEx, &symbol, sizeof symbol);
    driver->early = symbol != NULL && driver->cuDriverGetVersion(&version) == CU_SUCCESS && version >= CU_EARLY_VERSION;
}

static cuda_driver *loaded; /* usually one; tests load several */

static ec_status load(const char *path, cuda_driver *driver)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        return cuda_refuse(EC_ERR_NO_DEVICE, "", why != NULL ? why : path);
    }
    ec_status status = find_entries(library, driver);
    if (status == EC_OK)
        find_newer(library, driver);
    if (status == EC_OK)
        status = CUDA(driver, cuInit, 0);
    if (status == EC_OK && (driver->path = (char *)malloc(strlen(path) + 1)) == NULL)
        status = EC_ERR_MEMORY;
    if (status != EC_OK) {
        dlclose(library);
        return status;
    }
    strcpy(driver->path, path);
    return EC_OK;
}

ec_status cuda_driver_load(const cuda_driver **driver)
{
    const char *path = getenv("EDGEC_CUDA_DRIVER");
    if (path == NULL || path[0] == '\0')
        path = "libcuda.so.1";
    said[0] = '\0';
    for (cuda_driver *known = loaded; known != NULL; known = known->next) {
        if (strcmp(known->path, path) == 0) {
            *driver = known;
            return EC_OK;
        }
    }
    cuda_driver *made = (cuda_driver *)calloc(1, sizeof *made);
    const ec_status status = made == NULL ? EC_ERR_MEMORY : load(path, made);
    if (status != EC_OK) {
        free(made);
        return status;
    }
    made->next = loaded;
    *driver = loaded = made;
    return EC_OK;
}
