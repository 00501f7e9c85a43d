"""What the model says that generic code on bytes takes is near what was measured (EPYC Zen 4, AVX-512)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_generic_harness import chain
from test_integer import FULL

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS

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


@pytest.mark.parametrize(("mode", "us"), [("nearest", 49), ("linear", 117), ("cubic", 317)])
def test_resizes_of_bytes_side_by_side_cost_what_they_take(mode: str, us: float) -> None:
    def body(x: Value) -> Value:
        real = build("DequantizeLinear", x, SCALE, const(np.uint8(9)))
        large = build("Resize", real, sizes=(1, 64, 64, 64), scales=(1.0, 1.0, 2.0, 2.0), mode=mode)
        return build("QuantizeLinear", large, SCALE, const(np.uint8(9)))

    offers = ROWS["generic_map"].choices(chain(["u8[1, 64, 32, 32]"], body, [], "x86-avx512"))
    assert us / 1.5 < min(c.cost_us for c in offers if c.layouts_out == ("NHWC16c",)) < 1.5 * us
