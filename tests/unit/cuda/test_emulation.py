"""What kernels mean on a CPU: how their text is read, halves, numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.errors import EdgecError
from edgec.targets.cuda import emulation
from edgec.targets.cuda.emulation import emulated_library, kernel_signatures
from tests.support.cuda_emulated import Emulated, kernel, same

RNG = np.random.default_rng(5)


def each(name: str, source: str, to: str, body: str, threads: int) -> str:
    """A kernel whose every thread does one of `n` elements."""
    index = f"int i = blockIdx.x * {threads} + threadIdx.x;"
    parameters = f"{source}* __restrict__ x, {to}* __restrict__ y, int n"
    return kernel(name, parameters, f"{index}\nif (i < n) {{ {body} }}", threads)


# ---- Text -----------------------------------------------------------------------------------------------------------
def test_signatures_are_read_from_the_text() -> None:
    text = kernel("one", "half* __restrict__ a_ptr, int n", "a_ptr[n] = (half)0.0f;", 128) + kernel(
        "two", "", "__syncthreads();"
    )
    one, two = kernel_signatures(text)
    assert (one.name, one.parameters, one.threads, one.waits) == ("one", ("half*", "int"), 128, False)
    assert (two.name, two.parameters, two.threads, two.waits) == ("two", (), 32, True)


def test_a_library_says_which_kernels_wait_for_the_one_before_them() -> None:
    text = kernel("one", "int* a", "ec_let_next(); ec_wait_previous(); a[0] = 1;") + kernel(
        "two", "int* a", "a[0] = 2;"
    )
    library = Emulated(text).library
    assert hasattr(library, "one_waits") and not hasattr(library, "two_waits")


def test_declarations_before_a_definition_do_no_harm() -> None:
    text = kernel("k", "int* a", "a[blockIdx.x * 32 + threadIdx.x] = blockDim.x * 100 + gridDim.x;")
    out = np.zeros(96, np.int32)
    Emulated(text.split("{")[0] + ";\n" + text).launch("k", (3,), 32, out)
    assert (out == 3203).all()


def test_what_the_emulation_does_not_know_is_refused() -> None:
    with pytest.raises(EdgecError, match=r"does not understand: __shared__ int a\[2\]\[3\]"):
        emulated_library(kernel("k", "int* a", "__shared__ int a[2][3];"))


def test_without_a_compiler_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EdgecError, match=r"needs a C\+\+ compiler \(tried no-such-compiler\)"):
        emulated_library(kernel("k", "int* a", "a[0] = 1;"))


def test_what_the_compiler_refuses_is_quoted() -> None:
    with pytest.raises(EdgecError, match="refuses an emulated kernel: .*nowhere"):
        emulated_library(kernel("k", "int* a", "a[0] = nowhere;"))


# ---- Halves ---------------------------------------------------------------------------------------------------------
HALVES = "".join(
    each(name, source, to, body, 256)
    for name, source, to, body in [
        ("widen", "half", "float", "y[i] = ((float)x[i]);"),
        ("narrow", "float", "half", "y[i] = ((half)x[i]);"),
        ("narrow_double", "double", "half", "y[i] = ((half)x[i]);"),
        ("narrow_int", "int64_t", "half", "y[i] = ((half)x[i]);"),
        ("to_int", "half", "int", "y[i] = ((int)x[i]);"),
        ("pack", "float", "uint", "y[i] = ec_half2_pack(x[2 * i], x[2 * i + 1]);"),
        ("unpack", "uint", "float", "y[2 * i] = ec_half2_lo(x[i]); y[2 * i + 1] = ec_half2_hi(x[i]);"),
        ("add", "half", "half", "y[i] = x[i] + x[n + i];"),
        ("subtract", "half", "half", "y[i] = x[i] - x[n + i];"),
        ("multiply", "half", "half", "y[i] = x[i] * x[n + i];"),
        ("divide", "half", "half", "y[i] = x[i] / x[n + i];"),
        ("greatest", "half", "half", "y[i] = max(x[i], max(x[n + i], __float2half_rn(-0x1p+0f)));"),
        ("negated", "half", "half", "half v_ = -x[i]; *(ushort *)(y + i) = (*(ushort *)(&(v_)));"),
        ("less", "half", "bool", "y[i] = (x[i] < x[n + i]);"),
    ]
)  # fmt: skip
ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.fixture(scope="module", params=["instructions", "software"])
def halves(request: pytest.FixtureRequest) -> Emulated:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "software":
            patch.setattr(emulation, "_machine", list)
        return Emulated(HALVES)


def over(module: Emulated, name: str, x: np.ndarray, dtype: type, n: int | None = None) -> np.ndarray:
    n = len(x) if n is None else n
    out = np.zeros(n if name != "unpack" else 2 * n, dtype)
    module.launch(name, (-(-n // 256),), 256, x, out, n)
    return out


def test_every_half_widens_and_narrows_back(halves: Emulated) -> None:
    wide = over(halves, "widen", ALL, np.float32)
    assert same(wide, ALL.astype(np.float32))
    assert same(over(halves, "narrow", wide, np.float16), ALL)
    assert same(over(halves, "unpack", ALL.view(np.uint32), np.float32), ALL.astype(np.float32))


def near_halves(dtype: type) -> np.ndarray:
    """Numbers around every half, the halfway points between two, and beyond both ends."""
    finite = np.sort(ALL[np.isfinite(ALL)].astype(dtype))
    points = np.concatenate(
        [finite, (finite[1:] + finite[:-1]) / 2, np.array([65520, -65520, 65519.99, 1e30, 1e-30], dtype)]
    )
    around = [points, np.nextafter(points, dtype(np.inf)), np.nextafter(points, dtype(-np.inf))]
    special = np.array([np.inf, -np.inf, np.nan, -0.0], dtype)
    return np.concatenate([*around, special, RNG.standard_normal(10000).astype(dtype) * dtype(1000)])


def test_floats_round_to_the_nearest_half_ties_to_even(halves: Emulated) -> None:
    x = near_halves(np.float32)
    with np.errstate(over="ignore"):
        assert same(over(halves, "narrow", x, np.float16), x.astype(np.float16))
        x = x[: len(x) // 2 * 2]
        assert same(over(halves, "pack", x, np.uint32, len(x) // 2).view(np.float16), x.astype(np.float16))


def test_doubles_are_rounded_once(halves: Emulated) -> None:
    x = near_halves(np.float64)
    with np.errstate(over="ignore"):
        assert same(over(halves, "narrow_double", x, np.float16), x.astype(np.float16))
        assert not same(x.astype(np.float32).astype(np.float16), x.astype(np.float16)), "the test shows nothing"


def test_halves_and_integers(halves: Emulated) -> None:
    x = np.array([0, 1, -1, 2047, 2049, 2051, 65504, 65519, 65520, -65520, 2**24 + 1, 2**40, -(2**62)], np.int64)
    with np.errstate(over="ignore"):
        assert same(over(halves, "narrow_int", x, np.float16), x.astype(np.float16))
    finite = ALL[np.isfinite(ALL)].copy()
    assert np.array_equal(over(halves, "to_int", finite, np.int32), finite.astype(np.int32))


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_arithmetic_of_halves_is_correctly_rounded(halves: Emulated, name: str) -> None:
    x = RNG.permutation(np.concatenate([ALL, ALL]))
    n = len(x) // 2
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x[:n], x[n:])
    assert same(over(halves, name, x, np.float16, n), expected)


def test_comparisons_and_signs_of_halves(halves: Emulated) -> None:
    x = RNG.permutation(np.concatenate([ALL, ALL]))
    n = len(x) // 2
    a, b = x[:n].astype(np.float32), x[n:].astype(np.float32)
    assert np.array_equal(over(halves, "less", x, np.bool_, n), a < b)
    second = np.where(b > -1, b, -1)  # max(a, b) is `a > b ? a : b`
    assert same(over(halves, "greatest", x, np.float16, n), np.where(a > second, a, second).astype(np.float16))
    assert np.array_equal(over(halves, "negated", ALL, np.uint16), ALL.view(np.uint16) ^ 0x8000)


# ---- Numbers --------------------------------------------------------------------------------------------------------
NUMBERS = "".join(
    each(name, source, to, body, 32)
    for name, source, to, body in [
        ("tf32", "float", "uint", "y[i] = ec_tf32(x[i]);"),
        ("dp4a", "int", "int", "y[i] = ec_dp4a_s8(x[i], x[n + i], x[2 * n + i]);"),
        ("dp4a_u", "int", "int", "y[i] = ec_dp4a_u8s8(x[i], x[n + i], x[2 * n + i]);"),
        ("bytes", "uchar", "int64_t", "y[i] = (int64_t)ec_as_int8(x[i]) + max((int64_t)ec_as_uint32(-1), (int64_t)3);"),
        ("bits", "float", "int", "y[i] = __float_as_int(x[i] + CUDART_INF_F) + (__clz(1) << 1) + min(3, 4);"),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def numbers() -> Emulated:
    return Emulated(NUMBERS)


def test_tf32_rounds_ties_away_from_zero(numbers: Emulated) -> None:
    x = np.array([1, 1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 1 + 3 * 2**-12, np.inf, -np.inf, 3.4028235e38, 0], np.float32)
    out = np.zeros(len(x), np.uint32)
    numbers.launch("tf32", (1,), 32, x, out, len(x))
    expected = [1, 1 + 2**-10, -1 - 2**-10, 1, 1 + 2**-10, np.inf, -np.inf, np.inf, 0]
    assert np.array_equal(out.view(np.float32), np.array(expected, np.float32))


@pytest.mark.parametrize(("name", "first"), [("dp4a", np.int8), ("dp4a_u", np.uint8)])
def test_four_products_of_bytes(numbers: Emulated, name: str, first: type) -> None:
    x = RNG.integers(-(2**31), 2**31, (3, 64)).astype(np.int32)
    x[:, 0] = [-1, 0x7F7F7F7F, 2**31 - 1]  # wraps
    out = np.zeros(64, np.int32)
    numbers.launch(name, (2,), 32, x, out, 64)
    products = x[0].view(first).astype(np.int64) * x[1].view(np.int8)
    assert np.array_equal(out, (products.reshape(64, 4).sum(1) + x[2]).astype(np.int32))


def test_bits_and_bytes(numbers: Emulated) -> None:
    out = np.zeros(2, np.int64)
    numbers.launch("bytes", (1,), 32, np.array([200, 3], np.uint8), out, 2)
    assert list(out) == [200 - 256 + 2**32 - 1, 3 + 2**32 - 1]
    bits = np.zeros(1, np.int32)
    numbers.launch("bits", (1,), 32, np.array([1], np.float32), bits, 1)
    assert bits[0] == 0x7F800000 + 62 + 3
