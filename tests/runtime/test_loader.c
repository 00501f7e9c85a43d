/* ec_load on a bundle, on other libraries and on no library.  Runs in the folder where they were built. */
#include <string.h>

#include "check.h"
#include "edgec/loader.h"

EC_ALIGNAS(64) static uint8_t arena[256];

static void refuse(const char *path, ec_status expected)
{
    ec_bundle bundle;
    CHECK_EQ(ec_load(path, &bundle), expected);
    CHECK(bundle.handle == NULL && bundle.desc == NULL);
    ec_unload(&bundle);
}

static void load_and_run(const char *path)
{
    const float x[4] = {1, 2, 3, 4};
    ec_bundle bundle;
    ec_model model;
    CHECK_EQ(ec_load(path, &bundle), EC_OK);
    if (bundle.desc == NULL)
        return;
    CHECK(strcmp(bundle.desc->name, "tiny") == 0);
    CHECK_EQ(ec_open(&model, bundle.desc, arena, sizeof arena), EC_OK);
    memcpy(ec_input(&model, 0).data, x, sizeof x);
    CHECK_EQ(ec_run(&model), EC_OK);
    CHECK(((const float *)ec_output(&model, 0).data)[0] == 0.125f);
    ec_unload(&bundle);
    CHECK(bundle.handle == NULL && bundle.desc == NULL);
    ec_unload(&bundle);
}

int main(void)
{
    load_and_run("./libgood.so");
    load_and_run("libgood.so"); /* a path: not searched for in the system's folders */
    refuse("./libother.so", EC_ERR_SYMBOL);
    refuse("./libempty.so", EC_ERR_SYMBOL);
    refuse("./libold.so", EC_ERR_ABI);
    refuse("./libmissing.so", EC_ERR_LOAD);
    refuse("libc.so.6", EC_ERR_LOAD);
    refuse("./broken.so", EC_ERR_LOAD);
    refuse("", EC_ERR_LOAD);
    refuse(".", EC_ERR_LOAD);
    refuse(NULL, EC_ERR_ARG);
    CHECK_EQ(ec_load("./libgood.so", NULL), EC_ERR_ARG);
    ec_unload(NULL);
    return CHECK_RESULT();
}
