"""Convolutions that kernels for Cortex-M are tried on: windows, borders, channels left over, what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgec.compiler.registry import Problem
from tests.support.byte_convolutions import convolution

CORES = {"dsp": "cortex-m4", "thumb": "cortex-m0plus"}


def conv(core: str, x: str, w: str, **given: Any) -> Problem:
    return convolution(CORES[core], x, w, **given)


def small(problem: Problem) -> Problem:
    """The same where code is to be small."""
    return replace(problem, target=replace(problem.target, small=True))


WIDTHS = ["1, 1", "1, 2", "3, 1", "2, 2", "1, 5", "3, 7"]

DENSE: dict[str, dict[str, Any]] = {
    "pointwise": {"x": "1, 32, 9, 9", "w": "40, 32, 1, 1"},
    "pointwise, whole tiles": {"x": "1, 16, 6, 6", "w": "4, 16, 1, 1", "limits": (-128, -128, 127)},
    "limits on both sides": {"x": "1, 12, 5, 5", "w": "8, 12, 1, 1", "limits": (9, -100, 90)},
    "limits from the zero point": {"x": "1, 12, 5, 5", "w": "8, 12, 1, 1", "limits": (-100, -100, 127)},
    "limits of seven bits": {"x": "1, 12, 5, 5", "w": "8, 12, 1, 1", "limits": (-128, -128, -1)},
    "one multiplier": {"x": "1, 12, 5, 5", "w": "8, 12, 1, 1", "then": "one"},
    "channels left over": {"x": "2, 23, 7, 5", "w": "21, 23, 1, 1"},
    "padded": {"x": "1, 24, 9, 13", "w": "24, 24, 3, 3", "pads": (1, 1, 1, 1)},
    "padded, zero point 0": {"x": "1, 5, 9, 13", "w": "6, 5, 3, 3", "pads": (1, 1, 1, 1), "zero": 0},
    "padded on one side": {"x": "1, 16, 10, 12", "w": "16, 16, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2)},
    "strided pointwise": {"x": "1, 40, 9, 9", "w": "16, 40, 1, 1", "strides": (2, 2), "limits": (4, 4, 127)},
    "first layer": {"x": "1, 3, 32, 20", "w": "16, 3, 3, 3", "pads": (1, 1, 1, 1), "strides": (2, 2)},
    "first layer, 7x7": {"x": "1, 3, 23, 17", "w": "24, 3, 7, 7", "pads": (3, 3, 3, 3), "strides": (2, 2), "zero": 5},
    "two channels": {"x": "1, 2, 23, 17", "w": "3, 2, 7, 7", "zero": 5},
    "four channels": {"x": "1, 4, 6, 2", "w": "8, 4, 3, 3", "pads": (1, 1, 1, 1), "zero": 0},
    "one channel": {"x": "1, 1, 12, 12", "w": "5, 1, 5, 5", "pads": (2, 2, 2, 2), "zero": 1},
    "one channel, tall": {"x": "1, 1, 49, 10", "w": "64, 1, 10, 4", "pads": (4, 1, 5, 1), "strides": (2, 2)},
    "one output": {"x": "1, 8, 5, 5", "w": "1, 8, 3, 3", "zero": 1},
    "one pixel": {"x": "2, 20, 3, 3", "w": "5, 20, 3, 3", "zero": 127},
    "two pixels": {"x": "2, 5, 3, 4", "w": "5, 5, 3, 3", "zero": 1},
    "many outputs": {"x": "1, 4, 3, 2", "w": "2100, 4, 1, 1", "zero": 1},
    "long windows": {"x": "1, 300, 4, 5", "w": "4, 300, 3, 3", "zero": 1},
    "longer windows": {"x": "1, 700, 3, 4", "w": "3, 700, 3, 3", "zero": 1},
    "dilated": {"x": "1, 17, 11, 11", "w": "12, 17, 3, 3", "pads": (2, 2, 2, 2), "dilations": (2, 2), "zero": -3},
    "dilated rows": {"x": "1, 8, 11, 7", "w": "4, 8, 3, 3", "pads": (2, 1, 2, 1), "dilations": (2, 1), "zero": -3},
    "one axis": {"x": "1, 20, 50", "w": "40, 20, 9", "pads": (4, 4), "strides": (2,)},
    "one axis, one channel": {"x": "1, 1, 50", "w": "6, 1, 9", "pads": (4, 4), "strides": (2,)},
    "residual times a number": {"x": "1, 16, 8, 8", "w": "6, 16, 3, 3", "pads": (1, 1, 1, 1), "then": "add to it"},
    "residual, whole tiles": {"x": "2, 8, 6, 6", "w": "8, 8, 1, 1", "then": "add to it"},
    "residual of one pixel": {"x": "2, 8, 3, 3", "w": "8, 8, 3, 3", "then": "add to it"},
    "residual of bytes": {"x": "1, 16, 8, 8", "w": "6, 16, 3, 3", "pads": (1, 1, 1, 1), "then": "add bytes"},
    "residual of bytes, 128": {"x": "1, 8, 6, 6", "w": "8, 8, 1, 1", "then": "add bytes", "limits": (-128, -128, 127)},
    "residual": {"x": "1, 16, 8, 8", "w": "32, 16, 3, 3", "pads": (1, 1, 1, 1), "then": "add"},
    "residual, column": {"x": "1, 7, 9, 1", "w": "6, 7, 5, 2", "pads": (0, 0, 1, 1), "strides": (2, 2), "then": "add"},
    "table": {"x": "1, 16, 8, 8", "w": "20, 16, 1, 1", "then": "table"},
    "real numbers": {"x": "1, 16, 8, 8", "w": "20, 16, 1, 1", "then": "real"},
}  # fmt: skip

DEPTHWISE: dict[str, dict[str, Any]] = {
    "3x3": {"x": "1, 24, 15, 13", "w": "24, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 24},
    "3x3, even": {"x": "1, 8, 8, 8", "w": "8, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 8, "limits": (-128, -128, 127)},
    "strided": {"x": "2, 19, 15, 30", "w": "19, 1, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2), "group": 19},
    "5x5": {"x": "1, 12, 7, 7", "w": "12, 1, 5, 5", "pads": (2, 2, 2, 2), "group": 12, "zero": 0},
    "5x5, strided": {"x": "1, 5, 17, 9", "w": "5, 1, 5, 5", "strides": (2, 2), "pads": (1, 1, 2, 2), "group": 5},
    "small": {"x": "1, 16, 3, 3", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "zero": 127},
    "one axis": {"x": "1, 17, 33", "w": "17, 1, 3", "pads": (1, 1), "group": 17, "zero": 4},
    "a column": {"x": "1, 10, 30, 1", "w": "10, 1, 3, 1", "group": 10},
    "a long column": {"x": "1, 10, 24, 1", "w": "10, 1, 10, 1", "group": 10},
    "a whole column": {"x": "1, 10, 15, 1", "w": "10, 1, 15, 1", "group": 10},
    "strided by 3": {"x": "1, 6, 12, 13", "w": "6, 1, 4, 7", "pads": (1, 3, 2, 3), "strides": (1, 3), "group": 6},
    "strides beyond the window": {"x": "1, 4, 25, 9", "w": "4, 1, 2, 2", "strides": (4, 3), "group": 4},
    "dilated": {"x": "1, 6, 19, 12", "w": "6, 1, 3, 3", "pads": (2, 2, 2, 2), "dilations": (2, 3), "group": 6},
    "many channels": {"x": "1, 300, 5, 6", "w": "300, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 300},
    "more channels": {"x": "1, 1400, 2, 3", "w": "1400, 1, 1, 3", "pads": (0, 1, 0, 1), "group": 1400},
    "residual": {"x": "1, 16, 9, 12", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "then": "add"},
    "table": {"x": "1, 6, 9, 12", "w": "6, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 6, "then": "table"},
    "one multiplier": {"x": "1, 6, 4, 5", "w": "6, 1, 3, 3", "group": 6, "then": "one"},
}  # fmt: skip
