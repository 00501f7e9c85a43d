/* A shared library that may or may not be a bundle, by BUNDLE_*. */
#include "tiny.h"

const ec_desc *edgec_model(void);
const ec_desc *something_else(void);

#if defined(BUNDLE_GOOD)
const ec_desc *edgec_model(void)
{
    return &tiny_desc;
}
#elif defined(BUNDLE_OLD)
static const ec_desc old_desc = {EC_ABI + 1, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL};
const ec_desc *edgec_model(void)
{
    return &old_desc;
}
#elif defined(BUNDLE_EMPTY)
const ec_desc *edgec_model(void)
{
    return NULL;
}
#else
const ec_desc *something_else(void)
{
    return &tiny_desc;
}
#endif
