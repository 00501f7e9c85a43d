"""Convolutions and products of bytes give the operators' bits: odd shapes, paddings, zero points, epilogues."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.layout import pack, physical_shape, unpack
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.compiler.rescale.bounds import ROUNDED, reach
from edgec.targets.codegen_llvm import object_bytes
from edgec.targets.kernels.bytes_tail import has_rounding
from edgec.targets.kernels.int8.conv_rows import KEPT
from edgec.targets.measure import Measured, with_layouts
from tests.support.harness import TARGETS, Fenced, chain
from tests.support.integers import FULL, numbers

ROW = {"conv_int8_tile", "conv_int8_pointwise", "conv_int8_columns", "matmul_int8_packed", "matmul_int8_dynamic"}


@dataclass(frozen=True)
class Case:
    x: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    group: int = 1
    zero: int = 0
    then: str = ""  # Add: with a residual in one step; Twice: in two; Table, Tables; Sums: nothing

    def problem(self, where: str, threads: int = 1) -> Problem:
        rank, c = len(self.kernel), self.outputs
        kinds = [_text("u8", self.x), _text("i8", (c, self.x[1] // self.group, *self.kernel)), f"i32[{c}]"]
        attrs: Any = {"strides": self.strides, "pads": self.pads, "dilations": self.dilations}
        out = _shape(kinds, {**attrs, "group": self.group})
        each = _text("f32", (c, *(1,) * rank))
        kinds += [each]
        kinds += {"Add": [_text("u8", out), "f32[1]"], "Twice": [_text("u8", out), "f32[1]", each]}.get(self.then, [])
        kinds += {"Table": ["i8[256]"], "Tables": ["i8[256]", "u8[256]", _text("u8", out), each, "f32[1]"]}.get(
            self.then, []
        )

        def body(x: Value, w: Value, b: Value, m: Value, *rest: Value) -> Value:
            y = build("Edgec.ConvInteger", x, w, b, **attrs, group=self.group, zero=self.zero)
            if self.then == "Add":
                return build("Edgec.Rescale", y, rest[0], m, rest[1], zeros=(0, 9), **FULL)
            if self.then == "Sums":
                return y
            clipped = {"to": "u8", "zero": 7, "low": 7, "high": 200}
            done = build("Edgec.Rescale", y, m, zeros=(0,), **(FULL if self.then == "Table" else clipped))
            if self.then == "Twice":
                return build("Edgec.Rescale", done, *rest, zeros=(7, 128), to="i8", zero=-3, low=-128, high=127)
            if self.then == "Table":
                return build("Edgec.Table", done, rest[0])
            if self.then == "Tables":
                twice = build("Edgec.Table", build("Edgec.Table", done, rest[0]), rest[1])
                return build("Edgec.Rescale", twice, *rest[2:], zeros=(3, 9), to="i8", zero=1, low=-90, high=127)
            return done

        p = chain(kinds, body, [], where, threads)
        return replace(p, constants=frozenset({1, 2, 3}))


def _text(kind: str, shape: tuple[int, ...]) -> str:
    return f"{kind}[{', '.join(map(str, shape))}]"


def _shape(kinds: list[str], attrs: Any) -> tuple[int, ...]:
    p = chain(kinds, lambda x, w, b: build("Edgec.ConvInteger", x, w, b, **attrs))
    return p.body.outputs[0].shape


DENSE = [
    Case((1, 3, 23, 17), 8, (7, 7), (2, 2), (3, 3, 3, 3), zero=114),
    Case((1, 24, 9, 13), 40, (3, 3), pads=(1, 1, 1, 1), zero=128, then="Add"),
    Case((2, 40, 14, 30), 24, (3, 3), (2, 2), (0, 0, 1, 1), then="Twice"),
    Case((1, 1, 28, 28), 3, (5, 5), pads=(2, 2, 2, 2), zero=255),
    Case((1, 17, 11, 11), 33, (3, 3), dilations=(2, 2), pads=(2, 2, 2, 2), zero=1, then="Table"),
    Case((1, 112, 7, 7), 112, (3, 3), pads=(1, 1, 1, 1), zero=3, then="Add"),
    Case((1, 112, 7, 7), 112, (3, 3), pads=(1, 1, 1, 1)),
    Case((1, 6, 5, 40), 20, (3, 1), pads=(4, 0, 4, 0), zero=200),
    Case((1, 32, 3, 3), 16, (3, 3), then="Sums"),
    Case((1, 8, 6, 6), 48, (1, 1), (2, 2), zero=8),
    Case((1, 64, 10, 9), 64, (3, 3), pads=(1, 1, 1, 1), group=2, zero=5),
    Case((2, 40, 6, 7), 160, (1, 1), group=5, then="Add"),
    Case((1, 20, 50), 40, (9,), (2,), (4, 4), zero=77),
    Case((1, 6, 90), 9, (40,), (2,), (20, 19), zero=5),
    Case((1, 20, 6, 5), 8, (9, 7), pads=(4, 3, 4, 3), zero=12),
    Case((1, 3, 3, 21), 5, (17, 19), pads=(8, 9, 8, 9)),
    Case((1, 8, 3, 3), 8, (19, 23), pads=(12, 11, 12, 11), zero=3),
    Case((1, 5, 2, 2), 5, (3, 3), pads=(2, 2, 2, 2), zero=2),
    Case((1, 300, 9, 13), 40, (3, 3), (2, 2), (1, 1, 1, 1)),
    Case((1, 4, 30, 9), 4, (3, 3), pads=(2, 2, 2, 2), then="Add"),
    Case((1, 12, 1, 3), 20, (1, 1), (1, 2), (0, 1, 1, 1), zero=9),
]
ONE_CHANNEL = [
    Case((1, 1, 28, 28), 8, (5, 5), pads=(2, 2, 2, 2), zero=0),
    Case((1, 1, 49, 10), 64, (10, 4), (2, 2), (4, 1, 5, 1), zero=131),
    Case((2, 1, 9, 4), 20, (3, 7), pads=(1, 3, 1, 3), zero=7),
    Case((2, 1, 9, 50), 20, (3, 3), (2, 2), (0, 0, 1, 1), zero=7, then="Add"),
    Case((1, 1, 23, 31), 40, (3, 3), zero=7, then="Table"),
    Case((1, 1, 5, 9), 3, (3, 2), pads=(4, 5, 4, 5), zero=255, then="Sums"),
    Case((1, 1, 300), 33, (13,), (3,), (6, 6), zero=99),
    Case((1, 1, 402), 33, (130,), (10,), zero=99),
    Case((1, 1, 6, 40), 33, (4, 30), (1, 10), (2, 15, 2, 15), zero=99),
]
POINTWISE = [
    Case((1, 3, 13, 13), 1, (1, 1)),
    Case((2, 24, 7, 7), 144, (1, 1), then="Add", zero=99),
    Case((1, 112, 5, 31), 40, (1, 1), then="Twice"),
    Case((1, 40, 1, 1), 1001, (1, 1), zero=3),
    Case((1, 17, 1, 30), 16, (1, 1), then="Table"),
    Case((1, 17, 5, 7), 40, (1, 1), then="Tables"),
    Case((2, 512, 7, 7), 72, (1, 1)),
]


def fast(problem: Problem) -> list[Choice]:
    return [c for c in choices(problem) if c.row in ROW]


def check(problem: Problem, offers: list[Choice], parts: int = 2) -> None:
    arrays = numbers([v.type for v in problem.body.inputs])
    want = run(problem.body, arrays)[0]
    for choice in offers:
        got = Measured(problem, choice, arrays).run(parts=parts)
        np.testing.assert_array_equal(got, want, err_msg=f"{choice} {choice.layouts_in}")


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", DENSE + ONE_CHANNEL + POINTWISE, ids=str)
def test_the_first_choice_gives_the_bits(case: Case, where: str) -> None:
    check(case.problem(where), fast(case.problem(where))[:1], parts=3)


@pytest.mark.parametrize("where", TARGETS)
def test_every_tile_of_a_small_convolution_gives_the_bits(where: str) -> None:
    for zero in (0, 9):
        problem = Case((1, 20, 8, 9), 40, (3, 3), pads=(1, 1, 1, 1), zero=zero).problem(where)
        check(problem, fast(problem))


@dataclass(frozen=True)
class Product:
    a: tuple[int, ...]
    columns: int
    zero: int = 0
    one_bias: bool = False
    then: str = ""  # Add: with a residual; Float: real numbers

    def problem(self, where: str, threads: int = 1) -> Problem:
        n, rest = self.columns, []
        kinds = [_text("u8", self.a), f"i8[{self.a[-1]}, {n}]", f"i32[{1 if self.one_bias else n}]", f"f32[{n}]"]
        if self.then == "Add":
            rest = [_text("i8", (*self.a[:-1], n)), "f32[1]"]

        def body(a: Value, b: Value, bias: Value, m: Value, *rest: Value) -> Value:
            y = build("Edgec.MatMulInteger", a, b, bias, a_zero=self.zero)
            if self.then == "Add":
                return build("Edgec.Rescale", y, rest[0], m, rest[1], zeros=(0, -9), **FULL)
            if self.then == "Float":
                return build("Mul", build("Cast", y, to="f32"), m)
            return build("Edgec.Rescale", y, m, zeros=(0,), to="i8", zero=-4, low=-100, high=90)

        p = chain(kinds + rest, body, [], where, threads)
        return replace(p, constants=frozenset({1, 2, 3}))


@dataclass(frozen=True)
class Values:
    """A product of two tensors that are both computed."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    kind: str = "u8"
    zeros: tuple[int, int] = (120, 128)

    def problem(self, where: str, threads: int = 1) -> Problem:
        def body(a: Value, b: Value, bias: Value, m: Value) -> Value:
            y = build("Edgec.MatMulInteger", a, b, bias, a_zero=self.zeros[0], b_zero=self.zeros[1])
            return build("Edgec.Rescale", y, m, zeros=(0,), **FULL)

        size = self.b[-1] if self.zeros[0] else 1
        kinds = [_text("u8", self.a), _text(self.kind, self.b), f"i32[{size}]", "f32[1]"]
        return replace(chain(kinds, body, [], where, threads), constants=frozenset({2, 3}))


