"""Products on tensor cores give the operator's meaning: awkward shapes, all tiles, epilogues, bytes, shared K."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.layout import pack, unpack
from edgec.compiler.registry import ROWS, Choice, Problem, laid_out
from edgec.compiler.target import find_target
from edgec.targets.cuda.emulation import Check
from edgec.targets.kernels.cuda.mma import conv as mma_conv
from edgec.targets.kernels.cuda.mma import cost as mma_cost
from edgec.targets.kernels.cuda.mma import matmul as mma_matmul
from edgec.targets.kernels.cuda.mma.shape import F16, Product, Tile, grid_of, tile_of
from tests.support.cuda_emulated import Emulated
from tests.support.cuda_rows_run import waits_first

CONV, MATMUL = "conv_f16_mma__cuda", "matmul_f16_mma__cuda"
RNG = np.random.default_rng(11)


def source(name: str, shape: tuple[int, ...], kind: str = "f16") -> Value:
    return Value(Node("Input", (), (Type(kind, shape),), {}, name))


def finished(inputs: list[Value], y: Value, then: str) -> tuple[list[Value], Value]:
    """`then`: operators in order; Add takes a residual, Mul a factor per channel."""
    for name in then.split():
        if name == "Add":
            inputs.append(source("residual", y.shape))
            y = ops.build("Add", y, inputs[-1])
        elif name == "Mul":
            inputs.append(source("factor", (1, y.shape[1], *(1 for _ in y.shape[2:]))))
            y = ops.build("Mul", y, inputs[-1])
        elif name == "SiLU":
            y = ops.build("Mul", y, ops.build("Sigmoid", y))
        else:
            y = ops.build(name, y, **({"min": 0.0, "max": 6.0} if name == "Clip" else {}))
    return inputs, y


@dataclass(frozen=True)
class Conv:
    x: tuple[int, ...]
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: int = 1
    then: str = "Relu"
    bias: str = "f16"

    def problem(self) -> Problem:
        shapes = {"x": self.x, "w": (self.outputs, self.x[1], *self.kernel)}
        inputs = [*(source(name, shape) for name, shape in shapes.items()), source("bias", (self.outputs,), self.bias)]
        y = ops.build(
            "Conv", *inputs, strides=(self.stride,) * 2, pads=self.pads, dilations=(self.dilation,) * 2, group=1
        )
        inputs, y = finished(inputs, y, self.then)
        return Problem(Graph("body", tuple(inputs), (y,)), find_target("cuda"), 1, frozenset({1, 2}))


@dataclass(frozen=True)
class MatMul:
    a: tuple[int, ...]
    b: tuple[int, ...]
    fixed: bool = True
    then: str = ""

    def problem(self) -> Problem:
        inputs, y = [source("a", self.a), source("b", self.b)], None
        y = ops.build("MatMul", *inputs)
        inputs, y = finished(inputs, y, self.then)
        return Problem(Graph("body", tuple(inputs), (y,)), find_target("cuda"), 1, frozenset({1} if self.fixed else ()))


@dataclass(frozen=True)
class Bytes:
    """A convolution or (no kernel) a product of bytes, with what makes bytes of its sums: Add with a residual."""

    x: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...] = ()
    stride: int = 1
    pad: int = 0
    zero: int = 0
    kind: str = "u8"
    then: str = ""

    def problem(self) -> Problem:
        inner, ones = self.x[1 if self.kernel else -1], (1,) * len(self.kernel)
        weights = (self.outputs, inner, *self.kernel) if self.kernel else (inner, self.outputs)
        shapes = {"x": (self.x, self.kind), "w": (weights, "i8"), "bias": ((self.outputs,), "i32")}
        inputs = [source(name, *given) for name, given in shapes.items()]
        if self.kernel:
            window = {"strides": (self.stride,) * 2, "pads": (self.pad,) * 4}
            y = ops.build("Edgec.ConvInteger", *inputs, **window, zero=self.zero)
        else:
            y = ops.build("Edgec.MatMulInteger", *inputs, a_zero=self.zero)
        inputs.append(source("scale", (self.outputs, *ones), "f32"))
        after = {"to": self.kind, "zero": 3, "low": -7 if self.kind == "i8" else 3, "high": 120}
        if self.then == "Add":
            inputs += [source("residual", y.shape, self.kind), source("other", (1,), "f32")]
            y = ops.build("Edgec.Rescale", y, inputs[4], inputs[3], inputs[5], zeros=(0, 9), **after)
        elif not self.then:
            y = ops.build("Edgec.Rescale", y, inputs[3], zeros=(0,), **after)
        else:
            inputs.pop()
        return Problem(Graph("body", tuple(inputs), (y,)), find_target("cuda"), 1, frozenset({1, 2}))


def numbers(value: Value) -> Array:
    kind = dtype(value.type.dtype)
    if kind.name == "f32" and value.node.name in ("scale", "other"):  # what brings sums into the range of bytes
        return RNG.uniform(0, 1e-3, value.shape).astype(kind.numpy)
    if kind.is_float:
        return RNG.uniform(-1, 1, value.shape).astype(kind.numpy)
    low, high = (-1000, 1000) if kind.bytes == 4 else (np.iinfo(kind.numpy).min, np.iinfo(kind.numpy).max)
    return RNG.integers(low, high + 1, value.shape).astype(kind.numpy)


def aligned(array: Array) -> Array:
    """A copy at a multiple of 64 bytes, as the runtime's arenas are."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    copy = raw[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def emulated(problem: Problem, choice: Choice, arrays: list[Array], check: Check = "none") -> Array:
    from edgec.targets import built_for, tir
    from edgec.targets.cuda.codegen import cuda_text
    from edgec.targets.cuda.threads import threaded

    body = laid_out(problem.body, [layout or "" for layout in choice.layouts_in], choice.layouts_out)
    tir.restart_names()
    with built_for.device_code():
        made = ROWS[choice.row].emit(replace(problem, body=body), choice, "kernel")
    function, launch = threaded(made)
    out = problem.body.outputs[0].type
    given = [pack(a, layout or "") for a, layout in zip(arrays, choice.layouts_in, strict=True)]
    for array, layout in zip(given, choice.layouts_in, strict=True):
        if layout == "NHWC4c" and array.dtype == np.float16:
            array[..., 3:] = np.nan  # padding of activations holds anything
    given.append(pack(np.ones(out.shape, dtype(out.dtype).numpy), choice.layouts_out[0]))
    buffers = [aligned(a) for a in given]
    result = buffers[-1]
    buffers += [aligned(np.full(choice.scratch_bytes // 4, np.nan, np.float32))] if choice.scratch_bytes else []
    counters = aligned(np.zeros(choice.get("zeros"), np.uint32))
    buffers += [counters] if counters.size else []
    waits_first(text := cuda_text(function), problem)
    Emulated(text, check).launch("kernel", launch.grid, launch.block, *buffers, shared=launch.shared)
    assert not counters.any()
    return unpack(result, choice.layouts_out[0], out.shape)


def holds(problem: Problem, choice: Choice, check: Check = "none") -> None:
    """Integers are equal; halves are as near as their rounding."""
    assert ROWS[choice.row].accepts(problem) is True
    arrays = [numbers(v) for v in problem.body.inputs]
    got, expected = emulated(problem, choice, arrays, check), run(problem.body, arrays)[0]
    if got.dtype.kind in "iu":
        assert np.array_equal(got, expected)
    else:
        wide = expected.astype(np.float64)
        assert np.abs(got.astype(np.float64) - wide).max() <= 2e-3 * np.abs(wide).max()


@pytest.mark.parametrize(
    "case",
    [
        Conv((1, 16, 9, 9), 24, then="Add Relu"),
        Conv((2, 16, 10, 7), 72, stride=2, then="Clip"),
        Conv((1, 8, 9, 9), 16, pads=(2, 2, 2, 2), dilation=2),
        Conv((1, 24, 8, 8), 40, (1, 1), pads=(0, 0, 0, 0), then="Add"),
        Conv((1, 40, 8, 8), 16, (1, 1), stride=2, pads=(0, 0, 0, 0), then=""),
        Conv((1, 16, 7, 9), 16, (3, 1), pads=(1, 0, 0, 0), then="SiLU"),
        Conv((1, 3, 13, 13), 24, (7, 7), stride=2, pads=(3, 3, 3, 3)),
        Conv((2, 3, 9, 8), 16, (1, 1), pads=(0, 0, 0, 0)),
        Conv((2, 5, 9, 8), 20, then="Mul"),
        Conv((1, 64, 5, 5), 255, (1, 1), pads=(0, 0, 0, 0), then="Add"),
        Conv((3, 8, 6, 6), 3, pads=(0, 1, 1, 0), then=""),
        Conv((1, 3, 32, 32), 24, (16, 16), stride=16, pads=(0, 0, 0, 0)),
        Conv((1, 3, 19, 16), 24, (3, 4), stride=4, pads=(1, 0, 1, 0)),
        Conv((1, 24, 7, 9), 40, then="SiLU", bias="f32"),
        Conv((1, 16, 5, 5), 17, (1, 1), pads=(0, 0, 0, 0), bias="f32"),
    ],
    ids=str,
)
def test_convolutions(case: Conv) -> None:
    problem = case.problem()
    holds(problem, ROWS[CONV].choices(problem)[0])


@pytest.mark.parametrize(
    "case",
    [
        MatMul((1, 49, 64), (64, 1000), then="Relu"),
        MatMul((1, 72), (72, 40), then="Add"),
        MatMul((2, 3, 17, 24), (2, 3, 24, 19), False),
        MatMul((3, 20, 37), (3, 37, 24), False, "Sigmoid"),
        MatMul((3, 20, 40), (40, 24), False, "Add"),
        MatMul((1, 20, 40), (3, 40, 24), False),
        MatMul((20, 37), (37, 24)),
        MatMul((20, 37), (37, 23)),
    ],
    ids=str,
)
def test_matrix_products(case: MatMul) -> None:
    problem = case.problem()
    holds(problem, ROWS[MATMUL].choices(problem)[0])


@pytest.mark.parametrize(
    "case",
    [
        Bytes((1, 32, 7, 7), 24, (3, 3), pad=1, zero=114, then="Add"),
        Bytes((2, 16, 9, 8), 40, (3, 3), 2, 1, zero=0),
        Bytes((1, 24, 7, 7), 20, (3, 3), pad=1, zero=5, then="Add"),
        Bytes((1, 3, 11, 11), 16, (7, 7), 2, 3, zero=255),
        Bytes((1, 3, 11, 11), 24, (3, 3), pad=1, zero=-128, kind="i8"),
        Bytes((1, 48, 7, 7), 255, (1, 1), zero=-3, kind="i8", then="Add"),
        Bytes((1, 17, 5, 5), 16, (1, 1), zero=1, then="Sums"),
        Bytes((1, 3, 16, 16), 16, (8, 8), 8, zero=9),
        Bytes((1, 49, 64), 1000, zero=128),
        Bytes((20, 37), 24, zero=-9, kind="i8"),
    ],
    ids=str,
)
def test_bytes_are_equal(case: Bytes) -> None:
    problem = case.problem()
    row = "conv_int8_mma__cuda" if case.kernel else "matmul_int8_mma__cuda"
    holds(problem, ROWS[row].choices(problem)[0])


@pytest.mark.parametrize("tile", [Tile(64, 64, 64, 2, 2, 2, 3, 5), Tile(32, 32, 128, 1, 1, 4, 3, 2)], ids=str)
def test_bytes_do_not_race(tile: Tile) -> None:
    problem = Bytes((1, 32, 9, 9), 40, (3, 3), pad=1, zero=77).problem()
    holds(problem, mma_conv.choice(problem, tile), "race")


def test_tf32_where_it_is_allowed() -> None:
    """Off unless the target says so; then as near as 10 bits of mantissa."""
    inputs = [source("x", (1, 3, 9, 9), "f32"), source("w", (16, 3, 3, 3), "f32"), source("b", (16,), "f32")]
    conv = Graph("body", tuple(inputs), (ops.build("Conv", *inputs, pads=(1, 1, 1, 1)),))
    inputs = [source("a", (20, 30), "f32"), source("b", (30, 24), "f32")]
    product = Graph("body", tuple(inputs), (ops.build("MatMul", *inputs),))
    cuda = find_target("cuda")
    assert cuda.gpu is not None
    allowed = replace(cuda, gpu=replace(cuda.gpu, allow_tf32=True))
    for body, row in ((conv, "conv_tf32_mma__cuda"), (product, "matmul_tf32_mma__cuda")):
        assert ROWS[row].accepts(Problem(body, cuda)) is not True
        problem = Problem(body, allowed, 1, frozenset({1}))
        holds(problem, ROWS[row].choices(problem)[0])


TILES = [
    *(Tile(bm, bn, 64, wm, wn, wk) for bm, bn, wm, wn, wk in mma_cost.SHAPES if wk <= 2 and bm * bn <= 8192),
    *(Tile(bm, bn, 128, wm, wn, wk, 4) for bm, bn, wm, wn, wk in mma_cost.SHAPES if wk > 1 or bm == 16),
    Tile(64, 64, 64, 2, 2, 1, 3, 5),
    Tile(32, 32, 128, 1, 1, 4, 2, 2),
]


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile(tile: Tile) -> None:
    problem = Conv((1, 32, 6, 6), 40, then="Add Relu").problem()
    holds(problem, mma_conv.choice(problem, tile))
    problem = MatMul((2, 20, 160), (2, 160, 40), False).problem()
    holds(problem, mma_matmul.choice(problem, tile))


@pytest.mark.parametrize("tile", [Tile(64, 64, 64, 2, 2, 1, 3, 5), Tile(32, 32, 128, 1, 1, 4, 3, 2)], ids=str)
def test_nothing_races(tile: Tile) -> None:
    problem = Conv((1, 32, 9, 9), 40, then="Add Relu").problem()
    holds(problem, mma_conv.choice(problem, tile), "race")
    problem = Conv((1, 3, 9, 9), 40).problem()
    holds(problem, mma_conv.choice(problem, tile), "race")


def test_few_blocks_share_k() -> None:
    """A grid that leaves most of the device idle is split along K, no part is empty; a large one is not split."""
    small, large = Conv((1, 512, 7, 7), 512).problem(), Conv((8, 64, 56, 56), 64).problem()
    for problem, shared in ((small, True), (large, False)):
        choice = ROWS[CONV].choices(problem)[0]
        tile, product = tile_of(choice), mma_conv.product_of(problem)
        grid = grid_of(product, tile)
        assert (tile.split > 1) == shared
        assert (tile.split - 1) * grid.each < grid.steps <= tile.split * grid.each


def test_costs_grow_with_the_product() -> None:
    problem = Conv((1, 64, 28, 28), 64).problem()
    gpu = problem.target.gpu
    assert gpu is not None
    times = [mma_cost.best(problem, Product(F16, 784, 256, k, across=False))[0][1] for k in (64, 512, 4096)]
    assert times == sorted(times) and times[0] > gpu.launch_us


@pytest.mark.parametrize(
    ("problem", "row", "why"),
    [
        (replace(Conv((1, 8, 6, 6), 8).problem(), target=find_target("x86")), CONV, "CUDA"),
        (Conv((1, 8, 40, 40), 8, (20, 20)).problem(), CONV, "window"),
        (MatMul((2, 1, 4, 8), (1, 3, 8, 8), False).problem(), MATMUL, "repeats"),
    ],
    ids=["target", "window", "stack"],
)
def test_refusals(problem: Problem, row: str, why: str) -> None:
    found = ROWS[row].accepts(problem)
    assert found is not True and why in str(found)


def test_the_choice_says_how_the_right_operand_lies() -> None:
    """One kernel may serve several steps, whose operands are constant or not."""
    fixed, free = MatMul((1, 20, 40), (40, 24)).problem(), MatMul((1, 20, 40), (40, 24), False).problem()
    for one, other in ((fixed, free), (free, fixed)):
        holds(other, ROWS[MATMUL].choices(one)[0])
