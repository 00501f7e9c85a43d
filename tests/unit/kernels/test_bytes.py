"""Kernels of bytes that are no dense contraction give the interpreter's bits, at all edges and groups of channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.compiler.rescale.bounds import ROUNDED, reach
from edgec.targets.build_jobs import Job, build_job
from edgec.targets.kernels.bytes_tail import has_rounding
from edgec.targets.measure import with_layouts
from tests.support.harness import TARGETS, chain, check, for_size, target, tensor
from tests.support.integers import FULL, numbers

DOTS = {"x86-avx512": "depthwise_int8_quads", "x86": "depthwise_int8_pairs"}
SCALE = const(np.float32(0.02))
RELU = {"to": "u8", "zero": 5, "low": 5, "high": 250}


def same(p: Problem, row: str, folder: Path, most: int = 1, arrays: Any = None) -> None:
    """The row's first choices, in the layouts that they ask for, give the interpreter's bits."""
    whole = ROWS[row]
    assert (why := whole.accepts(p)) is True, why
    for choice in whole.choices(p)[:most]:
        laid = with_layouts(p, choice)

        def only(_: Problem, choice: Choice = choice) -> list[Choice]:
            return [choice]

        ROWS[row] = replace(whole, choices=only)
        try:
            check(laid, row, folder, arrays or numbers([v.type for v in p.body.inputs]))
        finally:
            ROWS[row] = whole


def depthwise(
    shape: tuple[int, int, int, int], kernel: int, where: str, *, kind: str = "u8", then: str = "", **attrs: Any
) -> Problem:
    channels = shape[1]

    def body(x: Value, w: Value, b: Value, m: Value, *more: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, group=channels, **attrs)
        if then == "add":
            return build("Edgec.Rescale", sums, more[0], m, const(np.float32(0.3)), zeros=(0, 9), **RELU)
        made = build("Edgec.Rescale", sums, m, zeros=(0,), **(RELU if attrs.get("zero") else FULL))
        for k in range(3 if then == "chain" else 0):
            scales = const(np.float32(0.6)), const(np.float32(0.4))
            made = build("Edgec.Rescale", made, more[0], *scales, zeros=(5, k), **FULL)
        return build("Edgec.Table", made, more[0]) if then == "table" else made

    kinds = [
        f"{kind}{list(shape)}",
        f"i8[{channels}, 1, {kernel}, {kernel}]",
        f"i32[{channels}]",
        f"f32[{channels},1,1]",
    ]
    bytes_ = f"i8{list(shape)}"
    extra = {"add": [bytes_], "chain": [bytes_], "table": ["u8[256]"]}.get(then, [])
    return chain(kinds + extra, body, [], where)


@pytest.mark.parametrize("small", [False, True], ids=["speed", "size"])
@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize(
    ("shape", "kernel", "attrs"),
    [
        ((1, 112, 7, 9), 3, {"pads": (1, 1, 1, 1), "zero": 200}),
        ((2, 20, 10, 9), 3, {"pads": (0, 1, 1, 0), "strides": (2, 2)}),
        ((1, 33, 6, 5), 5, {"pads": (2, 2, 2, 2), "zero": 7}),
        ((1, 48, 9, 8), 4, {"strides": (1, 3), "zero": 255}),
        ((1, 16, 3, 3), 1, {}),
        ((1, 52, 6, 7), 2, {"pads": (1, 0, 0, 1), "zero": 3}),
        ((1, 100, 9, 9), 7, {"pads": (3, 3, 3, 3), "zero": 131}),
        ((1, 20, 5, 6), 7, {"pads": (3, 3, 3, 3)}),
        ((2, 36, 3, 7), 7, {"pads": (6, 3, 4, 3), "zero": 9}),
        ((1, 24, 12, 11), 6, {"pads": (0, 2, 3, 1), "strides": (3, 2), "dilations": (2, 1), "zero": 77}),
        ((1, 16, 1, 9), 5, {"pads": (9, 2, 9, 2), "zero": 77}),
    ],
    ids=str,
)
def test_depthwise_by_dots(
    shape: tuple[int, int, int, int], kernel: int, attrs: dict[str, Any], where: str, small: bool, tmp_path: Path
) -> None:
    p = depthwise(shape, kernel, where, **attrs)
    same(for_size(p) if small else p, DOTS[where], tmp_path, most=3 if kernel == 3 else 1)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_filters_of_short_rows_have_no_zeros_in_memory(kernel: int) -> None:
    p = depthwise((1, 112, 7, 9), kernel, "x86-avx512")
    choice = ROWS[DOTS["x86-avx512"]].choices(p)[0]
    filters = p.body.inputs[1].type
    assert storage_bytes(replace(filters, layout=choice.layouts_in[1] or "")) == filters.size


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("then", ["add", "table", "chain"])
def test_what_follows_depthwise(then: str, where: str, tmp_path: Path) -> None:
    p = depthwise((1, 112, 5, 6), 3, where, then=then, pads=(1, 1, 1, 1), zero=3)
    same(p, DOTS[where], tmp_path)
    same(for_size(replace(p, threads=4)), DOTS[where], tmp_path)


def test_a_long_chain_after_depthwise_is_not_written_out_at_edges() -> None:
    def code(then: str) -> int:
        p = depthwise((1, 64, 12, 12), 3, "x86-avx512", then=then, pads=(1, 1, 1, 1))
        choice = ROWS["depthwise_int8_quads"].choices(p)[0]
        assert (choice.get("rt"), choice.get("mt")) == (2, 2)
        return len(build_job(Job("edgec_k0", with_layouts(p, choice), choice), p.target).code)

    assert code("chain") < 2.6 * code("")  # 3.3 times with four copies of the chain in each of nine tiles


@pytest.mark.parametrize("share", [0.99, 1.01])
@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("then", ["", "table"])
def test_packing_sets_the_limits_of_depthwise_sums(then: str, where: str, share: float, tmp_path: Path) -> None:
    p = depthwise((1, 112, 5, 6), 3, where, then=then, pads=(1, 1, 1, 1))
    arrays = numbers([v.type for v in p.body.inputs])
    arrays[3] *= share * 2**ROUNDED / reach(p.body, [const(a) for a in arrays]).rescaled
    known = replace(p, reach=reach(p.body, [const(a) for a in arrays]))
    assert {has_rounding(c) for c in ROWS[DOTS[where]].choices(known)} == {share < 1}
    same(known, DOTS[where], tmp_path, arrays=arrays)


def test_depthwise_for_size_reads_nothing_outside(tmp_path: Path) -> None:
    """A window that lies outside with whole rows and columns, at every edge."""
    p = for_size(depthwise((2, 80, 6, 4), 5, "x86-avx512", pads=(4, 4, 4, 4), zero=77))
    assert {choice.get("rt") for choice in ROWS["depthwise_int8_quads"].choices(p)} == {1}
    same(p, "depthwise_int8_quads", tmp_path, most=3)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize(("channels", "images"), [(36, 2), (112, 1)])
def test_any_code_follows_depthwise(channels: int, images: int, where: str, tmp_path: Path) -> None:
    def body(x: Value, w: Value, b: Value, m: Value, r: Value, y: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, pads=(1, 1, 1, 1), group=channels, zero=109)
        real = build("Mul", build("Cast", sums, to="f32"), m)
        made = build("QuantizeLinear", build("Mul", real, build("Relu", real)), SCALE, const(np.uint8(9)))
        return build("Edgec.Rescale", made, y, r, const(np.float32(0.5)), zeros=(9, 3), **FULL)

    shape = f"u8[{images}, {channels}, 6, 9]"
    filters = [f"i8[{channels}, 1, 3, 3]", f"i32[{channels}]"]
    p = chain([shape, *filters, f"f32[{channels}, 1, 1]", f"f32[1, {channels}, 1, 1]", shape], body, [], where)
    arrays = numbers([v.type for v in p.body.inputs])
    arrays[3] /= 100  # some results lie between the limits
    arrays[4] *= 200
    same(p, DOTS[where], tmp_path, arrays=arrays)


def test_large_planes_go_row_by_row(tmp_path: Path) -> None:
    p = depthwise((1, 80, 9, 9), 3, "x86-avx512", pads=(1, 1, 1, 1), zero=3)
    small = replace(p, target=replace(p.target, cpu=replace(p.target.cpu, l2=4096)), threads=2)
    assert ROWS[DOTS["x86-avx512"]].choices(small)[0].get("ro") == 1
    same(small, DOTS["x86-avx512"], tmp_path)


@pytest.mark.parametrize("row", ["conv_int8_amx", "conv_int8_pointwise"])
def test_what_leaves_bytes_on_its_way_costs_more(row: str) -> None:
    def cost(real: bool) -> float:
        def body(x: Value, w: Value, b: Value, m: Value, slope: Value) -> Value:
            made = build("Edgec.Rescale", build("Edgec.ConvInteger", x, w, b), m, zeros=(0,), **FULL)
            if not real:
                return build("Edgec.Rescale", made, SCALE, zeros=(0,), **FULL)
            number = build("DequantizeLinear", made, SCALE, const(np.uint8(9)))
            return build("QuantizeLinear", build("PRelu", number, slope), SCALE, const(np.uint8(9)))

        kinds = ["u8[1, 16, 96, 96]", "i8[16, 16, 1, 1]", "i32[16]", "f32[16, 1, 1]", "f32[16, 1, 1]"]
        return ROWS[row].choices(chain(kinds, body, [], "x86-amx"))[0].cost_us

    assert cost(real=True) > 2 * cost(real=False)


@pytest.mark.parametrize("where", TARGETS)
def test_large_windows_keep_code_small(where: str, tmp_path: Path) -> None:
    p = depthwise((1, 112, 16, 16), 7, where, pads=(3, 3, 3, 3), zero=99)
    (best, *_) = ROWS[DOTS[where]].choices(p)
    assert len(build_job(Job("edgec_k0", with_layouts(p, best), best), p.target).code) < 40_000
    small = replace(p, target=replace(p.target, cpu=replace(p.target.cpu, l2=4096)), threads=2)
    assert ROWS[DOTS[where]].choices(small)[0].get("ro") == 1
    same(small, DOTS[where], tmp_path)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_depthwise_in_floats(kind: str, where: str, tmp_path: Path) -> None:
    attrs: dict[str, Any] = {"pads": (2, 1, 2, 3), "dilations": (2, 1), "strides": (1, 2), "zero": 9}
    same(depthwise((2, 20, 9, 11), 3, where, kind=kind, **attrs), "depthwise_int8_floats", tmp_path)
    same(depthwise((1, 24, 9, 9), 5, where, kind=kind, pads=(2, 2, 2, 2)), "depthwise_int8_floats", tmp_path)


def pooled(op: str, kind: str, where: str, **attrs: Any) -> Problem:
    def body(x: Value) -> Value:
        y = build(op, x, **attrs)
        scale = const(np.float32(0.11))
        return (
            y if op == "MaxPool" else build("Edgec.Rescale", y, scale, zeros=(0,), to="i8", zero=3, low=-99, high=127)
        )

    return chain([f"{kind}[2, 52, 9, 10]"], body, [], where)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_pooling(kind: str, where: str, tmp_path: Path) -> None:
    window = {"kernel_shape": (3, 2), "strides": (2, 2), "pads": (1, 1, 0, 1)}
    same(pooled("MaxPool", kind, where, **window), "pool_int8_pixels", tmp_path)
    same(pooled("Edgec.SumPool", kind, where, zero=9, **window), "pool_int8_pixels", tmp_path)
    same(pooled("Edgec.Sum", kind, where, axes=(2, 3), zero=9), "sum_int8_spatial", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_averages_that_do_not_count_padding(kind: str, where: str, tmp_path: Path) -> None:
    """A window at the edge has a divisor of its own; the pixel itself may be subtracted from its average."""

    def body(x: Value, each: Value) -> Value:
        y = build("Edgec.SumPool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1), zero=9)
        y = build("Edgec.Rescale", y, each, zeros=(0,), to="i8", zero=3, low=-128, high=127)
        m = [const(np.float32(f)) for f in (0.7, -0.3)]
        return build("Edgec.Rescale", y, x, *m, zeros=(3, 9), to="u8", zero=99, low=0, high=255)

    p = chain([f"{kind}[2, 52, 9, 10]", "f32[1, 9, 10]"], body, [], where)
    each = 1 / np.add.outer(np.arange(9), np.arange(10) + 4).astype(np.float32)[None]
    byte = np.uint8 if kind == "u8" else np.int8
    x = np.random.default_rng(4).integers(np.iinfo(byte).min, np.iinfo(byte).max, (2, 52, 9, 10), byte)
    same(p, "pool_int8_pixels", tmp_path, arrays=[x, each])


LARGE: dict[str, dict[str, Any]] = {
    "padded": {"kernel_shape": (9, 13), "pads": (4, 6, 4, 6)},
    "strides and gaps": {"kernel_shape": (9, 7), "pads": (8, 6, 8, 6), "strides": (3, 2), "dilations": (2, 2)},
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("window", LARGE)
@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_large_windows_are_loops(kind: str, window: str, threads: int, tmp_path: Path) -> None:
    """Each task keeps the maxima of the rows that its own outputs read."""
    p = chain([f"{kind}[2, 52, 40, 20]"], lambda x: build("MaxPool", x, **LARGE[window]))
    p = replace(p, threads=threads)
    (choice,) = ROWS["pool_int8_pixels"].choices(p)
    assert choice.scratch_bytes and (choice.get("hb") > 1) == (threads > 1)
    same(p, "pool_int8_pixels", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
def test_sums_over_sequences(where: str, tmp_path: Path) -> None:
    def body(x: Value) -> Value:
        sums = build("Edgec.Sum", x, axes=(2,), zero=7)
        return build("Edgec.Rescale", sums, const(np.float32(0.02)), zeros=(0,), to="u8", zero=9, low=0, high=255)

    same(chain(["u8[2, 52, 300]"], body, [], where), "sum_int8_spatial", tmp_path)


def test_sums_of_more_bytes_than_16_bits_hold(tmp_path: Path) -> None:
    def body(x: Value) -> Value:
        sums = build("Edgec.Sum", x, axes=(2, 3), zero=0)
        return build("Edgec.Rescale", sums, const(np.float32(1 / 520)), zeros=(0,), to="u8", zero=0, low=0, high=255)

    p = chain(["u8[1, 16, 20, 26]"], body)
    same(p, "sum_int8_spatial", tmp_path, arrays=[np.full((1, 16, 20, 26), 255, np.uint8)])


@pytest.mark.parametrize("where", TARGETS)
def test_tables(where: str, tmp_path: Path) -> None:
    for kinds in (["u8[1, 20, 9, 7]", "i8[256]"], ["i8[3, 117]", "u8[256]"], ["i8[5]", "u8[256]"]):
        same(chain(kinds, lambda x, table: build("Edgec.Table", x, table), [], where), "table_int8", tmp_path, most=2)


def moved(x: str, to: str, where: str) -> Problem:
    inner = tensor(x)
    t = replace(inner.type, layout=to)
    node = Node("Edgec.Layout", (inner,), (t,), {"to": to}, "to")
    return Problem(Graph("body", (inner,), (Value(node),)), target(where))


@pytest.mark.parametrize("where", TARGETS)
def test_images_become_bytes(where: str, tmp_path: Path) -> None:
    for kind, zero in (("u8", np.uint8(114)), ("i8", np.int8(-5))):
        p = chain(
            ["f32[2, 3, 9, 7]"],
            lambda x, z=zero: build("QuantizeLinear", x, const(np.float32(0.02)), const(z)),
            [],
            where,
        )
        x = (np.random.default_rng(0).standard_normal((2, 3, 9, 7)) * 3).astype(np.float32)
        x.flat[:5] = [np.nan, np.inf, -np.inf, 1e30, -1e-40]
        same(p, "image_int8", tmp_path, arrays=[x])
        assert choices(p)[0].row == "image_int8", kind
    zero = const(np.uint8(114))
    for channels in (1, 3, 4):
        p = chain(
            [f"f32[2, 9, 7, {channels}]"],
            lambda x: build("QuantizeLinear", build("Transpose", x, perm=(0, 3, 1, 2)), SCALE, zero),
            [],
            where,
        )
        same(p, "image_int8", tmp_path)
    same(moved("u8[2, 3, 9, 5]", "NHWC4c", where), "image_int8", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
def test_bytes_are_turned_in_registers(where: str, tmp_path: Path) -> None:
    for x, to in (("u8[2, 32, 5, 7]", "NHWC16c"), ("u8[2, 52, 9, 7]@NHWC16c", ""), ("i8[1, 20, 9, 9]", "NHWC16c")):
        check(moved(x, to, where), "generic_map", tmp_path)
    scale, zero = const(np.float32(0.02)), const(np.uint8(114))
    read = chain(["u8[1, 36, 9, 9]@NHWC16c"], lambda x: build("DequantizeLinear", x, scale, zero), [], where)
    check(read, "generic_map", tmp_path, numbers([read.body.inputs[0].type]))
    check(
        chain(["f32[1, 20, 9, 9]"], lambda x: build("QuantizeLinear", x, scale, zero), ["NHWC16c"], where),
        "generic_map",
        tmp_path,
    )


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("how", ["join", "whole blocks", "cut", "shuffle", "parts"])
def test_channels(how: str, where: str, tmp_path: Path) -> None:
    order = tuple(int(i) for i in np.random.default_rng(0).permutation(116))
    shapes = {"join": (20, 70, 36), "whole blocks": (128, 64)}.get(how, (116,))

    def body(*x: Value) -> Any:
        if how == "cut":
            return build("Slice", x[0], axes=(1,), starts=(58,), ends=(116,), steps=(1,))
        if how == "shuffle":
            return build("Edgec.Select", x[0], index=order)
        if how == "parts":
            return build("Split", x[0], axis=1, split=(40, 76)).node.results
        return build("Concat", *x, axis=1)

    p = chain([f"u8[2, {n}, 3, 5]" for n in shapes], body, [], where)
    same(p, "channels_int8", tmp_path)
    assert choices(p)[0].row == "channels_int8"