VALUES = [
    Values((1, 3, 40, 64), (1, 3, 64, 100)),
    Values((2, 1, 5, 7), (1, 3, 7, 33), zeros=(3, 0)),
    Values((3, 70), (70, 17), "i8", (9, -5)),
    Values((2, 4, 1, 130), (4, 130, 16), "i8", (0, 0)),
    Values((2, 9, 3), (3, 50), zeros=(255, 255)),
]
PRODUCTS = [
    Product((3, 70), 21, zero=128),
    Product((2, 5, 7), 33, then="Add"),
    Product((1, 300), 1001, zero=3),
    Product((7, 70), 8, zero=9),
    Product((4, 3), 5, zero=9, one_bias=True),
    Product((17, 1), 1, zero=255),
    Product((1, 2, 30, 64), 48, then="Float"),
    Product((19, 4096), 40, then="Add"),
]


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", PRODUCTS, ids=str)
def test_the_first_choice_of_a_product_gives_the_bits(case: Product, where: str) -> None:
    check(case.problem(where), fast(case.problem(where))[:1], parts=3)


@pytest.mark.parametrize(
    ("case", "most"),
    [
        (Case((1, 8, 9, 9), 8, (5, 5), zero=3), 8 * 8 * 25),
        (Case((1, 96, 9, 9), 24, (1, 1)), 24 * 96),
        (Case((1, 1, 49, 10), 64, (10, 4), zero=3), 64 * 40),
        (Case((1, 1, 28, 28), 8, (5, 5), pads=(2, 2, 2, 2)), 8 * 5 * 8),
        (Product((1, 256), 10), 10 * 256),
        (Product((1, 64), 2), 2 * 64),
        (Product((1, 64), 5), 8 * 64),
        (Product((1, 256), 1000), 1024 * 256),
    ],
    ids=str,
)
def test_weights_are_hardly_padded(case: Case | Product, most: int) -> None:
    problem = case.problem("x86-avx512")
    for choice in [c for c in fast(problem) if c.row != "matmul_int8_dynamic"][:KEPT]:
        weights, *others = (v.type for v in with_layouts(problem, choice).body.inputs[1:4])
        assert np.prod(physical_shape(weights)) <= most, weights
        if isinstance(case, Product):
            assert all(np.prod(physical_shape(t)) == t.size for t in others), others


