// The C++ wrapper around models on a GPU: they close themselves, also when they move or fail to open.
#include <utility>

#include "check.h"
#include "edgec/edgec.hpp"

extern "C" {
#include "device_model.h"
}

namespace {

void run_and_check(edgec::model &model, int runs)
{
    float next = 1;
    for (float &x : model.input<float>("x"))
        x = next++;
    model.run_async();
    model.wait();
    CHECK(model.output<float>(0)[0] == 0.125f && model.output<float>("scores")[3] == 0.25f);
    CHECK_EQ(model.count(0), 4);
    CHECK_EQ(model.output<std::int32_t>("tally")[0], runs);
}

void models_close_themselves()
{
    {
        edgec::model first(norm_desc);
        run_and_check(first, 1);
        edgec::model second(std::move(first));
        run_and_check(second, 2);
        edgec::model third(norm_desc);
        third = std::move(second);
        run_and_check(third, 3);
        CHECK_EQ(third.try_open(norm_desc), EC_OK);
        run_and_check(third, 1);
    }
    CHECK_EQ(held(), 0);
}

void a_model_that_cannot_open_leaves_nothing()
{
    images[0].kind = EC_IMAGE_CUBIN;
    edgec::model model;
    CHECK_EQ(model.try_open(norm_desc), EC_ERR_ARCH);
    CHECK(model.desc() == nullptr && model.try_input<float>(0).empty());
    images[0].kind = EC_IMAGE_EMULATED;
    CHECK_EQ(held(), 0);
}

}  // namespace

int main()
{
    prepare_device();
    models_close_themselves();
    a_model_that_cannot_open_leaves_nothing();
    return CHECK_RESULT();
}
