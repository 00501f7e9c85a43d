"""Every operator compiles: the table is walked, and a row that accepts a small problem computes the numpy meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.op import OPS
from edgec.compiler.registry import ROWS, Problem
from tests.support.harness import check, one

X = "f32[2, 6, 4, 5]"
SMALL: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Conv": ([X, "f32[4, 6, 3, 3]", "f32[4]"], {"pads": (1, 1, 1, 1)}),
    "ConvTranspose": ([X, "f32[6, 4, 3, 3]", "f32[4]"], {"strides": (2, 2)}),
    "MatMul": (["f32[3, 7]", "f32[7, 5]"], {}),
    "MaxPool": ([X], {"kernel_shape": (2, 2)}),
    "AveragePool": ([X], {"kernel_shape": (2, 2)}),
    "Reshape": ([X], {"shape": (2, 120)}),
    "Transpose": ([X], {"perm": (0, 2, 3, 1)}),
    "Expand": (["f32[6, 1, 5]"], {"shape": (2, 6, 4, 5)}),
    "Tile": ([X], {"repeats": (1, 2, 1, 2)}),
    "DepthToSpace": (["f32[1, 8, 2, 3]"], {"blocksize": 2}),
    "SpaceToDepth": (["f32[1, 2, 4, 6]"], {"blocksize": 2}),
    "Concat": ([X, X], {"axis": 1}),
    "Split": ([X], {"axis": 1, "split": (2, 4)}),
    "Slice": ([X], {"starts": (1,), "ends": (5,), "axes": (1,), "steps": (2,)}),
    "Pad": ([X], {"pads": (0, 0, 1, 1, 0, 0, 1, 1)}),
    "Gather": ([X, "i64[3]"], {"axis": 2}),
    "GatherElements": ([X, "i64[2, 6, 4, 5]"], {"axis": 0}),
    "GatherND": ([X, "i64[4, 2]"], {}),
    "Resize": ([X], {"sizes": (2, 6, 8, 10), "scales": (1.0, 1.0, 2.0, 2.0), "mode": "linear"}),
    "LayerNormalization": ([X, "f32[5]", "f32[5]"], {}),
    "InstanceNormalization": ([X, "f32[6]", "f32[6]"], {}),
    "QuantizeLinear": ([X, "f32[6]", "i8[6]"], {}),
    "DequantizeLinear": (["u8[2, 6, 4, 5]", "f32[6]", "u8[6]"], {}),
    "BitCast": ([X], {"to": "i32"}),
    "Where": (["bool[2, 6, 4, 5]", X, X], {}),
    "PRelu": ([X, "f32[6, 1, 1]"], {}),
    "Not": (["bool[40]"], {}),
    **{op: (["bool[40]", "bool[40]"], {}) for op in ("And", "Or", "Xor")},
    **{op: (["u32[40]", "u32[40]"], {}) for op in ("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "BitwiseNot": (["i32[40]"], {}),
    "ScatterElements": ([X, "i64[2, 3, 4, 5]", "f32[2, 3, 4, 5]"], {"axis": 1}),
    "ScatterND": ([X, "i64[3, 2]", "f32[3, 4, 5]"], {}),
    "TensorScatter": ([X, "f32[2, 6, 2, 5]", "i64[2]"], {}),
    "TopK": ([X], {"k": 3}),
    "Det": (["f32[4, 6, 6]"], {}),
    "TfIdfVectorizer": (["i64[9]", "i64[3]", "i32[2]"], {"grams": (1, 1), "size": 2}),
    "Col2Im": (["f32[2, 9, 12]"], {"image_shape": (5, 6), "block_shape": (3, 3)}),
    "ReverseSequence": ([X, "i64[6]"], {}),
    "GridSample": ([X, "f32[2, 3, 7, 2]"], {}),
    "RoiAlign": ([X, "f32[3, 4]", "i64[3]"], {"output_height": 2, "output_width": 3}),
    "MaxRoiPool": ([X, "f32[3, 5]"], {"pooled_shape": (2, 3)}),
}
NAMES = sorted(n for n, row in OPS.items() if row.kind not in ("source", "control") and not n.startswith("Edgec."))


def problem_of(name: str) -> Problem:
    row = OPS[name]
    kinds, attrs = SMALL.get(name, ([X] * row.arity[0], {}))
    if name.startswith("Reduce"):
        attrs = {"axes": (1, 3)}
    return one(name, *kinds, **attrs)


def arguments(p: Problem) -> list[Any]:
    """Positive numbers, for domains; indices that the data has; no zero scale."""
    rng = np.random.default_rng(3)
    out: list[Any] = []
    for v in p.body.inputs:
        kind = v.type.dtype
        if kind == "bool":
            out.append(rng.random(v.shape) < 0.5)
        elif kind in ("f32",):
            low = 1.0 if p.anchor.op == "Acosh" else 0.05
            out.append((low + 0.9 * rng.random(v.shape)).astype(np.float32))
        else:
            out.append(
                rng.integers(-2 if kind == "i64" else 0, 2, v.shape).astype(
                    {"i64": np.int64, "u8": np.uint8, "i8": np.int8, "u32": np.uint32, "i32": np.int32}[kind]
                )
            )
    return out


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_has_a_kernel(name: str, tmp_path: Path) -> None:
    p = problem_of(name)
    rows = [r for r in ROWS if ROWS[r].accepts(p) is True]
    generic = rows if OPS[name].alone else [r for r in rows if r.startswith("generic") or r in ("softmax", "norm")]
    assert generic, f"no generic row computes {name}"
    check(p, generic[0], tmp_path, arguments(p))