@pytest.mark.parametrize("share", [0.99, 1.01])
@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", [DENSE[1], DENSE[4], POINTWISE[1], POINTWISE[5], PRODUCTS[0], PRODUCTS[1]], ids=str)
def test_packing_sets_the_limits_of_what_constants_say_rounds(case: Case | Product, where: str, share: float) -> None:
    problem = case.problem(where)
    arrays = numbers([v.type for v in problem.body.inputs])

    def known() -> Problem:
        return replace(problem, reach=reach(problem.body, [const(a) for a in arrays]))

    factor = np.float32(share * 2**ROUNDED / known().reach.rescaled)
    arrays = [a * factor if a.dtype == np.float32 else a for a in arrays]
    (choice,) = fast(known())[:1]
    assert has_rounding(choice) == (share < 1)
    got = Measured(problem, choice, arrays).run(parts=2)
    np.testing.assert_array_equal(got, run(problem.body, arrays)[0], err_msg=str(choice))


@pytest.mark.parametrize("where", TARGETS)
def test_nothing_is_said_of_numbers_that_are_not_known(where: str) -> None:
    assert not any(has_rounding(c) for c in fast(POINTWISE[1].problem(where)))


@pytest.mark.parametrize("case", VALUES, ids=str)
def test_a_product_of_values_gives_the_bits(case: Values) -> None:
    problem = case.problem("x86-avx512")
    check(problem, [c for c in fast(problem) if c.row == "matmul_int8_dynamic"][:1], parts=3)


