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
