/* SPDX-License-Identifier: Apache-2.0 */
/* Loads the NVIDIA driver, and keeps what it says of failures. */
#include "cuda_driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Failures ---------------------------------------------------------------------------------------------------- */

/* What was said to each of the threads that heard of a failure last.  Thread-local storage would make the loader of
 * programs one more library that this one needs, or take of the little that it keeps for libraries opened later. */
enum { LISTENERS = 32, LENGTH = 320 };
static struct listener {
    pthread_t thread;
    bool is_one;
    char said[LENGTH];
} listeners[LISTENERS];
static unsigned listeners_so_far;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Where what is said to the calling thread stands; NULL where nothing has been, and nothing is `to_be`. */
static char *said(bool to_be)
{
    const pthread_t self = pthread_self();
    struct listener *found = NULL;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < LISTENERS && found == NULL; i++)
        if (listeners[i].is_one && pthread_equal(listeners[i].thread, self))
            found = &listeners[i];
    if (found == NULL && to_be) {
        found = &listeners[listeners_so_far++ % LISTENERS];
        found->thread = self;
        found->is_one = true;
        found->said[0] = '\0';
    }
    pthread_mutex_unlock(&lock);
    return found != NULL ? found->said : NULL;
}

const char *cuda_error(void)
{
    const char *text = said(false);
    return text != NULL ? text : "";
}

static void forget(void)
{
    char *text = said(false);
    if (text != NULL)
        text[0] = '\0';
}

ec_status cuda_refuse(ec_status status, const char *format, const char *what)
{
    snprintf(said(true), LENGTH, "%s%s", format, what);
    return status;
}

void cuda_blame(const char *step)
{
    char *text = said(true), before[LENGTH];
    memcpy(before, text, LENGTH);
    snprintf(text, LENGTH, "step %.100s: %.200s", step, before);
}

void cuda_blame_version(const cuda_driver *driver)
{
    int version = 0;
    char *text = said(true);
    const size_t length = strlen(text);
    if (driver->cuDriverGetVersion(&version) == CU_SUCCESS)
        snprintf(text + length, LENGTH - length, "; the driver is for CUDA %d.%d", version / 1000, version % 1000 / 10);
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
    snprintf(said(true), LENGTH, "%s: %s (%d): %s", call, name, result, text);
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
    forget();
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
