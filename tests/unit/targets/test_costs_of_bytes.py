"""What the model says that generic code on bytes takes is near what was measured (EPYC Zen 4, AVX-512)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS
from tests.support.harness import chain
from tests.support.integers import FULL

SCALE = const(np.float32(0.02))


@pytest.mark.parametrize(
    ("x", "w", "attrs", "layout", "us"),
    [
        ((1, 48, 30, 30), (48, 12, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}, "", 2700),
        ((1, 48, 30, 30), (48, 12, 3, 3), {"group": 4}, "", 190),
        ((1, 48, 30, 30), (48, 12, 3, 3), {"group": 4}, "NHWC16c", 1700),
        ((1, 16, 28, 28), (16, 16, 3, 3), {"pads": (1, 1, 1, 1)}, "NHWC16c", 150),
        ((1, 1, 16, 16, 64), (16, 1, 9, 9, 1), {"pads": (4, 4, 0, 4, 4, 0)}, "", 810),
        ((1, 8, 8, 16, 16), (8, 8, 3, 3, 3), {"pads": (1, 1, 1, 1, 1, 1)}, "", 2400),
    ],
    ids=str,
)
def test_products_that_no_kernel_is_made_for_cost_what_they_take(
    x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any], layout: str, us: float
) -> None:
    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        return build("Edgec.Rescale", build("Edgec.ConvInteger", x, w, b, **attrs), m, zeros=(0,), **FULL)

    kinds = [f"u8{list(x)}", f"i8{list(w)}", f"i32[{w[0]}]", f"f32{[w[0], *[1] * (len(w) - 2)]}"]
    offers = ROWS["generic_contract"].choices(chain(kinds, body, [], "x86-avx512"))
    (modelled,) = {c.cost_us for c in offers if c.layouts_out == (layout,)}
    assert us / 3 < modelled < 3 * us


def test_few_channels_of_bytes_in_rows_cost_what_they_take() -> None:
    """What the ends of segmentation networks compute: 22 us where pixels lie in rows, 166 from blocks of channels, and
    86 where two channels are padded to a vector of 16, whose every lane has a sigmoid computed."""

    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b)
        return build("Sigmoid", build("Mul", build("Cast", sums, to="f32"), m))

    kinds = ["u8[1, 16, 128, 128]", "i8[2, 16, 1, 1]", "i32[2]", "f32[2, 1, 1]"]
    problem = chain(kinds, body, [], "x86-avx512")
    offers = [c for c in ROWS["generic_contract"].choices(problem) if c.layouts_out == ("",)]
    in_rows, anyhow = (min(c.cost_us for c in offers if c.layouts_in[0] == where) for where in ("", None))
    (padded, *_) = ROWS["conv_int8_pointwise"].choices(problem)
    assert 22 / 2 < in_rows < 2 * 22
    assert 166 / 2 < anyhow < 2 * 166
    assert in_rows < padded.cost_us < anyhow


@pytest.mark.parametrize(("mode", "us"), [("nearest", 49), ("linear", 117), ("cubic", 317)])
def test_resizes_of_bytes_side_by_side_cost_what_they_take(mode: str, us: float) -> None:
    def body(x: Value) -> Value:
        real = build("DequantizeLinear", x, SCALE, const(np.uint8(9)))
        large = build("Resize", real, sizes=(1, 64, 64, 64), scales=(1.0, 1.0, 2.0, 2.0), mode=mode)
        return build("QuantizeLinear", large, SCALE, const(np.uint8(9)))

    offers = ROWS["generic_map"].choices(chain(["u8[1, 64, 32, 32]"], body, [], "x86-avx512"))
    assert us / 1.5 < min(c.cost_us for c in offers if c.layouts_out == ("NHWC16c",)) < 1.5 * us


@pytest.mark.parametrize(
    ("what", "channels", "side", "us"),
    [
        ("sum", 64, 56, 27.8),
        ("sum", 192, 14, 5.2),
        ("sum of three", 192, 14, 7.5),
        ("product", 64, 56, 20.3),
        ("product", 192, 14, 3.8),
        ("gelu", 64, 56, 74.9),
        ("gelu", 192, 14, 14.1),
        ("bytes of floats", 192, 16, 3.1),
        ("floats of bytes", 192, 16, 2.5),
    ],
)
def test_maps_of_bytes_cost_what_they_take(what: str, channels: int, side: int, us: float) -> None:
    def body(*x: Value) -> Value:
        if what.startswith("sum"):
            return build("Edgec.Rescale", *x, *[SCALE] * len(x), zeros=(3,) * len(x), **FULL)
        if what == "product":
            return build("Edgec.Rescale", build("Edgec.MulInteger", *x, a_zero=3, b_zero=4), SCALE, zeros=(0,), **FULL)
        real = x[0] if what == "bytes of floats" else build("DequantizeLinear", x[0], SCALE, const(np.uint8(9)))
        if what == "floats of bytes":
            return real
        near = build("Edgec.NearGelu", real) if what == "gelu" else real
        return build("Edgec.Rescale", near, SCALE, zeros=(0,), **FULL)

    image = [1, channels, side, side]
    kinds = {"sum": [image] * 2, "sum of three": [image] * 3, "product": [image, [1, channels, 1, 1]]}
    kind = "f32" if what == "bytes of floats" else "u8"
    problem = chain([f"{kind}{shape}" for shape in kinds.get(what, [image])], body, [], "x86-avx512")
    modelled = min(c.cost_us for c in ROWS["generic_map"].choices(problem) if c.layouts_out != ("",))
    assert us / 1.7 < modelled < 1.7 * us
