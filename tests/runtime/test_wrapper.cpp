// The C++ wrapper: ownership, typed views, errors as exceptions and as statuses.
#include <cstring>
#include <string>
#include <utility>

#include "check.h"
#include "edgec/edgec.hpp"
#include "tiny.h"

namespace {

template <class F> ec_status thrown_by(F action)
{
    try {
        action();
    } catch (const edgec::error &e) {
        CHECK(e.what()[0] != '\0');
        return e.status();
    }
    return EC_OK;
}

template <class F> std::string said_by(F action)
{
    try {
        action();
    } catch (const edgec::error &e) {
        return e.what();
    }
    return "";
}

void run_and_check(edgec::model &model)
{
    float next = 1;
    for (float &x : model.input<float>("x"))
        x = next++;
    model.run();
    const auto scores = model.output<float>(0);
    CHECK_EQ(scores.size(), 4);
    CHECK(scores[0] == 0.125f && scores[2] == 0.375f);
    CHECK(model.output<float>("scores").data() == scores.data());
}

void a_model_owns_an_aligned_arena()
{
    edgec::model model(tiny_desc);
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(model.get()->arena) % TINY_ARENA_ALIGN, 0);
    run_and_check(model);
}

void models_move()
{
    edgec::model first(tiny_desc);
    edgec::model second(std::move(first));
    CHECK(first.desc() == nullptr);
    CHECK_EQ(first.try_run(), EC_ERR_ARG);
    run_and_check(second);
    edgec::model third(tiny_desc);
    third = std::move(second);
    run_and_check(third);
}

void views_know_their_type()
{
    edgec::model model(tiny_desc);
    CHECK_EQ(model.input<std::byte>(0).size(), 16);
    CHECK(model.try_input<std::int8_t>(0).empty());
    CHECK(model.try_output<float>(1).empty());
    CHECK_EQ(thrown_by([&] { model.input<std::int32_t>(0); }), EC_ERR_ARG);
    CHECK_EQ(thrown_by([&] { model.input<float>(1); }), EC_ERR_ARG);
    CHECK_EQ(thrown_by([&] { model.output<float>("score"); }), EC_ERR_ARG);
    CHECK(said_by([&] { model.input<std::int32_t>("x"); }) == "input 'x' holds elements of another type");
    CHECK(said_by([&] { model.input<float>(1); }) == "no such input, or the model is not open");
    CHECK(said_by([&] { model.output<float>("score"); }) == "the model has no output 'score'");
    CHECK(said_by([] { edgec::bundle("no/libtiny.so"); }) == std::string("no/libtiny.so: ") + ec_strerror(EC_ERR_LOAD));
    CHECK(said_by([] { edgec::check(EC_ERR_ARENA); }) == ec_strerror(EC_ERR_ARENA));
    static_assert(edgec::holds<std::uint16_t>(EC_BF16) && !edgec::holds<float>(EC_F16));
    static_assert(edgec::holds<std::uint8_t>(EC_F8E5M2) && edgec::holds<std::uint8_t>(EC_F4E2M1));
    static_assert(edgec::holds<std::int8_t>(EC_I4) && edgec::holds<std::uint8_t>(EC_U2));
    static_assert(!edgec::holds<std::uint8_t>(EC_I2) && !edgec::holds<std::int8_t>(EC_F8E8M0));
    static_assert(edgec::holds<bool>(EC_BOOL) && edgec::holds<std::int64_t>(EC_I64));
}

void views_hold_what_is_there()
{
    const std::int32_t wide[2] = {2, 2};
    ec_io ios[2] = {tiny_desc.outputs[0], tiny_desc.outputs[0]};
    for (ec_io &io : ios) {
        io.count_axis = 1;
        io.count.offset = 128;
    }
    ios[1].dims = wide;
    ec_desc desc = tiny_desc;
    desc.outputs = ios;
    desc.n_outputs = 2;
    edgec::model model(desc);
    for (std::int64_t count : {0, 1, 2}) {
        std::memcpy(model.get()->arena + 128, &count, sizeof count);
        CHECK_EQ(model.count(0), count);
        CHECK_EQ(model.count("scores"), count);
        CHECK_EQ(model.output<float>(0).size(), count); /* behind an axis of size 1: one piece */
        CHECK_EQ(model.output<float>(1).size(), 4);     /* two rows, each begins with what is there */
    }
    CHECK_EQ(model.count(2), 0);
    CHECK_EQ(edgec::model(tiny_desc).count(0), 1);
}

void errors_are_thrown_or_returned()
{
    ec_desc desc = tiny_desc;
    desc.abi = EC_ABI + 1;
    CHECK_EQ(thrown_by([&] { edgec::model model(desc); }), EC_ERR_ABI);
    edgec::model model;
    CHECK_EQ(model.try_run(), EC_ERR_ARG);
    CHECK_EQ(thrown_by([&] { model.run(); }), EC_ERR_ARG);
    CHECK_EQ(thrown_by([&] { model.input<float>("x"); }), EC_ERR_ARG);
    CHECK_EQ(model.try_open(desc), EC_ERR_ABI);
    CHECK_EQ(model.try_open(tiny_desc), EC_OK);
    run_and_check(model);
}

void bundles_and_pools_close_themselves()
{
    CHECK_EQ(thrown_by([] { edgec::bundle bundle("./libmissing.so"); }), EC_ERR_LOAD);
    CHECK_EQ(thrown_by([] { edgec::model model{edgec::bundle()}; }), EC_ERR_ARG);
    CHECK_EQ(thrown_by([] { edgec::pool pool(1000); }), EC_ERR_ARG);
    edgec::bundle loaded("./libgood.so");
    edgec::bundle bundle(std::move(loaded));
    CHECK(loaded.desc() == nullptr);
    edgec::pool pool(2);
    CHECK_EQ(pool.workers(), 2);
    edgec::model model(bundle);
    model.use(pool);
    run_and_check(model);
}

}  // namespace

int main()
{
    a_model_owns_an_aligned_arena();
    models_move();
    views_know_their_type();
    views_hold_what_is_there();
    errors_are_thrown_or_returned();
    bundles_and_pools_close_themselves();
    return CHECK_RESULT();
}