@pytest.mark.parametrize("case", VALUES, ids=str)
def test_a_product_of_values_stays_inside(case: Values, tmp_path: Path) -> None:
    test_nothing_outside_counts_or_is_touched(case, "x86-avx512", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", ONE_CHANNEL, ids=str)
def test_one_channel_is_read_by_columns(case: Case, where: str) -> None:
    assert fast(case.problem(where))[0].row == "conv_int8_columns"


@pytest.mark.parametrize("where", TARGETS)
def test_an_input_that_is_added_again_lies_as_it_is_read(where: str) -> None:
    """Of one channel: a row of the image is no row of pixels with room for more channels."""

    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, pads=(0, 0, 1, 1), zero=3)
        return build("Edgec.Rescale", sums, x, m, m, zeros=(0, 3), **FULL)

    problem = chain(["u8[2, 1, 2, 10]", "i8[1, 1, 2, 2]", "i32[1]", "f32[1, 1, 1]"], body, [], where)
    assert ROWS["conv_int8_columns"].accepts(problem) == "what follows reads its input too, in whole vectors"
    check(problem, fast(problem), parts=2)


def test_rows_say_why_they_refuse() -> None:
    columns = ROWS["conv_int8_columns"]
    assert columns.accepts(DENSE[1].problem("x86")) == "needs one channel, and windows of neighbours in a row"
    assert columns.accepts(Case((1, 1, 9, 3), 8, (3, 3)).problem("x86-avx512")) == "needs rows of 4 pixels"
    wide = Case((1, 1, 4, 99), 8, (3, 80), pads=(0, 40, 0, 40)).problem("x86-avx512")
    assert columns.accepts(wide) == "the window is too wide to be written out for its edges"
    signed = chain(["i8[1, 16, 5, 5]", "i8[16, 16, 1, 1]", "i32[16]"], lambda *v: build("Edgec.ConvInteger", *v))
    assert ROWS["conv_int8_pointwise"].accepts(signed) == "multiplies u8 with i8"
    grouped = Case((1, 24, 9, 9), 24, (3, 3), group=3).problem("x86")
    assert ROWS["conv_int8_tile"].accepts(grouped) == "groups are no multiples of 4 inputs and 16 outputs"
    assert ROWS["conv_int8_tile"].accepts(POINTWISE[1].problem("x86")) == "conv_int8_pointwise does this"
    assert "whole images" in str(ROWS["conv_int8_pointwise"].accepts(DENSE[1].problem("x86")))
    assert ROWS["conv_int8_tile"].accepts(DENSE[1].problem("arm")) == "needs AVX512VNNI or AVX2"
    assert ROWS["matmul_int8_packed"].accepts(VALUES[1].problem("x86-avx512")) == "multiplies u8 with i8"
    assert ROWS["matmul_int8_packed"].accepts(VALUES[3].problem("x86")) == "the right operand is a stack of matrices"
    assert ROWS["matmul_int8_packed"].accepts(VALUES[2].problem("x86")) == "the right operand has a zero point"
    assert ROWS["matmul_int8_dynamic"].accepts(VALUES[0].problem("x86")) == "needs AVX512VNNI"


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", [*DENSE[:5:4], DENSE[13], *ONE_CHANNEL, *POINTWISE[:2], *PRODUCTS[:5]], ids=str)
def test_nothing_outside_counts_or_is_touched(case: Case | Product | Values, where: str, tmp_path: Path) -> None:
    problem = case.problem(where)
    choice = fast(problem)[0]
    laid = with_layouts(problem, choice)
    emitted = ROWS[choice.row].emit(laid, choice, "kern")
    (tmp_path / "k.o").write_bytes(object_bytes([("kern", emitted.function)], problem.target))
    subprocess.run(["cc", "-shared", "-o", "k.so", "k.o", "-lm"], cwd=tmp_path, check=True)
    kernel = ctypes.CDLL(str(tmp_path / "k.so")).kern
    out = laid.body.outputs[0].type
    for at_end in (False, True):
        arrays = numbers([v.type for v in problem.body.inputs])
        held = [pack(a, v.type.layout) for a, v in zip(arrays, laid.body.inputs, strict=True)]
        for i, v in enumerate(laid.body.inputs):
            if i not in problem.constants:  # padding of activations may hold anything
                held[i][pack(np.ones(v.shape, np.uint8), v.type.layout) == 0] = 0x5B
        held.append(np.full(physical_shape(out), 77, dtype(out.dtype).numpy))
        held += [np.full(choice.scratch_bytes, 0x5B, np.uint8)] if choice.scratch_bytes else []
        fenced = [Fenced(a, at_end) for a in held]
        kernel((ctypes.c_void_p * len(fenced))(*(f.pointer for f in fenced)), 0, emitted.tasks)
        assert all(f.whole for f in fenced)
        got = unpack(fenced[len(arrays)].view, out.layout, out.shape)
        np.testing.assert_array_equal(got, run(problem.body, arrays)[0])
