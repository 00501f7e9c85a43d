"""Convolutions along rows: vectors of pixels for any number of channels, with ends of rows that are partly outside."""

from __future__ import annotations

import subprocess
import tempfile

import numpy as np
import pytest

from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.compiler.session import Session
from tests.support.convolutions import Case, check
from tests.support.harness import target

ROW = "conv_f32_along"
ROWS_FIRST = (("rf", 1),)

CASES = [
    Case((1, 5, 9, 40), 7, (3, 3), pads=(1, 1, 1, 1), then="Relu"),
    Case((2, 3, 6, 17), 1, (5, 5), pads=(2, 2, 2, 2), then="Add"),
    Case((1, 33, 5, 28), 17, (2, 2), pads=(0, 0, 1, 1), then="Mul"),
    Case((1, 4, 3, 150), 3, (1, 7), pads=(0, 6, 0, 0), then="Clip"),
    Case((1, 6, 20, 16), 9, (3, 3), pads=(4, 4, 4, 4), dilations=(4, 4)),
    Case((1, 2, 4, 33), 5, (3, 3), pads=(2, 20, 2, 20), dilations=(2, 20)),
    Case((1, 3, 8, 70), 2, (4, 15), then="+"),
    Case((1, 9, 1, 16), 4, (3, 1), pads=(1, 0, 1, 0)),
    Case((2, 21, 13, 13), 21, (1, 1), then="+Add"),
    Case((1, 65, 4, 4), 66, (1, 1), then="Relu"),
    Case((1, 7, 200), 33, (3,), pads=(4, 4), dilations=(4,), then="Add"),
    Case((3, 2, 19), 5, (4,), pads=(3, 0)),
    Case((1, 1, 20, 66), 16, (7, 7), (2, 2), pads=(3, 3, 3, 3), then="Relu"),
    Case((2, 3, 9, 71), 5, (3, 3), (3, 2), pads=(1, 1, 1, 1), then="Add"),
    Case((1, 4, 7, 65), 9, (2, 5), (1, 2), pads=(0, 6, 1, 9), dilations=(1, 2)),
    Case((2, 5, 90), 7, (4,), (2,), pads=(0, 3), then="Mul"),
    Case((1, 3, 12, 32), 4, (1, 1), (2, 2)),
]


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_of_pixels_give_the_meaning(case: Case, on: str) -> None:
    problem = case.problem(target(on), threads=2)
    check(problem, list(ROWS[ROW].choices(problem)), parts=3)


def test_every_tile_gives_the_meaning() -> None:
    """Also those that the model does not offer."""
    problem = Case((1, 3, 5, 90), 11, (3, 3), pads=(1, 1, 1, 1), then="Relu").problem(target("x86-avx512"))
    given = ROWS[ROW].choices(problem)[0]
    for channels, vectors, order in ((1, 1, ()), (1, 4, ROWS_FIRST), (4, 2, ROWS_FIRST), (11, 1, ()), (7, 3, ())):
        layouts = tuple(f"OIHW{channels}o" if text.startswith("OIHW") else text for text in given.layouts_in)
        check(problem, [Choice(ROW, layouts, given.layouts_out, (("mt", channels), ("nv", vectors), *order))])


@pytest.mark.parametrize(
    ("x", "outputs", "rows_first"),
    [((1, 128, 68, 120), 128, True), ((1, 128, 8, 120), 128, False), ((1, 128, 68, 120), 12, False)],
)
def test_rows_get_all_channels_where_the_input_leaves_the_l2_cache(
    x: tuple[int, ...], outputs: int, rows_first: bool
) -> None:
    """Not where it stays there, or is read once."""
    problem = Case(x, outputs, (1, 7), pads=(0, 3, 0, 3)).problem(target("x86-avx512"))
    best = min(ROWS[ROW].choices(problem), key=lambda c: c.cost_us)
    assert (ROWS_FIRST[0] in best.config) is rows_first


