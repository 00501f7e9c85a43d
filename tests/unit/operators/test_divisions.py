"""Quotients and remainders of integers are exact, at the ends of their ranges and beside every multiple."""

from __future__ import annotations

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import find_target
from edgec.targets.reciprocal import exact

KINDS = ["i8", "u8", "i16", "u16", "i32", "u32", "i64"]


def numbers(kind: str) -> tuple[Array, Array]:
    """Divisors of every size, and dividends that are multiples of them or next to one."""
    held = dtype(kind).numpy
    low, high = int(np.iinfo(held).min), int(np.iinfo(held).max)
    rng = np.random.default_rng(5)
    sizes = [1 << k for k in range(high.bit_length())]
    divisors = [
        low,
        low + 1,
        -3,
        -1,
        0,
        1,
        2,
        3,
        7,
        high - 1,
        high,
        *sizes,
        *(s - 1 for s in sizes),
        *(-s for s in sizes),
    ]
    pairs = []
    for b in (d for d in divisors if low <= d <= high):
        most = max(1, high // max(1, abs(b)))
        for n in (0, 1, most, most - 1, *(int(rng.integers(0, most, endpoint=True)) for _ in range(6))):
            pairs += [(sign * (n * abs(b) + off), b) for sign in (1, -1) for off in (-1, 0, 1)]
        pairs += [(low, b), (high, b)]
    fit = [(a, b) for a, b in pairs if low <= a <= high]
    a, b = np.array(fit, object).T
    return a.astype(held), b.astype(held)


def problem(op: str, kind: str, size: int, on: str, **attrs: int) -> Problem:
    a, b = (Value(Node("Input", (), (Type(kind, (size,)),), {}, name)) for name in "ab")
    return Problem(Graph("body", (a, b), (build(op, a, b, **attrs),)), find_target(on), 1)


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("op", "attrs"), [("Div", {}), ("Mod", {"fmod": 0}), ("Mod", {"fmod": 1})], ids=str)
def test_every_quotient_is_exact(op: str, attrs: dict[str, int], kind: str, on: str) -> None:
    from edgec.targets.measure import Measured

    arrays = list(numbers(kind))
    p = problem(op, kind, arrays[0].size, on, **attrs)
    got = Measured(p, Choice("generic_map", ("", ""), ("",)), arrays).run(parts=2)
    np.testing.assert_array_equal(got, run(p.body, arrays)[0])


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("kind", ["i8", "u8", "i16", "i32"])
def test_vectors_of_integers_are_divided_together(kind: str, on: str) -> None:
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import build as code_of

    p = problem("Div", kind, 64, on)
    with built_for.core(p.target.cpu):
        made = ROWS["generic_map"].emit(p, Choice("generic_map", ("", ""), ("",)), "kern")
    assert "idiv" not in code_of([("kern", made.function)], p.target).inspect_source("asm")


@pytest.mark.parametrize("where", ["x86", "x86-avx512"])
@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize("scale", [0.0078431377, 1 / 3, 0.25, 3.7])
def test_bytes_by_a_reciprocal_are_those_of_a_division_on_x86(scale: float, kind: str, where: str) -> None:
    """Beside every half of a step, and for what is no step at all; nothing is divided where none might differ."""
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import build as built
    from edgec.targets.measure import Measured

    step = np.float32(scale)
    halves = ((np.arange(-300, 300) + 0.5) * step).astype(np.float32)
    near = [np.nextafter(halves, np.float32(s), dtype=np.float32) for s in (-np.inf, np.inf)]
    odd = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0, 1e-30], np.float32)
    values = np.concatenate([halves, *near, odd])
    x = Value(Node("Input", (), (Type("f32", values.shape),), {}, "x"))
    y = build("QuantizeLinear", x, const(step), const(np.int8(-5) if kind == "i8" else np.uint8(114)))
    problem, choice = Problem(Graph("body", (x,), (y,)), find_target(where), 1), Choice("generic_map", ("",), ("",))
    np.testing.assert_array_equal(Measured(problem, choice, [values]).run(), run(problem.body, [values])[0])
    with built_for.core(problem.target.cpu):
        made = ROWS["generic_map"].emit(problem, choice, "kern").function
    assert exact(float(step)) == (scale != 1 / 3)
    assert exact(float(step)) == ("fdiv" not in built([("kern", made)], problem.target).inspect_source("ll"))
