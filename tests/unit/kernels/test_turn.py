"""Maps whose argument is contiguous along one axis and whose result along another: every element arrives."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import read_target, target_files


def check(inputs: list[Value], y: Value, layouts: tuple[str, ...], out: str, on: str) -> None:
    from edgec.targets.measure import Measured

    problem = Problem(Graph("body", tuple(inputs), (y,)), read_target(target_files()[on].read_text(), on), 2)
    arrays = [np.random.default_rng(1).standard_normal(v.shape).astype(np.float32) for v in inputs]
    got = Measured(problem, Choice("generic_map", layouts, (out,)), arrays).run(parts=3)
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=1e-6)


def given(shape: tuple[int, ...], name: str = "x") -> Value:
    return Value(Node("Input", (), (Type("f32", shape),), {}, name))


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("shape", [(1, 32, 5, 7), (2, 35, 8, 8), (1, 3, 9, 9), (1, 37, 41)], ids=str)
@pytest.mark.parametrize("blocked", ["in", "out"])
def test_conversions_of_layouts(shape: tuple[int, ...], blocked: str, on: str) -> None:
    lanes = 8 if on == "x86" else 16
    layout = f"{'NCHW' if len(shape) == 4 else 'NCW'}{lanes}c"
    x, (before, after) = given(shape), (layout, "") if blocked == "in" else ("", layout)
    y = Value(Node("Edgec.Layout", (x,), (Type("f32", shape, after),), {"to": after}, "to"))
    check([x], y, (before,), after, on)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("kind", ["u8", "i8", "f16", "bf16", "i16", "i32", "i64", "f64", "bool"])
@pytest.mark.parametrize("shape", [(21, 50), (4, 33), (33, 5), (40, 18), (3, 70), (16, 16)], ids=str)
def test_elements_of_every_width(shape: tuple[int, int], kind: str, on: str) -> None:
    from edgec.targets.measure import Measured

    x = Value(Node("Input", (), (Type(kind, shape),), {}, "x"))
    body = Graph("body", (x,), (ops.build("Transpose", x, perm=(1, 0)),))
    values = np.random.default_rng(1).integers(0, 2 if kind == "bool" else 100, shape).astype(dtype(kind).numpy)
    problem = Problem(body, read_target(target_files()[on].read_text(), on), 2)
    got = Measured(problem, Choice("generic_map", ("",), ("",)), [values]).run(parts=3)
    np.testing.assert_array_equal(got, values.T)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize(
    ("shape", "perm"),
    [((1, 21, 50), (0, 2, 1)), ((17, 33), (1, 0)), ((1, 9, 10, 40), (0, 3, 1, 2)), ((4, 20, 3, 19), (3, 2, 1, 0))],
    ids=str,
)
def test_transposes(shape: tuple[int, ...], perm: tuple[int, ...], on: str) -> None:
    x = given(shape)
    check([x], ops.build("Transpose", x, perm=perm), ("",), "", on)


RESCALED = {"to": "u8", "zero": 5, "low": 0, "high": 255}
KINDS = {"f32": np.float32, "u8": np.uint8, "f16": np.float16, "i64": np.int64, "bool": np.bool_}


def few_channels(kind: str, shape: tuple[int, ...], perm: tuple[int, ...], on: str) -> Problem:
    x = Value(Node("Input", (), (Type(kind, shape),), {}, "x"))
    body = Graph("body", (x,), (ops.build("Transpose", x, perm=perm),))
    return Problem(body, read_target(target_files()[on].read_text(), on), 2)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "perm"),
    [
        ((1, 3, 17, 19), (0, 2, 3, 1)),
        ((2, 7, 41, 3), (0, 3, 1, 2)),
        ((2, 300), (1, 0)),
        ((300, 2), (1, 0)),
        ((2, 9, 3, 40), (1, 0, 3, 2)),
        ((1, 3, 5, 2), (0, 2, 3, 1)),
    ],
    ids=str,
)
def test_few_channels_are_woven_and_parted(shape: tuple[int, ...], perm: tuple[int, ...], kind: str, on: str) -> None:
    from edgec.targets.measure import Measured

    values = np.random.default_rng(1).integers(0, 2 if kind == "bool" else 100, shape).astype(KINDS[kind])
    got = Measured(few_channels(kind, shape, perm, on), Choice("generic_map", ("",), ("",)), [values]).run(parts=3)
    np.testing.assert_array_equal(got, values.transpose(perm))


@pytest.mark.parametrize("on", ["x86", "x86-avx512", "arm"])
@pytest.mark.parametrize("kind", ["f32", "u8", "f16"])
@pytest.mark.parametrize(("shape", "perm"), [((1, 3, 64, 64), (0, 2, 3, 1)), ((1, 64, 64, 3), (0, 3, 1, 2))], ids=str)
def test_few_channels_are_read_and_written_in_vectors(
    shape: tuple[int, ...], perm: tuple[int, ...], kind: str, on: str
) -> None:
    """An image is read once, and no element of it is moved by itself."""
    from edgec.targets.codegen_llvm import build

    problem = few_channels(kind, shape, perm, on)
    made = ROWS["generic_map"].emit(problem, Choice("generic_map", ("",), ("",)), "kern")
    code = build([("kern", made.function)], problem.target).inspect_source("ll")
    element = {"f32": "float", "u8": "i8", "f16": "half"}[kind]
    assert "shufflevector" in code
    assert not re.search(rf"(store|load) {element}[ ,]|(scatter|gather)\.", code)


@pytest.mark.arm
@pytest.mark.parametrize("planes", [(1, 12, 20, 20), (2, 12, 7, 9), (1, 21, 5, 6), (1, 6, 8, 8)], ids=str)
def test_bytes_of_few_channels_are_turned_in_whole_registers(planes: tuple[int, ...], tmp_path: Path) -> None:
    """On ARM four bytes would be widened first; twelve channels are two tiles of eight that overlap."""
    from edgec.compiler.registry import ROWS
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import build
    from tests.support.emulated import emulate

    x = Value(Node("Input", (), (Type("i8", planes),), {}, "x"))
    y = Value(Node("Edgec.Layout", (x,), (Type("i8", planes, "NHWC16c"),), {"to": "NHWC16c"}, "to"))
    problem = Problem(Graph("body", (x,), (y,)), read_target(target_files()["arm"].read_text(), "arm"), 1)
    choice = Choice("generic_map", ("",), ("NHWC16c",))
    values = np.random.default_rng(1).integers(-128, 128, planes).astype(np.int8)
    np.testing.assert_array_equal(emulate(problem, choice, [values], tmp_path), values)
    with built_for.core(problem.target.cpu):
        made = ROWS["generic_map"].emit(problem, choice, "kern")
    code = build([("kern", made.function)], problem.target).inspect_source("asm")
    assert planes[1] != 12 or not re.search(r"\bushll\b|\bldr\s+s", code)


@pytest.mark.parametrize("on", ["x86", "x86-avx512", "arm"])
@pytest.mark.parametrize("kind", ["u8", "f32"])
def test_bytes_and_floats_that_lie_across_each_other_are_turned_in_registers(kind: str, on: str) -> None:
    """Blocks of channels as bytes and planes of floats: no element is moved by itself."""
    from edgec.targets.codegen_llvm import build

    layouts = ("NHWC16c", "") if kind == "u8" else ("", "NHWC16c")
    x = Value(Node("Input", (), (Type(kind, (1, 32, 12, 16), layouts[0]),), {}, "x"))
    scale = ops.const(np.float32(0.05))
    if kind == "u8":
        y = ops.build("DequantizeLinear", x, scale, ops.const(np.uint8(3)))
    else:
        y = ops.build("Edgec.Rescale", x, scale, to="u8", zero=3, low=0, high=255, zeros=(0,))
    y = Value(replace(y.node, types=(replace(y.type, layout=layouts[1]),)))
    problem = Problem(Graph("body", (x,), (y,)), read_target(target_files()[on].read_text(), on), 2)
    made = ROWS["generic_map"].emit(problem, Choice("generic_map", layouts[:1], layouts[1:]), "kern")
    code = build([("kern", made.function)], problem.target).inspect_source("ll")
    assert not re.search(r"(store|load) (float|i8)[ ,]|(scatter|gather)\.", code)


MIXED = {
    "sum": lambda x, y: ops.build("Add", x, y),
    "bytes": lambda x, y: ops.build("Edgec.Rescale", x, y, *[ops.const(np.float32(0.4))] * 2, zeros=(3, 4), **RESCALED),
    "both": lambda x, y: ops.build(
        "Edgec.Rescale",
        ops.build("Mul", ops.build("DequantizeLinear", x, ops.const(np.float32(0.1)), ops.const(np.uint8(7))), y),
        ops.const(np.float32(0.4)),
        zeros=(0,),
        **RESCALED,
    ),
}
KINDS_OF = {"sum": ("f32", "f32"), "bytes": ("u8", "u8"), "both": ("u8", "f32")}


def mixed(what: str, shape: tuple[int, ...], out: bool, on: str) -> tuple[Problem, tuple[str, str], str]:
    """An argument in blocks of channels and one in rows; the result as the first of them lies, or as the other."""
    lanes = 8 if on == "x86" else 4 if on == "arm" else 16
    blocks = {"f32": f"NCHW{lanes}c", "u8": "NHWC16c"}
    kinds = KINDS_OF[what]
    layouts = blocks[kinds[0]], ""
    x, y = (
        Value(Node("Input", (), (Type(k, shape, at),), {}, n)) for k, at, n in zip(kinds, layouts, "xy", strict=True)
    )
    made = MIXED[what](x, y)
    to = blocks[made.type.dtype] if out else ""
    body = Graph("body", (x, y), (Value(replace(made.node, types=(replace(made.type, layout=to),))),))
    return Problem(body, read_target(target_files()[on].read_text(), on), 2), layouts, to


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("out", [True, False], ids=["as blocks", "as rows"])
@pytest.mark.parametrize("shape", [(1, 32, 8, 8), (2, 48, 5, 7), (1, 20, 9, 9), (1, 16, 3, 3)], ids=str)
@pytest.mark.parametrize("what", MIXED)
def test_arguments_that_lie_across_each_other(what: str, shape: tuple[int, ...], out: bool, on: str) -> None:
    from edgec.targets.measure import Measured

    problem, layouts, to = mixed(what, shape, out, on)
    random = np.random.default_rng(1)
    arrays = [
        random.integers(0, 256, shape).astype(np.uint8) if k == "u8" else random.standard_normal(shape).astype("f4")
        for k in KINDS_OF[what]
    ]
    got = Measured(problem, Choice("generic_map", layouts, (to,)), arrays).run(parts=3)
    np.testing.assert_array_equal(got, run(problem.body, arrays)[0])


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("out", [True, False], ids=["as blocks", "as rows"])
@pytest.mark.parametrize("shape", [(1, 88, 16, 16), (1, 32, 7, 7), (1, 20, 6, 6), (2, 16, 5, 4)], ids=str)
@pytest.mark.parametrize("what", ["sum", "bytes"])
def test_the_result_may_take_the_memory_of_the_argument_that_lies_as_it_does(
    what: str, shape: tuple[int, ...], out: bool, on: str
) -> None:
    """No element is computed twice, of which an argument would be gone by then."""
    from edgec.targets.measure import Measured

    problem, layouts, to = mixed(what, shape, out, on)
    kind = problem.body.outputs[0].type.dtype
    arrays = [np.random.default_rng(k).integers(0, 200, shape).astype(KINDS[kind]) for k in (1, 2)]
    measured = Measured(problem, Choice("generic_map", layouts, (to,)), arrays)
    shared = 0 if out else 1
    measured.args[2] = measured.args[shared]
    measured.library.edgec_kernel(measured.args, 0, measured.tasks)
    measured.arrays[2][...] = measured.arrays[shared]
    np.testing.assert_array_equal(measured.results(measured.outs)[0], run(problem.body, arrays)[0])


@pytest.mark.parametrize("on", ["x86", "x86-avx512", "arm"])
@pytest.mark.parametrize("out", [True, False], ids=["as blocks", "as rows"])
@pytest.mark.parametrize("what", MIXED)
def test_no_element_of_arguments_across_each_other_is_moved_by_itself(what: str, out: bool, on: str) -> None:
    from edgec.targets.codegen_llvm import build

    problem, layouts, to = mixed(what, (1, 32, 16, 16), out, on)
    made = ROWS["generic_map"].emit(problem, Choice("generic_map", layouts, (to,)), "kern")
    code = build([("kern", made.function)], problem.target).inspect_source("ll")
    assert not re.search(r"(store|load) (float|i8)[ ,]|(scatter|gather)\.", code)


@pytest.mark.parametrize(("channels", "rows_win"), [(84, True), (68, True), (96, False)])
def test_phases_that_end_within_blocks_are_woven_in_rows(channels: int, rows_win: bool) -> None:
    """Of 21 or 17 channels each those of a block belong to several pixels; of 24 they do not."""

    x = given((1, channels, 20, 20))
    body = Graph("body", (x,), (ops.build("DepthToSpace", x, blocksize=2, mode="DCR"),))
    offers = ROWS["generic_map"].choices(Problem(body, read_target(target_files()["x86"].read_text(), "x86"), 1))
    blocks = next(c for c in offers if c.layouts_out == ("NCHW8c",))
    rows = min((c for c in offers if c.layouts_out == ("",)), key=lambda c: c.cost_us)
    assert (rows.layouts_in == ("",) and rows.cost_us < blocks.cost_us / 2) is rows_win


def test_a_scaled_image_is_woven() -> None:
    x, scale = given((1, 3, 20, 30)), given((3, 1, 1), "scale")
    y = ops.build("Transpose", ops.build("Mul", ops.build("Relu", x), scale), perm=(0, 2, 3, 1))
    check([x, scale], y, ("", ""), "", "x86")


def test_a_chain_around_a_transpose_computes_in_tiles() -> None:
    x, other = given((1, 20, 6, 7)), given((1, 20, 6, 7), "other")
    y = ops.build("Transpose", ops.build("Add", ops.build("Relu", x), other), perm=(0, 2, 3, 1))
    check([x, other], ops.build("Sigmoid", y), ("", "NCHW8c"), "", "x86")


def test_joined_pieces_are_transposed() -> None:
    parts = [given((1, n, 29), f"x{n}") for n in (4, 1, 40)]
    y = ops.build("Transpose", ops.build("Concat", *parts, axis=1), perm=(0, 2, 1))
    check(parts, y, ("",) * 3, "", "x86")


def of_rows(what: str, size: int, on: str) -> tuple[Problem, Choice]:
    """Images in blocks of channels, and a sum or a conversion of them in rows of `size` x `size` pixels."""
    blocks = f"NCHW{8 if on == 'x86' else 4 if on == 'arm' else 16}c"
    layouts = {"conversion": (blocks,), "sum": (blocks, blocks), "mixed sum": (blocks, "")}[what]
    inputs = [given((1, 32, size, size), f"x{k}") for k in range(len(layouts))]
    y = ops.build("Add", *inputs) if len(inputs) > 1 else ops.build("Relu", *inputs)
    target = read_target(target_files()[on].read_text(), on)
    return Problem(Graph("body", tuple(inputs), (y,)), target, 2), Choice("generic_map", layouts, ("",))


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("what", ["conversion", "sum", "mixed sum"])
@pytest.mark.parametrize("size", [32, 64])
def test_planes_of_whole_ways_of_a_cache_have_all_elements(size: int, what: str, on: str) -> None:
    problem, choice = of_rows(what, size, on)
    check(list(problem.body.inputs), problem.body.outputs[0], choice.layouts_in, "", on)


@pytest.mark.parametrize("perm", [(0, 2, 1), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("shape", [(1, 1024, 40), (3, 1024, 20), (2, 1030, 9)], ids=str)
def test_rows_of_whole_ways_of_a_cache_are_transposed(shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    x = given(shape)
    check([x], ops.build("Transpose", x, perm=perm), ("",), "", "x86")


@pytest.mark.parametrize("on", ["x86", "x86-avx512", "arm"])
@pytest.mark.parametrize("what", ["conversion", "sum", "mixed sum"])
@pytest.mark.parametrize(("size", "lines"), [(64, 8), (60, 0)], ids=["whole ways", "others"])
def test_lines_of_planes_that_share_sets_of_a_cache_are_collected(size: int, lines: int, what: str, on: str) -> None:
    """Lines of a tile's planes are more than a set holds: each plane is written some lines at a time."""
    from edgec.targets import built_for
    from edgec.targets.measure import with_layouts

    problem, choice = of_rows(what, size, on)
    with built_for.core(problem.target.cpu):
        made = ROWS["generic_map"].emit(with_layouts(problem, choice), choice, "kern")
    kept = [int(n) for n in re.findall(r"rows\d+ = T.alloc_local\(\((\d+),\)", str(made.function))]
    planes = {"x86": 8, "x86-avx512": 16, "arm": 0}[on]  # a set holds those of a block on ARM
    assert kept == ([planes * lines * 16] if lines and planes else [])
