/* SPDX-License-Identifier: Apache-2.0 */
/* edgec/edgec.hpp - the runtime for C++17: header only, owns its memory, typed views of inputs and outputs.
 *
 *     edgec::model model(tiny_desc);                         // or edgec::bundle b("libtiny.so"); edgec::model m(b);
 *     auto input = model.input<float>(0);                    // or by name: model.input<float>("image")
 *     std::copy(frame.begin(), frame.end(), input.begin());  // before every run: see "Inputs" in edgec.h
 *     model.run();
 *     for (float score : model.output<float>(0)) ...         // where the size depends on data: those that are there
 *
 * What goes wrong is thrown as edgec::error.  Where exceptions are unwelcome: default-construct, then try_open and
 * try_run, which return an ec_status, and check views with empty(); with -fno-exceptions a throw becomes std::abort.
 * edgec::bundle needs the loader and edgec::pool the pool to be linked, if they are used.
 */
#ifndef EDGEC_EDGEC_HPP
#define EDGEC_EDGEC_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "edgec/edgec.h"
#include "edgec/loader.h"
#include "edgec/pool.h"

namespace edgec {

class error : public std::runtime_error {
public:
    explicit error(ec_status status) : error(status, ec_strerror(status)) {}
    error(ec_status status, const std::string &text) : std::runtime_error(text), status_(status) {}
    ec_status status() const noexcept { return status_; }

private:
    ec_status status_;
};

[[noreturn]] inline void fail(ec_status status, const std::string &text)
{
#if defined(__cpp_exceptions)
    throw error(status, text);
#else
    static_cast<void>(status), static_cast<void>(text);
    std::abort();
#endif
}

inline void check(ec_status status)
{
    if (status < 0)
        fail(status, ec_strerror(status));
}

/* What std::span is in C++20. */
template <class T> class span {
public:
    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/* Whether elements of `dtype` may be seen as T: the type itself, the bits of a 16-bit float as uint16_t, those of
 * smaller ones and a bool as uint8_t, integers of 4 and 2 bits as int8_t and uint8_t, and anything as bytes. */
template <class T> constexpr bool holds(std::uint8_t dtype) noexcept
{
    constexpr auto is = [](auto... element) { return (std::is_same_v<T, decltype(element)> || ...); };
    switch (dtype) {
    case EC_F32:
        return is(float{}, std::byte{});
    case EC_F64:
        return is(double{}, std::byte{});
    case EC_I8:
    case EC_I4:
    case EC_I2:
        return is(std::int8_t{}, std::byte{});
    case EC_U8:
    case EC_U4:
    case EC_U2:
    case EC_F8E4M3FN:
    case EC_F8E4M3FNUZ:
    case EC_F8E5M2:
    case EC_F8E5M2FNUZ:
    case EC_F8E8M0:
    case EC_F6E2M3:
    case EC_F6E3M2:
    case EC_F4E2M1:
        return is(std::uint8_t{}, std::byte{});
    case EC_I16:
        return is(std::int16_t{}, std::byte{});
    case EC_F16:
    case EC_BF16:
    case EC_U16:
        return is(std::uint16_t{}, std::byte{});
    case EC_I32:
        return is(std::int32_t{}, std::byte{});
    case EC_U32:
        return is(std::uint32_t{}, std::byte{});
    case EC_I64:
        return is(std::int64_t{}, std::byte{});
    case EC_U64:
        return is(std::uint64_t{}, std::byte{});
    case EC_BOOL:
        return is(bool{}, std::uint8_t{}, std::byte{});
    default:
        return is(std::byte{});
    }
}

/* A compiled model in a shared library. */
class bundle {
public:
    bundle() noexcept = default;
    explicit bundle(const char *path)
    {
        const ec_status status = try_load(path);
        if (status < 0)
            fail(status, std::string(path != nullptr ? path : "no path") + ": " + ec_strerror(status));
    }
    bundle(bundle &&other) noexcept : bundle_(std::exchange(other.bundle_, ec_bundle{nullptr, nullptr})) {}
    bundle &operator=(bundle &&other) noexcept
    {
        std::swap(bundle_, other.bundle_);
        return *this;
    }
    ~bundle() { ec_unload(&bundle_); }

    ec_status try_load(const char *path) noexcept
    {
        ec_unload(&bundle_);
        return ec_load(path, &bundle_);
    }
    const ec_desc *desc() const noexcept { return bundle_.desc; }

private:
    ec_bundle bundle_{nullptr, nullptr};
};

/* Threads that models share; outlives them. */
class pool {
public:
    explicit pool(std::uint32_t workers = 0) { check(ec_pool_open(&pool_, workers)); }
    pool(pool &&other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
    pool &operator=(pool &&other) noexcept
    {
        std::swap(pool_, other.pool_);
        return *this;
    }
    ~pool() { ec_pool_close(pool_); }

    std::uint32_t workers() const noexcept { return ec_pool_workers(pool_); }
    ec_pool *get() const noexcept { return pool_; }

private:
    ec_pool *pool_ = nullptr;
};

struct free_arena {
    std::align_val_t align{1};
    void operator()(std::byte *memory) const noexcept { ::operator delete(memory, align); }
};

/* One instance of a model with an arena of its own, closed at its end.  Movable; the descriptor (or bundle) must outlive
 * it. */
class model {
public:
    model() noexcept = default;
    explicit model(const ec_desc &desc) { check(try_open(desc)); }
    explicit model(const bundle &from) { check(from.desc() != nullptr ? try_open(*from.desc()) : EC_ERR_ARG); }
    model(model &&other) noexcept : model_(std::exchange(other.model_, ec_model{})), arena_(std::move(other.arena_)) {}
    model &operator=(model &&other) noexcept
    {
        std::swap(model_, other.model_);
        std::swap(arena_, other.arena_);
        return *this;
    }
    ~model() { ec_close(&model_); }

    ec_status try_open(const ec_desc &desc) noexcept
    {
        ec_close(&model_);
        model_ = ec_model{};
        arena_.reset();
        if (desc.abi != EC_ABI) /* the fields after it may mean something else */
            return EC_ERR_ABI;
        const std::align_val_t align{desc.arena_align > 1 ? desc.arena_align : 1};
        void *memory = ::operator new(desc.arena_bytes, align, std::nothrow);
        arena_ = arena(static_cast<std::byte *>(memory), free_arena{align});
        return arena_ == nullptr ? EC_ERR_MEMORY : ec_open(&model_, &desc, arena_.get(), desc.arena_bytes);
    }
    ec_status try_run() noexcept { return ec_run(&model_); }
    void run() { check(try_run()); }
    void run_async() { check(ec_run_async(&model_)); }
    void wait() { check(ec_wait(&model_)); }

    /* A view of all elements; empty for a bad index, an unknown name or another element type.  Of an output whose size
     * depends on data: of those that are there, or of all where these do not lie in one piece ("Sizes" in edgec.h). */
    template <class T> span<T> try_input(std::uint32_t index) noexcept { return view<T>(ec_input(&model_, index)); }
    template <class T> span<const T> try_output(std::uint32_t index) const noexcept
    {
        const span<const T> all = view<const T>(ec_output(&model_, index));
        return all.empty() ? all : span<const T>(all.data(), there(index, all.size()));
    }

    /* How many entries of an output there are along its count_axis: ec_output_count; 0 for a bad index. */
    std::int64_t count(std::uint32_t index) const noexcept
    {
        const std::int64_t found = ec_output_count(&model_, index);
        return found < 0 ? 0 : found;
    }
    std::int64_t count(std::string_view name) const { return count(find_output(name)); }

    /* The same, but what is empty there throws EC_ERR_ARG here. */
    template <class T> span<T> input(std::uint32_t index)
    {
        return checked(try_input<T>(index), ec_input(&model_, index).io, "input");
    }
    template <class T> span<const T> output(std::uint32_t index) const
    {
        return checked(try_output<T>(index), ec_output(&model_, index).io, "output");
    }
    template <class T> span<T> input(std::string_view name) { return input<T>(find_input(name)); }
    template <class T> span<const T> output(std::string_view name) const { return output<T>(find_output(name)); }

    void use(const pool &threads) { check(ec_use_pool(&model_, threads.get())); }
    const ec_desc *desc() const noexcept { return model_.desc; }
    ec_model *get() noexcept { return &model_; } /* for the rest of edgec.h */

private:
    using arena = std::unique_ptr<std::byte, free_arena>;

    template <class T> static span<T> view(ec_tensor tensor) noexcept
    {
        if (tensor.io == nullptr || !holds<std::remove_const_t<T>>(tensor.io->dtype))
            return {};
        return {static_cast<T *>(tensor.data), tensor.io->bytes / sizeof(T)};
    }
    /* How many of an output's elements are there, where they lie in one piece. */
    std::size_t there(std::uint32_t index, std::size_t all) const noexcept
    {
        const ec_io *io = ec_output(&model_, index).io;
        if (io->count_axis < 0)
            return all;
        for (int axis = 0; axis < io->count_axis; axis++)
            if (io->dims[axis] != 1)
                return all;
        return all / static_cast<std::size_t>(io->dims[io->count_axis]) * static_cast<std::size_t>(count(index));
    }
    template <class T> static span<T> checked(span<T> view, const ec_io *io, const char *kind)
    {
        if (view.data() == nullptr)
            fail(EC_ERR_ARG, io != nullptr ? std::string(kind) + " '" + io->name + "' holds elements of another type"
                                           : std::string("no such ") + kind + ", or the model is not open");
        return view;
    }
    static std::uint32_t find(const ec_io *ios, std::uint32_t count, std::string_view name, const char *kind)
    {
        std::uint32_t i = 0;
        while (i < count && name != ios[i].name)
            i++;
        if (i == count)
            fail(EC_ERR_ARG, std::string("the model has no ") + kind + " '" + std::string(name) + "'");
        return i;
    }
    std::uint32_t find_input(std::string_view name) const
    {
        return model_.desc != nullptr ? find(model_.desc->inputs, model_.desc->n_inputs, name, "input") : 0;
    }
    std::uint32_t find_output(std::string_view name) const
    {
        return model_.desc != nullptr ? find(model_.desc->outputs, model_.desc->n_outputs, name, "output") : 0;
    }

    ec_model model_{};
    arena arena_;
};

}  // namespace edgec
#endif