def test_the_next_channel_is_asked_for_where_it_lies_on_another_page() -> None:
    from edgec.targets.measure import Built

    def asks(height: int) -> bool:
        problem = Case((1, 3, height, 64), 5, (3, 3), pads=(1, 1, 1, 1)).problem(target("x86"))
        arrays = [np.zeros(v.shape, np.float32) for v in problem.body.inputs]
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            file.write(Built(problem, ROWS[ROW].choices(problem)[0], arrays).object)
            file.flush()
            return "prefetch" in subprocess.run(["objdump", "-d", file.name], capture_output=True, text=True).stdout

    assert asks(16) and not asks(15)


def test_weights_in_half_precision_are_widened() -> None:
    from edgec.targets.measure import Measured

    x, w = (
        Value(Node("Input", (), (Type(kind, s),), {}, n))
        for kind, s, n in (("f32", (1, 3, 4, 40), "x"), ("f16", (5, 3, 3, 3), "w"))
    )
    bias = Value(Node("Input", (), (Type("f32", (5,)),), {}, "b"))
    y = ops.build("Conv", x, ops.build("Cast", w, to="f32"), bias, pads=(1, 1, 1, 1))
    problem = Problem(Graph("body", (x, w, bias), (y,)), target("x86"), 1, frozenset({1, 2}))
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(v.shape).astype(np.float16 if v is w else np.float32) for v in (x, w, bias)]
    got = Measured(problem, ROWS[ROW].choices(problem)[0], arrays).run(parts=1)
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("outputs", [3, 17, 33])
def test_channels_that_fill_no_vector_go_along_rows(outputs: int, on: str) -> None:
    problem = Case((1, 33, 28, 28), outputs, (5, 5), pads=(2, 2, 2, 2)).problem(target(on))
    assert min(choices(problem), key=lambda c: c.cost_us).row == ROW


def test_channels_that_fill_vectors_do_not() -> None:
    problem = Case((1, 64, 28, 28), 64, (3, 3), pads=(1, 1, 1, 1)).problem(target("x86-avx512"))
    assert min(choices(problem), key=lambda c: c.cost_us).row == "conv_f32_winograd"


def test_a_strided_window_over_one_channel_writes_rows_where_rows_are_read() -> None:
    on = target("x86-avx512")
    g = Case((1, 1, 256, 448), 16, (7, 7), (2, 2), pads=(3, 3, 3, 3)).problem(on).body
    weights = tuple(ops.const(np.ones(v.shape, np.float32), v.name) for v in g.inputs[1:])
    y = ops.build("Conv", g.inputs[0], *weights, strides=(2, 2), pads=(3, 3, 3, 3))

    def rows(result: Value) -> list[str]:
        made = run_pipeline(Graph("g", g.inputs[:1], (result,)), parse_pipeline("fuse, layout"), Session(target=on))
        return [str(n.attrs["row"]) for n in made.nodes() if n.op == "Edgec.Kernel"]

    assert rows(y) == [ROW]
    assert rows(ops.build("MaxPool", y, kernel_shape=(2, 2), strides=(2, 2)))[0] == "conv_f32_tile"


@pytest.mark.parametrize(
    ("case", "on", "why"),
    [
        (Case((1, 3, 9, 40), 7, (3, 3)), "rpi5", "needs wide vectors"),
        (Case((1, 3, 9, 60), 7, (3, 3), (1, 3)), "x86", "has groups, or long strides along rows"),
        (Case((1, 8, 9, 40), 8, (3, 3), group=2), "x86", "has groups, or long strides along rows"),
        (Case((1, 3, 9, 15), 7, (3, 3), (1, 2)), "x86", "rows are shorter than a vector"),
        (Case((1, 3, 9, 7), 7, (3, 3)), "x86", "rows are shorter than a vector"),
        (Case((1, 3, 9, 90), 7, (3, 31)), "x86", "has a large window"),
    ],
    ids=str,
)
def test_why_others_do_not(case: Case, on: str, why: str) -> None:
    assert ROWS[ROW].accepts(case.problem(target(on))) == why
