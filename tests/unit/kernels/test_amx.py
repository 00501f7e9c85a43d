"""Products on AMX: the kernels give the interpreter's bits, whatever the window, channels and tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Problem
from edgec.compiler.target import find_target
from edgec.targets.measure import Measured
from tests.support.amx_here import runs
from tests.support.harness import chain, for_size
from tests.support.integers import FULL, numbers, same_bits

pytestmark = pytest.mark.skipif(
    not runs(find_target("x86-amx").cpu.isa), reason="this CPU has neither AMX nor the AVX-512 beside it"
)


def conv(
    x: str, w: str, zero: int = 7, low: int = 0, high: int = 255, to: str = "u8", out: str = "NHWC16c", **attrs: object
) -> Problem:
    """A convolution that ends in bytes."""
    channels = w.partition("[")[2].partition(",")[0]

    def body(a: Value, b: Value, c: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", a, b, c, zero=zero, **attrs)
        return build("Edgec.Rescale", sums, m, zeros=(0,), to=to, zero=3, low=low, high=high)

    return chain([x, w, f"i32[{channels}]@A16a", f"f32[{channels}, 1, 1]@CHW16c"], body, [out], "x86-amx")


DEEP = "OHWI4i16o4i"
FLAT = "OHWI16o4i"


@pytest.mark.parametrize("zero", [0, 7])
@pytest.mark.parametrize("channels", [16, 32, 33, 64, 100, 160])
def test_pointwise(channels: int, zero: int, tmp_path: Path) -> None:
    p = conv(f"u8[2, {channels}, 9, 11]@NHWC16c", f"i8[40, {channels}, 1, 1]@{DEEP}", zero)
    same_bits(p, "conv_int8_amx", tmp_path)


@pytest.mark.parametrize(
    ("channels", "size", "window", "attrs"),
    [
        (3, "17, 30", "3, 3", {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
        (3, "30, 35", "7, 7", {"strides": (2, 2), "pads": (3, 3, 3, 3)}),
        (4, "9, 9", "4, 2", {"strides": (2, 2), "pads": (0, 1, 1, 0)}),
        (2, "9, 9", "3, 3", {}),
        (64, "4, 4", "3, 3", {"pads": (1, 1, 1, 1)}),
        (64, "8, 5", "3, 3", {"pads": (1, 1, 1, 1)}),
        (64, "7, 7", "3, 3", {"pads": (1, 1, 1, 1)}),
        (16, "14, 14", "3, 3", {"pads": (1, 1, 1, 1)}),
        (32, "9, 20", "3, 3", {"pads": (0, 2, 1, 0), "strides": (2, 1)}),
        (64, "9, 37", "3, 2", {}),
        (48, "12, 12", "5, 5", {"pads": (4, 4, 4, 4), "dilations": (2, 2)}),
        (64, "8, 14", "1, 1", {"strides": (2, 2)}),
        (64, "8, 1", "3, 1", {"pads": (1, 0, 1, 0)}),
        (20, "1, 1", "1, 1", {}),
        (20, "3, 1", "1, 1", {}),
        (80, "5, 40", "1, 3", {"pads": (2, 2, 2, 2)}),
    ],
)
@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_windows(kind: str, channels: int, size: str, window: str, attrs: dict[str, object], tmp_path: Path) -> None:
    block = 16 if channels > 4 else 4
    folded = channels <= 4 and attrs.get("strides") == (2, 2)
    layout = DEEP if channels > 4 else "OHWI2h16o4i" if folded else FLAT
    x, w = f"{kind}[2, {channels}, {size}]@NHWC{block}c", f"i8[24, {channels}, {window}]@{layout}"
    same_bits(conv(x, w, **attrs), "conv_int8_amx", tmp_path)


def rescaled(sums: Value, m: Value, **attrs: object) -> Value:
    return build("Edgec.Rescale", sums, m, zeros=(0,), **{**FULL, **attrs})


TAILS: dict[str, tuple[list[str], Callable[..., Value]]] = {
    "limits": (["f32[40, 1, 1]@CHW16c"], lambda s, m: rescaled(s, m, low=3, high=200)),
    "signed": (["f32[1]"], lambda s, m: rescaled(s, m, to="i8", zero=-4, low=-100, high=90)),
    "residual": (
        ["u8[1, 40, 7, 21]@NHWC16c", "f32[40, 1, 1]@CHW16c", "f32[1]"],
        lambda s, r, m, n: build("Edgec.Rescale", s, r, m, n, zeros=(0, 130), **FULL),
    ),
    "residual of bytes": (
        ["u8[1, 40, 7, 21]@NHWC16c", "f32[40, 1, 1]@CHW16c", "f32[1]"],
        lambda s, r, m, n: build("Edgec.Rescale", rescaled(s, m), r, n, n, zeros=(3, 130), **FULL),
    ),
    "table": (
        ["f32[40, 1, 1]@CHW16c", "i8[256]"],
        lambda s, m, t: build("Edgec.Table", rescaled(s, m), t),
    ),
    "floats": (
        ["f32[40, 1, 1]@CHW16c"],
        lambda s, m: build("Mul", build("Cast", s, to="f32"), m),
    ),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", TAILS)
def test_tails(name: str, threads: int, tmp_path: Path) -> None:
    kinds, tail = TAILS[name]

    def body(a: Value, b: Value, c: Value, *rest: Value) -> Value:
        return tail(build("Edgec.ConvInteger", a, b, c, zero=5, pads=(1, 1, 1, 1)), *rest)

    first = ["u8[1, 32, 7, 21]@NHWC16c", f"i8[40, 32, 3, 3]@{DEEP}", "i32[40]@A16a"]
    layout = "NCHW16c" if name == "floats" else "NHWC16c"
    p = chain([*first, *kinds], body, [layout], "x86-amx", threads)
    same_bits(p, "conv_int8_amx", tmp_path)
    same_bits(for_size(p), "conv_int8_amx", tmp_path)


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [("1", 64, 40), ("3, 11", 100, 70), ("49", 192, 96), ("1", 4, 3), ("20", 64, 8)]
)
@pytest.mark.parametrize("zero", [0, 9])
def test_products_with_a_matrix(rows: str, inner: int, columns: int, zero: int, tmp_path: Path) -> None:
    def body(a: Value, b: Value, c: Value, m: Value) -> Value:
        return rescaled(build("Edgec.MatMulInteger", a, b, c, a_zero=zero), m)

    kinds = [f"u8[{rows}, {inner}]", f"i8[{inner}, {columns}]@JK16j4k", f"i32[{columns}]@A16a", f"f32[{columns}]@A16a"]
    same_bits(chain(kinds, body, [""], "x86-amx"), "matmul_int8_amx", tmp_path)


@pytest.mark.parametrize("small", [False, True], ids=["speed", "size"])
@pytest.mark.parametrize("pixels", ["7, 7", "5, 37"])
def test_the_result_may_lie_over_the_tensor_that_is_added(pixels: str, small: bool) -> None:
    """Pixels that two tiles have are ended once."""

    def body(a: Value, b: Value, c: Value, r: Value, n: Value) -> Value:
        sums = build("Edgec.ConvInteger", a, b, c, zero=5)
        return build("Edgec.Rescale", sums, r, n, n, zeros=(0, 130), **FULL)

    kinds = [f"u8[1, 32, {pixels}]", "i8[100, 32, 1, 1]", "i32[100]", f"u8[1, 100, {pixels}]", "f32[1]"]
    p = chain(kinds, body, [], "x86-amx")
    p = for_size(p) if small else p
    given = numbers([v.type for v in p.body.inputs])
    (want,) = run(p.body, given)
    for choice in ROWS["conv_int8_amx"].choices(p):
        kernel = Measured(p, choice, given)
        (out,) = kernel.outs
        out[...] = kernel.arrays[3]
        kernel.args[3] = out.ctypes.data
        np.testing.assert_array_equal(kernel.run(), want)


@pytest.mark.parametrize("small", [False, True], ids=["speed", "size"])
@pytest.mark.parametrize("at", range(3))
def test_every_tiling(at: int, small: bool, tmp_path: Path) -> None:
    """Blocks of pixels, shares of the channels, tiles whose pixels others have as well."""
    p = conv("u8[2, 48, 5, 37]@NHWC16c", f"i8[100, 48, 3, 3]@{DEEP}", pads=(1, 1, 1, 1))
    p = replace(for_size(p) if small else p, threads=4)
    offers = ROWS["conv_int8_amx"].choices(p)
    row = replace(ROWS["conv_int8_amx"], choices=lambda _: [offers[at % len(offers)]])
    with patch.dict(ROWS, {"conv_int8_amx": row}):
        same_bits(p, "conv_int8_amx", tmp_path)
