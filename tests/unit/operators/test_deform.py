"""Deformable convolutions: the moved elements under each window, and the whole against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import EdgecError, IRError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.ir import Type
from edgec.compiler.op import infer
from tests.support.harness import TARGETS, check, one
from tests.support.one_node import K, OneNode, close

WINDOW: dict[str, Any] = {"kernel_shape": (3, 2), "strides": (1, 2), "pads": (1, 0, 1, 1), "dilations": (1, 2)}


def drawn(seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Arguments (x, w, offset, bias, mask; the last two perhaps None) and attributes."""
    rng = np.random.default_rng(seed)
    group, offset_group = int(rng.choice([1, 2])), int(rng.choice([1, 2, 3]))
    channels, out = 6 * int(rng.integers(1, 3)), group * int(rng.integers(1, 4))
    kernel, strides, dilations = (rng.integers(1, top, 2) for top in (4, 3, 3))
    pads = rng.integers(0, 3, 4)
    size = (kernel - 1) * dilations + 1 + rng.integers(0, 6, 2)
    sizes = (size + pads[:2] + pads[2:] - (kernel - 1) * dilations - 1) // strides + 1
    batch, window = int(rng.integers(1, 3)), int(kernel.prod()) * offset_group

    def array(*shape: Any) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    args = [array(batch, channels, *size), array(out, channels // group, *kernel)]
    args.append(1.5 * array(batch, 2 * window, *sizes))
    args.append(array(out) if rng.random() < 0.5 else None)
    args.append(array(batch, window, *sizes) if rng.random() < 0.5 else None)
    attrs = {"strides": strides, "dilations": dilations, "pads": pads, "kernel_shape": kernel}
    return args, {**{k: v.tolist() for k, v in attrs.items()}, "group": group, "offset_group": offset_group}


@pytest.mark.parametrize("seed", range(40))
def test_convolutions_are_those_of_the_runtime(seed: int) -> None:
    args, attrs = drawn(seed)
    args[1] = K(args[1]) if seed % 2 else args[1]
    node = OneNode("DeformConv", args, 19 + 3 * (seed % 3 == 0), **attrs)
    want = node.runtime()
    close(node.interpreted(), want)
    if seed % 5 == 0:
        close(node.compiled(), want)


def test_attributes_that_are_left_out() -> None:
    rng = np.random.default_rng(6)
    shapes = ((1, 4, 5, 6), (3, 4, 2, 2), (1, 8, 4, 5))
    node = OneNode("DeformConv", [rng.standard_normal(shape).astype(np.float32) for shape in shapes], 19)
    want = node.runtime()
    close(node.interpreted(), want)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("row", ["deform_columns", "deform_columns_f32_blocked"])
def test_kernels_stay_within_their_memory(row: str, masked: bool, where: str, tmp_path: Path) -> None:
    """Offsets may lead anywhere, or be no numbers."""
    rng = np.random.default_rng(2)
    lanes = 16 if where == "x86-avx512" else 8
    channels = 2 * lanes if row.endswith("blocked") else 4
    layout = f"NCHW{lanes}c" if row.endswith("blocked") else ""
    attrs = {**WINDOW, "offset_group": 2, "group": 2}
    sizes = (18, 10)
    offset = (rng.standard_normal((2, 24, *sizes)) * 3).astype(np.float32)
    offset.reshape(-1)[:90:11] = [np.inf, -np.inf, np.nan, 1e30, -1e30, 3e38, 7, -7, 100]
    arrays = [rng.standard_normal((2, channels, 18, 21)).astype(np.float32), offset]
    kinds = [f"f32[2, {channels}, 18, 21]@{layout}", f"f32{[2, 24, *sizes]}"]
    if masked:
        arrays.append(rng.random((2, 12, *sizes)).astype(np.float32))
        kinds.append(f"f32{[2, 12, *sizes]}")
    p = one("Edgec.DeformColumns", *kinds, layouts=[layout], where=where, threads=8 if masked else 1, **attrs)
    check(p, row, tmp_path, arrays)


@pytest.mark.parametrize("kind", ["f16", "bf16", "f64"])
def test_element_types(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    shapes = ((1, 2, 6, 8), (1, 12, 6, 4), (1, 6, 6, 4))
    arrays = [rng.standard_normal(shape).astype(DTYPES[kind].numpy) for shape in shapes]
    p = one("Edgec.DeformColumns", *(f"{kind}{list(shape)}" for shape in shapes), **WINDOW)
    check(p, "deform_columns", tmp_path, arrays)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_numbers_of_axes(rank: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    kernel, sizes = (2,) * rank, (4,) * rank
    offset, window = (1, rank * 2**rank, *(3,) * rank), {"strides": (1,) * rank, "dilations": (1,) * rank}
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((1, 2, *sizes), offset)]
    attrs = {"kernel_shape": kernel, "pads": (0,) * 2 * rank, **window}
    p = one("Edgec.DeformColumns", f"f32{[1, 2, *sizes]}", f"f32{list(offset)}", **attrs)
    check(p, "deform_columns", tmp_path, arrays)


@pytest.mark.parametrize("rank", [1, 3])
def test_without_offsets_it_is_a_convolution(rank: int) -> None:
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 4, *(5,) * rank)), rng.standard_normal((6, 2, *(3,) * rank))
    sizes = (5,) * rank
    for kind, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12), (np.float16, 1e-2), (ml_dtypes.bfloat16, 1e-2)):
        offset = np.zeros((2, 2 * rank * 3**rank, *sizes), kind)
        attrs: dict[str, Any] = {"pads": [1] * 2 * rank, "group": 2}
        node = OneNode("DeformConv", [x.astype(kind), w.astype(kind), offset], 22, offset_group=2, **attrs)
        node.typed([np.zeros((2, 6, *sizes), kind)])
        plain = OneNode("Conv", [x.astype(kind).astype("f4"), w.astype(kind).astype("f4")], 22, **attrs)
        (want,) = plain.runtime()
        got = node.compiled()[0] if kind == np.float32 else node.interpreted()[0]
        assert got.dtype == kind
        np.testing.assert_allclose(got.astype("f8"), want, rtol=max(tolerance, 1e-5), atol=max(tolerance, 1e-5) * 5)


