"""Arithmetic on quantized tensors: what it means, and that generic kernels give the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.ir import Value
from edgec.compiler.op import build, evaluate
from tests.support.harness import TARGETS, chain, check, one
from tests.support.integers import FULL, numbers, same_bits


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_convolution_in_any_form(kind: str, where: str, tmp_path: Path) -> None:
    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, pads=(1, 0, 1, 2), strides=(2, 1), zero=7)
        return build("Edgec.Rescale", sums, m, zeros=(0,), **FULL)

    kinds = [f"{kind}[2, 5, 7, 9]@NHWC16c", "i8[20, 5, 3, 3]", "i32[20]", "f32[20, 1, 1]"]
    same_bits(chain(kinds, body, ["NHWC16c"], where), "generic_contract", tmp_path)


@pytest.mark.parametrize("b", ["i8", "u8"])
def test_matrix_product_with_zero_points(b: str, tmp_path: Path) -> None:
    def body(x: Value, w: Value, bias: Value, m: Value) -> Value:
        sums = build("Edgec.MatMulInteger", x, w, bias, a_zero=128, b_zero=3)
        return build("Edgec.Rescale", sums, m, zeros=(0,), to="i8", zero=-4, low=-100, high=90)

    same_bits(chain(["u8[2, 3, 70]", f"{b}[70, 21]", "i32[21]", "f32[21]"], body), "generic_contract", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
def test_sum_of_two_tensors_is_rounded_at_each_step(where: str, tmp_path: Path) -> None:
    """A product that is fused with the addition would be rounded once: some sums would end on the other side of .5."""

    def body(a: Value, b: Value, m: Value, n: Value) -> Value:
        return build("Edgec.Rescale", a, b, m, n, zeros=(3, -5), to="i8", zero=1, low=-128, high=127)

    p = chain(["u8[1, 300, 20, 40]", "i8[1, 300, 20, 40]", "f32[300, 1, 1]", "f32[300, 1, 1]"], body, [], where)
    a, b, m, n = numbers([v.type for v in p.body.inputs])
    third = np.float32(1 / 3) * np.arange(1, 301, dtype=np.float32) / 100  # sums near halves are many
    check(p, "generic_map", tmp_path, [a, b, third.reshape(m.shape), (third / 2).reshape(n.shape)])


def test_product_and_table(tmp_path: Path) -> None:
    def body(a: Value, b: Value, m: Value, table: Value) -> Value:
        made = build("Edgec.Rescale", build("Edgec.MulInteger", a, b, a_zero=3, b_zero=-1), m, zeros=(0,), **FULL)
        return build("Edgec.Table", made, table)

    same_bits(chain(["u8[2, 40]", "i8[40]", "f32[1]", "i8[256]"], body), "generic_map", tmp_path)


def test_signed_table(tmp_path: Path) -> None:
    same_bits(one("Edgec.Table", "i8[1, 300]", "u8[256]"), "generic_map", tmp_path)


def test_sums_over_windows_and_axes(tmp_path: Path) -> None:
    attrs = {"kernel_shape": (3, 2), "strides": (2, 2), "pads": (1, 1, 0, 1), "zero": 9}
    same_bits(one("Edgec.SumPool", "u8[1, 20, 9, 11]@NHWC16c", **attrs), "generic_window", tmp_path)
    same_bits(one("Edgec.Sum", "i8[2, 20, 9, 11]@NHWC16c", axes=(2, 3), zero=-9), "generic_reduce", tmp_path)


def test_rounding_is_half_to_even_and_saturates() -> None:
    x = np.array([1, 3, 5, -1, -3, 1000, -1000], np.int32)
    half = np.float32(0.5)
    node = build(
        "Edgec.Rescale", *one("Relu", "i32[7]").body.inputs, *one("Relu", "f32[]").body.inputs, zeros=(0,), **FULL
    ).node
    (y,) = evaluate(node, [x, half])
    assert y.tolist() == [3, 5, 5, 3, 1, 255, 0]


@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_by_a_table(axis: int, tmp_path: Path) -> None:
    p = one("Edgec.SoftmaxInteger", "u8[3, 40, 6]", "i32[256]", axis=axis, multiplier=255.0, to="i8", zero=-128)
    x, _ = numbers([v.type for v in p.body.inputs])
    table = np.rint(np.exp(-np.arange(256) * 0.05) * (1 << 20)).astype(np.int32)
    check(p, "softmax_int8", tmp_path, [x, table])
    real = x.astype(np.float64) * 0.05
    exact = np.exp(real - real.max(axis, keepdims=True))
    (got,) = evaluate(p.body.outputs[0].node, [x, table])
    assert np.abs((got + 128.0) / 255 - exact / exact.sum(axis, keepdims=True)).max() <= 0.5 / 255 + 1e-5
