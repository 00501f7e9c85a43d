"""Rows of the GPU that fold rows of numbers, attend, transpose: under emulation they give the operators' meaning."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from cuda_rows_run import GPU, offers, problem, results, run, source, value

from edgec.compiler import interpret
from edgec.compiler import op as ops
from edgec.compiler.ir import Array, Graph, Value
from edgec.compiler.registry import Problem

CLOSE = {"f32": 2e-5, "f16": 2e-3}


def arrays_for(of: Problem, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    kinds = [np.float16 if v.type.dtype == "f16" else np.float32 for v in of.body.inputs]
    return [rng.standard_normal(v.shape).astype(k) for v, k in zip(of.body.inputs, kinds, strict=True)]


def agrees(of: Problem, row: str, arrays: list[Array] | None = None, most: int = 9, **options: Any) -> None:
    arrays = arrays or arrays_for(of)
    want = interpret.run(of.body, arrays)[0]
    for choice in offers(of, row)[:most]:
        got = run(of, choice, arrays, **options)
        close = CLOSE.get(of.anchor.args[0].type.dtype, 0.0)
        scale = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), close, close * scale, err_msg=str(choice)
        )


ROWS = [(128, 96), (3, 1000), (5, 7), (2, 3, 40), (1, 2049), (7, 1), (600, 33), (9, 20, 12)]


@pytest.mark.parametrize("shape", [s for s in ROWS if s[-1] > 1], ids=str)
@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(shape: tuple[int, ...], kind: str, op: str) -> None:
    x = value(kind, *shape)
    agrees(problem(ops.build(op, x, axis=-1), x), "softmax_lines__cuda")


@pytest.mark.parametrize("shape", [s for s in ROWS if s[-1] > 1], ids=str)
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_layer_normalization_and_what_follows(shape: tuple[int, ...], kind: str) -> None:
    x, scale, bias, more = value(kind, *shape), value(kind, shape[-1]), value(kind, 1), value(kind, *shape)
    y = ops.build("LayerNormalization", x, scale, bias)
    y = ops.build("Add", ops.build("Mul", ops.build("Relu", y), more), x)
    agrees(problem(y, x, scale, bias, more), "norm_lines__cuda")


def test_normalization_over_several_axes() -> None:
    x, w, b = value("f16", 3, 4, 5, 8), value("f16", 5, 1), value("f16", 4, 5, 8)
    agrees(problem(ops.build("LayerNormalization", x, w, b, axis=1), x, w, b), "norm_lines__cuda")
    x, w, b = value("f32", 3, 4, 5, 9), value("f32", 4), value("f32", 4)
    agrees(problem(ops.build("InstanceNormalization", x, w, b), x, w, b), "norm_lines__cuda")
    x = value("f32", 3, 4, 40)
    for p in (1, 2):
        agrees(problem(ops.build("LpNormalization", x, p=p), x), "norm_lines__cuda")


def test_rows_too_long_for_registers() -> None:
    for kind in ("f32", "f16"):
        x, w, b = value(kind, 2, 20001), value(kind, 20001), value(kind, 20001)
        agrees(problem(ops.build("LayerNormalization", x, w, b), x, w, b), "norm_lines__cuda")
        agrees(problem(ops.build("Softmax", x), x), "softmax_lines__cuda")
        x = value(kind, 1, 20480)
        agrees(problem(ops.build("Add", ops.build("Softmax", x), x), x), "softmax_lines__cuda")


def test_rows_do_not_race() -> None:
    x, w, b = value("f16", 5, 768), value("f16", 768), value("f16", 768)
    agrees(problem(ops.build("LayerNormalization", x, w, b), x, w, b), "norm_lines__cuda", check="race")


def test_softmax_of_infinities() -> None:
    x = value("f32", 3, 300)
    of = problem(ops.build("Softmax", x), x)
    array = arrays_for(of)[0]
    array[0, 5:], array[1, 7], array[2] = -np.inf, np.nan, -np.inf
    agrees(of, "softmax_lines__cuda", [array])


# -- reductions --------------------------------------------------------------------------------------------------------

FOLDS = ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ArgMax", "ArgMin"]


def reduced(op: str, x: Value, *axes: int, keepdims: int = 0, **attrs: int) -> Value:
    where: dict[str, Any] = {"axis": axes[0]} if op.startswith("Arg") else {"axes": axes}
    return ops.build(op, x, keepdims=keepdims, **where, **attrs)


@pytest.mark.parametrize("op", FOLDS)
def test_reductions_of_rows(op: str) -> None:
    for kind, shape in (("f32", (5, 49)), ("f16", (3, 2, 264)), ("f32", (1, 5000))):
        x = value(kind, *shape)
        agrees(problem(reduced(op, x, len(shape) - 1), x), "reduce_lines__cuda")


@pytest.mark.parametrize("op", [op for op in FOLDS if op != "ReduceLogSumExp"])
def test_reductions_of_columns(op: str) -> None:
    for kind, shape, axis in (("f32", (5, 49), 0), ("f16", (3, 20, 40), 1), ("f32", (2, 3, 5), 1)):
        x = value(kind, *shape)
        agrees(problem(reduced(op, x, axis, keepdims=1), x), "reduce_columns__cuda")


def test_what_stands_around_a_reduction() -> None:
    x, y, z = value("f16", 4, 6, 10), value("f16", 4, 6, 10), value("f16", 4, 6)
    total = reduced("ReduceSum", ops.build("Mul", x, y), 2)
    agrees(problem(ops.build("Relu", ops.build("Add", total, z)), x, y, z), "reduce_lines__cuda")
    turned = ops.build("Transpose", ops.build("Add", x, y), perm=(0, 2, 1))
    agrees(problem(ops.build("Sqrt", ops.build("Abs", reduced("ReduceMax", turned, 2))), x, y), "reduce_lines__cuda")
    z = value("f16", 4, 1, 10)
    total = reduced("ReduceSum", ops.build("Mul", x, y), 1, keepdims=1)
    agrees(problem(ops.build("Add", total, z), x, y, z), "reduce_columns__cuda")


def test_pooling_of_whole_images_in_both_layouts() -> None:
    for kind in ("f32", "f16"):
        x = value(kind, 2, 24, 5, 7)
        of = problem(reduced("ReduceMean", x, 2, 3, keepdims=1), x)
        assert {c.layouts_in for c in offers(of, "reduce_columns__cuda")} == {("NHWC",)}
        agrees(of, "reduce_columns__cuda")
        agrees(of, "reduce_lines__cuda")


def test_pooling_of_a_product_with_channels_side_by_side() -> None:
    """What is summed lies nowhere: its factors do, and say how many blocks count each other."""
    x, y = value("f16", 1, 16, 72, 128), value("f16", 1, 16, 72, 128)
    of = problem(reduced("ReduceMean", ops.build("Mul", x, y), 2, 3, keepdims=1), x, y)
    found = offers(of, "reduce_columns__cuda")
    assert {c.layouts_in for c in found} == {("NHWC", "NHWC")} and all(c.get("splits") > 1 for c in found)
    for choice in found:
        launch = source(of, choice)[1]
        assert launch.grid[0] * launch.grid[1] == choice.get("zeros")
    agrees(of, "reduce_columns__cuda", times=2)


def test_sums_of_bytes() -> None:
    x = value("i8", 2, 32, 5, 7)
    of = problem(ops.build("Edgec.Sum", x, axes=(2, 3), keepdims=0, zero=3), x)
    arrays = [np.random.default_rng(0).integers(-128, 128, (2, 32, 5, 7)).astype(np.int8)]
    for row in ("reduce_lines__cuda", "reduce_columns__cuda"):
        agrees(of, row, arrays)


def test_columns_that_blocks_share() -> None:
    for op, kind in (("ReduceMean", "f32"), ("ArgMax", "f16"), ("ReduceMax", "f16")):
        x = value(kind, 1, 5000, 12)
        of = problem(reduced(op, x, 1), x)
        assert all(c.get("splits") > 1 for c in offers(of, "reduce_columns__cuda"))
        agrees(of, "reduce_columns__cuda", times=2)
        agrees(of, "reduce_columns__cuda", check="race")


# -- numbers that move -------------------------------------------------------------------------------------------------

TURNS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((70, 40), (1, 0)),
    ((2, 33, 65), (0, 2, 1)),
    ((1, 24, 5, 8), (0, 2, 3, 1)),
    ((2, 9, 4, 16), (0, 2, 1, 3)),
    ((9, 64, 64), (2, 1, 0)),
]


def numbers_for(of: Problem) -> list[Array]:
    rng = np.random.default_rng(1)
    from edgec.compiler.dtypes import dtype

    return [(rng.standard_normal(v.shape) * 50).astype(dtype(v.type.dtype).numpy) for v in of.body.inputs]


@pytest.mark.parametrize("kind", ["f32", "f16", "i8", "bool"])
def test_transposes(kind: str) -> None:
    for shape, perm in TURNS:
        x = value(kind, *shape)
        of = problem(ops.build("Transpose", x, perm=perm), x)
        agrees(of, "turn__cuda", numbers_for(of))


def test_layouts_and_what_stands_around_a_transpose() -> None:
    x = value("f16", 2, 24, 9, 8)
    of = problem(ops.build("Transpose", x, perm=(0, 1, 3, 2)), x)
    assert {(c.layouts_in[0], c.layouts_out[0]) for c in offers(of, "turn__cuda")} >= {("", "NHWC"), ("NHWC", "")}
    agrees(of, "turn__cuda")
    x, y, z = value("f16", 40, 24), value("f16", 24, 40), value("f16", 40)
    turned = ops.build("Transpose", ops.build("Relu", x), perm=(1, 0))
    agrees(problem(ops.build("Mul", ops.build("Add", turned, y), z), x, y, z), "turn__cuda")


def test_slices_and_repeats_in_stretches() -> None:
    x = value("f16", 4, 6, 48)
    sliced = ops.build("Slice", x, starts=(8, 1), axes=(2, 1), steps=(1, 2), ends=(40, 6))
    agrees(problem(sliced, x), "turn__cuda")
    x = value("f32", 4, 1, 20)
    agrees(problem(ops.build("Expand", x, shape=(4, 3, 20)), x), "turn__cuda")


def test_numbers_that_move_do_not_race() -> None:
    x = value("f16", 70, 72)
    agrees(problem(ops.build("Transpose", x, perm=(1, 0)), x), "turn__cuda", check="race")


# -- runs of neighbours ------------------------------------------------------------------------------------------------


def resized(x: Value, mode: str, height: int, width: int) -> Value:
    n, c, h, w = x.shape
    scales = (1.0, 1.0, height / h, width / w)
    return ops.build("Resize", x, sizes=(n, c, height, width), scales=scales, mode=mode)


@pytest.mark.parametrize("kind", ["f32", "f16", "i8"])
def test_joining_along_neighbours_and_across(kind: str) -> None:
    x, y, z = value(kind, 2, 16, 3, 5), value(kind, 2, 32, 3, 5), value(kind, 2, 8, 3, 5)
    of = problem(ops.build("Concat", x, y, z, axis=1), x, y, z)
    assert ("NHWC", "NHWC", "NHWC") in {c.layouts_in for c in offers(of, "map_runs__cuda")}
    agrees(of, "map_runs__cuda", numbers_for(of))
    x, y = value(kind, 3, 2, 16), value(kind, 3, 5, 16)
    of = problem(
        ops.build("Relu", ops.build("Concat", x, y, axis=1)) if kind != "i8" else ops.build("Concat", x, y, axis=1),
        x,
        y,
    )
    agrees(of, "map_runs__cuda", numbers_for(of))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_with_channels_side_by_side(mode: str) -> None:
    for kind in ("f32", "f16"):
        x, y = value(kind, 1, 16, 5, 6), value(kind, 1, 16, 9, 13)
        of = problem(ops.build("Add", resized(x, mode, 9, 13), y), x, y)
        assert {c.layouts_in for c in offers(of, "map_runs__cuda")} == {("NHWC", "NHWC")}
        agrees(of, "map_runs__cuda")


def test_padding_gathering_and_repeating() -> None:
    for mode in ("constant", "reflect"):
        x = value("f16", 2, 8, 4, 5)
        padded = ops.build("Pad", x, pads=(0, 0, 1, 2, 0, 0, 0, 1), mode=mode)
        agrees(problem(padded, x), "map_runs__cuda")
    table, at, more = value("f16", 30, 24), value("i64", 2, 7), value("f16", 7, 24)
    of = problem(ops.build("Add", ops.build("Gather", table, at), more), table, at, more)
    arrays = arrays_for(of)
    arrays[1] = np.random.default_rng(2).integers(-30, 30, (2, 7))
    agrees(of, "map_runs__cuda", arrays)
    x, scale = value("f16", 4, 6, 16), value("f16", 1, 16)
    cut = ops.build("Slice", x, starts=(8, 1), axes=(2, 1), steps=(1, 1), ends=(16, 5))
    agrees(problem(ops.build("Tile", cut, repeats=(2, 1, 1)), x), "map_runs__cuda")
    agrees(problem(ops.build("Mul", ops.build("Expand", scale, shape=(4, 6, 16)), x), scale, x), "map_runs__cuda")


# -- recurrence --------------------------------------------------------------------------------------------------------


def recurrence(
    op: str, steps: int, batch: int, hidden: int, lengths: bool = False, weights: str = "f32", **attrs: Any
) -> Problem:
    d, gates = len(attrs.get("reverse", (0,))), {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    inputs = [value("f32", steps, batch, d * gates * hidden), value(weights, d, hidden, gates, hidden)]
    inputs.append(value("f32", d, batch, hidden))
    inputs += [value("f32", d, hidden)] if op == "GRU" else []
    inputs += [value("f32", d, batch, hidden)] if op == "LSTM" else []
    inputs += [value("f32", d, 3, hidden)] if attrs.get("peepholes") else []
    inputs += [value("i32", batch)] if lengths else []
    node = ops.build(f"Edgec.{op}", *inputs, **attrs).node
    return Problem(Graph("body", tuple(inputs), tuple(node.results)), GPU)


RECURRENCES: list[dict[str, Any]] = [
    {"op": "RNN", "steps": 3, "batch": 2, "hidden": 5},
    {"op": "LSTM", "steps": 1, "batch": 1, "hidden": 70},
    {"op": "LSTM", "steps": 4, "batch": 2, "hidden": 40, "peepholes": 1, "reverse": (0, 1)},
    {"op": "LSTM", "steps": 3, "batch": 3, "hidden": 33, "lengths": True, "input_forget": 1, "weights": "f16"},
    {"op": "GRU", "steps": 1, "batch": 1, "hidden": 64},
    {"op": "GRU", "steps": 5, "batch": 3, "hidden": 48, "lengths": True, "reverse": (1, 0)},
    {"op": "GRU", "steps": 3, "batch": 1, "hidden": 300, "linear_before_reset": 1, "sequence": 0},
]


@pytest.mark.parametrize("case", RECURRENCES, ids=lambda c: "-".join(map(str, c.values())))
def test_recurrence(case: dict[str, Any]) -> None:
    of = recurrence(**case)
    arrays = arrays_for(of)
    arrays[1] = (arrays[1] / np.sqrt(case["hidden"])).astype(arrays[1].dtype)
    if case.get("lengths"):
        arrays[-1] = np.resize(np.asarray([2, 0, 99], np.int32), arrays[-1].shape)
    (choice,) = offers(of, "recurrent_block__cuda")
    for got, want in zip(results(of, choice, arrays), interpret.run(of.body, arrays), strict=True):
        np.testing.assert_allclose(got, want, 1e-5, 1e-5)


def test_recurrence_does_not_race() -> None:
    of = recurrence("GRU", 3, 1, 40)
    (choice,) = offers(of, "recurrent_block__cuda")
    results(of, choice, arrays_for(of), check="race")


# -- attention ---------------------------------------------------------------------------------------------------------


def dense(*dims: int) -> tuple[int, ...]:
    return tuple(prod(dims[k + 1 :]) for k in range(len(dims)))


def attention(
    kind: str,
    s: int,
    t: int,
    d: int,
    e: int,
    heads: int = 2,
    batch: int = 1,
    groups: int = 0,
    mask: tuple[int, ...] = (),
    joint: bool = False,
    keys_last: bool = False,
    **attrs: Any,
) -> Problem:
    """`joint`: Q, K and V side by side in one value; `groups` heads of K and V; `mask` broadcasts to [b, h, s, t]."""
    kv = groups or heads
    rep = heads // kv
    if joint:
        row = 3 * heads * d
        inputs = [value(kind, batch, s, row)]
        args = inputs * 3
        attrs |= {n: (k * heads * d, s * row, rep * d, d, row, 1) for k, n in enumerate("qkv")}
    else:
        inputs = [value(kind, batch, s, heads, d)]
        inputs.append(value(kind, batch, kv, d, t) if keys_last else value(kind, batch, t, kv, d))
        inputs.append(value(kind, batch, t, kv, e))
        args = list(inputs)
        attrs["q"] = (0, s * heads * d, rep * d, d, heads * d, 1)
        attrs["k"] = (0, kv * d * t, d * t, 0, 1, t) if keys_last else (0, t * kv * d, d, 0, kv * d, 1)
        attrs["v"] = (0, t * kv * e, e, 0, kv * e, 1)
    if mask:
        inputs.append(value("f32", *mask))
        args.append(inputs[-1])
        mb, mh, ms, mt = (m > 1 and step for m, step in zip(mask, dense(*mask), strict=True))
        attrs["mask"] = (0, mb, rep * mh, mh, ms, mt)
    out = (s * heads * e, rep * e, e, heads * e, 1)
    attrs = {"scale": 0.4, "batch": (batch, kv, rep), "shape": (batch, s, heads * e), "out": out} | attrs
    return problem(ops.build("Edgec.Attention", *args, sizes=(s, t, d, e), **attrs), *inputs)


def with_keys(of: Problem, masked: bool = True) -> list[Array]:
    """Numbers for an attention; some keys are masked, never all of a query."""
    arrays = arrays_for(of)
    if len(of.anchor.args) == 4:
        arrays[-1] = np.where(arrays[-1] > 0.8, np.float32(-np.inf), arrays[-1])
        arrays[-1][..., 0] = 0.5
    return arrays


KINDS = {"f16": "attention_f16_mma__cuda", "f32": "attention_f32_simt__cuda"}
ATTENTIONS: list[dict[str, Any]] = [
    {"s": 33, "t": 33, "d": 64, "e": 64, "joint": True},
    {"s": 16, "t": 128, "d": 32, "e": 32, "mask": (1, 1, 1, 128)},
    {"s": 5, "t": 7, "d": 3, "e": 9, "mask": (1, 2, 5, 7)},
    {"s": 37, "t": 37, "d": 20, "e": 20, "batch": 2, "joint": True, "mask": (2, 1, 37, 37)},
    {"s": 1, "t": 133, "d": 8, "e": 24, "heads": 4, "groups": 2},
    {"s": 9, "t": 1, "d": 1, "e": 1},
    {"s": 19, "t": 50, "d": 16, "e": 40, "batch": 2, "heads": 6, "groups": 3, "mask": (2, 1, 1, 50)},
    {"s": 33, "t": 21, "d": 24, "e": 16, "keys_last": True},
    {"s": 20, "t": 11, "d": 65, "e": 70, "heads": 1},
    {"s": 70, "t": 300, "d": 64, "e": 64, "heads": 1},
    {"s": 18, "t": 40, "d": 128, "e": 136, "heads": 1},
    {"s": 18, "t": 40, "d": 160, "e": 8, "heads": 1},
    {"s": 37, "t": 21, "d": 8, "e": 16, "cap": 1.5},
    {"s": 19, "t": 50, "d": 16, "e": 40, "mask": (1, 2, 19, 50), "cap": 0.7, "zero_masked": 1},
]


@pytest.mark.parametrize("case", ATTENTIONS, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("kind", KINDS)
def test_attention(kind: str, case: dict[str, Any]) -> None:
    of = attention(kind, **case)
    agrees(of, KINDS[kind], with_keys(of), most=2)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_in_all_tiles(kind: str) -> None:
    from edgec.targets.kernels.cuda.attention_rows import candidates

    of = attention(kind, 39, 150, 64, 64, heads=1, mask=(1, 1, 39, 150))
    arrays = with_keys(of)
    want = interpret.run(of.body, arrays)[0]
    choice = offers(of, KINDS[kind])[0]
    for t in candidates(of, kind == "f16")[::3]:
        config = (("wq", t.wq), ("wk", t.wk), ("rows", t.rows), ("nk", t.nk))
        got = run(of, replace(choice, config=config), arrays)
        np.testing.assert_allclose(got, want, CLOSE[kind], CLOSE[kind], err_msg=str(config))


@pytest.mark.parametrize("kind", KINDS)
def test_attention_does_not_race(kind: str) -> None:
    of = attention(kind, 20, 150, 16, 16, heads=1)
    for choice in offers(of, KINDS[kind])[:2]:
        run(of, choice, with_keys(of), check="race")


@pytest.mark.parametrize("kind", KINDS)
def test_queries_without_a_key(kind: str) -> None:
    """They give NaN, or zeros where that is asked for."""
    for zero_masked in (0, 1):
        of = attention(kind, 21, 40, 8, 8, mask=(1, 1, 21, 40), zero_masked=zero_masked)
        arrays = with_keys(of)
        arrays[3][..., 4, :] = -np.inf
        arrays[0][0, 6] = np.nan
        agrees(of, KINDS[kind], arrays, most=2)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_most_negative_number(kind: str) -> None:
    """Finite, though all keys have it: they weigh the same."""
    of = attention(kind, 5, 20, 16, 16, mask=(1, 1, 1, 20))
    arrays = with_keys(of)
    arrays[3][...] = -3.4028235e38
    agrees(of, KINDS[kind], arrays, most=2)