def test_an_infinite_element_at_the_edge_stays_there() -> None:
    x = np.zeros((1, 1, 2, 2), np.float32)
    x[..., 0, 0] = np.inf
    offset = np.asarray([-0.5, -3], np.float32).reshape(1, 2, 1, 1) * np.ones((1, 2, 2, 2), np.float32)
    node = OneNode("DeformConv", [x, np.ones((1, 1, 1, 1), np.float32), offset], 19)
    node.typed([np.empty((1, 1, 2, 2), np.float32)])
    for (y,) in (node.interpreted(), node.compiled()):
        np.testing.assert_array_equal(y, np.zeros((1, 1, 2, 2)))


@pytest.mark.parametrize(
    ("x", "offset", "mask", "attrs", "message"),
    [
        ((1, 2, 5, 5), (1, 18, 3, 3), None, {"kernel_shape": (3,)}, "a window of"),
        ((1, 2, 5, 5), (1, 18, 3, 4), None, {}, "expected .1, 18, 3, 3."),
        ((1, 2, 5, 5), (1, 18, 3, 3), (1, 8, 3, 3), {}, "the mask is"),
        ((1, 2, 5, 5), (1, 18, 3, 3), None, {"offset_group": 3}, "do not part"),
        ((1, 2, 5, 5), (1, 18, 3, 3), None, {"pads": (-1, 0, 1, 0)}, "cut"),
    ],
)
def test_arguments_that_do_not_fit(x: Any, offset: Any, mask: Any, attrs: Any, message: str) -> None:
    base = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}
    types = [Type("f32", shape) for shape in (x, offset, mask) if shape]
    with pytest.raises(IRError, match=message):
        infer("Edgec.DeformColumns", types, {**base, **attrs})


def test_weights_that_do_not_fit() -> None:
    x, offset = np.zeros((1, 2, 4, 4), "f4"), np.zeros((1, 2, 4, 4), "f4")
    for w, group, message in (((2, 2, 1, 1), 2, "do not fit"), ((3, 1, 1, 1), 2, "do not part into 2 groups")):
        node = OneNode("DeformConv", [x, np.zeros(w, "f4"), offset], 19, group=group)
        node.typed([np.zeros((1, 2, 4, 4), "f4")])
        with pytest.raises(EdgecError, match=message):
            import_model(node.model)
    args = [np.zeros((1, 1, *(2,) * 4), "f4"), np.zeros((1, 1, *(1,) * 4), "f4"), np.zeros((1, 4, *(2,) * 4), "f4")]
    node = OneNode("DeformConv", args, 19)
    node.typed([np.zeros((1, 1, *(2,) * 4), "f4")])
    with pytest.raises(UnsupportedModel, match="expected one, two or three spatial axes"):
        import_model(node.model)
