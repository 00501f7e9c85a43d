"""Functions of which only bytes remain: accurate enough for bytes, and the same bits on every target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const, evaluate
from edgec.compiler.ops.near import GENTLE, NEAR, fma
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.registry import ROWS
from edgec.compiler.session import Session
from edgec.compiler.target import Target
from tests.support.emulated import emulate
from tests.support.harness import execute, one, target

ON = ["x86-avx512", "x86", *(pytest.param(name, marks=pytest.mark.arm) for name in ("rpi5", "cortex-a53", "armv7"))]


def points() -> Any:
    """From all that a clamp leaves alone to what it does not, around 0 too."""
    near = np.geomspace(1e-6, 120, 3000)
    x = np.concatenate([np.linspace(-100, 100, 6001), near, -near, [0.0, -0.0, GENTLE, -GENTLE]])
    return x.astype(np.float32)


def of(name: str, x: Any) -> Any:
    return evaluate(one(NEAR[name], f"f32[{x.size}]").anchor, [x])[0]


@pytest.mark.parametrize("where", ON)
@pytest.mark.parametrize("name", NEAR)
def test_code_gives_the_bits_of_the_steps(name: str, where: str, tmp_path: Path) -> None:
    x = points()
    p = one(NEAR[name], f"f32[{x.size}]", where=where)
    if where.startswith("x86"):
        (have,) = execute(p, "generic_map", [x], tmp_path)
    else:
        have = emulate(p, ROWS["generic_map"].choices(p)[0], [x], tmp_path)
    np.testing.assert_array_equal(have.view(np.int32), of(name, x).view(np.int32))


@pytest.mark.parametrize(("name", "allowed"), [("Sigmoid", 1.07e-4), ("Gelu", 3e-5)])
def test_bytes_do_not_show_what_is_left_out(name: str, allowed: float) -> None:
    """A byte's step is 4e-3 of the largest number. Of a sigmoid the error is relative, of a gelu to its argument."""
    x = points()[np.abs(points()) < GENTLE].astype(np.float64)
    (exact,) = evaluate(build(name, Value(Node("Input", (), (Type("f64", x.shape),), {}, "x"))).node, [x])
    error = np.abs(of(name, x.astype(np.float32)) - exact)
    assert (error <= allowed * np.abs(exact if name == "Sigmoid" else x) + 1e-30).all()
    assert name != "Sigmoid" or error.max() < 4e-5


def test_a_product_and_a_sum_are_rounded_once() -> None:
    rng = np.random.default_rng(0)
    c = rng.integers(1 << 23, 1 << 24, 4000).astype(np.float32) * rng.choice([1, -1], 4000).astype(np.float32)
    a = (1 + rng.integers(0, 3, 4000) * 2.0**-23).astype(np.float32)
    b = (rng.choice([0.5, -0.5, 1.5], 4000) * (1 + rng.integers(-2, 3, 4000) * 2.0**-23)).astype(np.float32)
    have, twice = fma(a, b, c), (np.float64(a) * b + c).astype(np.float32)
    assert (have != twice).any(), "numbers that rounding twice puts on the other side"
    for x, y, z, found in zip(a, b, c, have, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        around = [found, *(np.nextafter(found, np.float32(end)) for end in (-np.inf, np.inf))]
        distance = [abs(Fraction(float(n)) - exact) for n in around]
        assert distance[0] == min(distance)
        assert distance.count(distance[0]) == 1 or found.view(np.int32) % 2 == 0


def quantized(x: Value) -> Value:
    return build("QuantizeLinear", x, const(np.float32(0.1)), const(np.uint8(3)))


def gated(read: Callable[[Value], Value] | None = None) -> Graph:
    """Bytes of x sigmoid(x), which something else may read too."""
    x = Value(Node("Input", (), (Type("f32", (2, 8)),), {}, "x"))
    gate = build("Sigmoid", x)
    y = quantized(build("Mul", x, gate))
    return Graph("g", (x,), (y, read(gate)), ("y", "z")) if read else Graph("g", (x,), (y,), ("y",))


def operators(graph: Graph, where: Target | None = None) -> set[str]:
    made = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(target=where, verify=2))
    return {n.op for n in made.nodes()}


def test_what_only_bytes_remain_of_is_computed_in_steps() -> None:
    assert {"Edgec.NearSigmoid", "Edgec.Rescale"} <= operators(gated())
    assert "Edgec.NearSigmoid" in operators(gated(quantized))


@pytest.mark.parametrize("read", [lambda gate: gate, lambda gate: build("Softmax", gate, axis=-1)])
def test_what_is_seen_with_all_its_digits_stays(read: Callable[[Value], Value]) -> None:
    found = operators(gated(read))
    assert "Sigmoid" in found and "Edgec.NearSigmoid" not in found


def test_without_an_instruction_for_steps_functions_stay() -> None:
    slow = replace(target("x86"), cpu=replace(target("x86").cpu, isa=frozenset({"AVX2"})))
    for where in (target("cortex-m0plus"), slow):
        assert "Edgec.NearSigmoid" not in operators(gated(), where)
    assert "Edgec.NearSigmoid" in operators(gated(), target("cortex-m4"))
