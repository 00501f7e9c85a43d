"""Products on AMX: the kernels give the interpreter's bits, whatever the window, channels and tail."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_generic_harness import chain
from test_integer import FULL, same_bits

from edgec.compiler.ir import Value
from edgec.compiler.op import build
from edgec.compiler.registry import Problem
from edgec.targets.host import claim_tiles

pytestmark = pytest.mark.skipif(not claim_tiles(), reason="this CPU has no AMX")


def conv(
    x: str, w: str, zero: int = 7, low: int = 0, high: int = 255, to: str = "u8", out: str = "NHWC16c", **attrs: object
) -> Problem:
    """A convolution that ends in bytes."""
    channels = w.partition("[")[2].partition(",")[0]

    def body(a: Value, b: Value, c: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", a, b, c, zero=zero, **attrs)
        return build("Edgec.Rescale", sums, m, zeros=(0,), to=to, zero=3, low=low, high=high)

    return chain([x, w, f"i32[{channels}]", f"f32[{channels}, 1, 1]"], body, [out], "x86-amx")


DEEP = "OHWI4i16o4i"
FLAT = "OHWI16o4i"


@pytest.mark.parametrize("zero", [0, 7])
@pytest.mark.parametrize("channels", [16, 32, 33, 64, 100, 160])
def test_pointwise(channels: int, zero: int, tmp_path: Path) -> None:
    p = conv(f"u8[2, {channels}, 9, 11]@NHWC16c", f"i8[40, {channels}, 1, 1]@{DEEP}", zero)
    same_bits(p, "conv_int8_amx", tmp_path)
