"""A multiply-add that rounds once gives the bytes of a rescaling that rounds twice, where numbers for it are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.ops.integer import rescale
from edgec.compiler.ops.once import rescale_once
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.rescale.once import Asked, Line, channels, first_within, line
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

RNG = np.random.default_rng(7)


def each(multiplier: float, zero: int, low: int, high: int, sums: int) -> Asked:
    limit = np.array([sums])
    return Asked(np.array([multiplier], np.float32), -limit, limit, zero, low, high)


def once_more(t: Any, made: Line, to: str, low: int, high: int) -> Any:
    return rescale_once(t, made.factor, made.addend, to=to, zero=0, low=low, high=high, bits=32)


@pytest.mark.parametrize("size", [0.9, 0.031, 0.0077, 0.0019])
@pytest.mark.parametrize(("zero", "low"), [(-128, -128), (-7, -128), (9, 9)])
def test_every_sum_becomes_the_same_byte(size: float, zero: int, low: int) -> None:
    found = 0
    for multiplier in size * RNG.uniform(0.7, 1, 40).astype(np.float32):
        wanted = each(multiplier, zero, low, 127, int(400 / multiplier))
        made = line(wanted)
        if isinstance(made, str):
            continue
        found += 1
        t = np.arange(wanted.least[0], wanted.most[0] + 1, dtype=np.int32)
        same = rescale(t, wanted.multiplier, zeros=(0,), to="i8", zero=zero, low=low, high=127)
        np.testing.assert_array_equal(once_more(t + made.start, made, "i8", low, 127), same)
    assert found > 20


@pytest.mark.parametrize("size", [1e-8, 3.2e-6, 0.0019, 0.3])
def test_sums_that_lie_to_one_side_of_zero(size: float) -> None:
    """Those of dead channels are negative and all the same; others are anywhere, or of one byte only."""
    found = 0
    for width in (0, 1, 300, 20_000, 1 << 21):
        for begin in RNG.integers(-(1 << 22) + 1, (1 << 22) - 1 - width, 30):
            wanted = Asked(np.array([size], np.float32), begin[None], begin[None] + width, 0, 0, 255)
            made = line(wanted)
            if isinstance(made, str):
                continue
            found += 1
            t = np.arange(begin, begin + width + 1, dtype=np.int32)
            same = rescale(t, wanted.multiplier, zeros=(0,), to="u8", zero=0, low=0, high=255)
            wrapped = (t.astype(np.int64) + made.start).astype(np.uint64).astype(np.uint32).view(np.int32)
            np.testing.assert_array_equal(once_more(wrapped, made, "u8", 0, 255), same)
    assert found > 100


def test_ties_on_both_sides_have_no_line() -> None:
    """0.5 becomes 0, 1.5 becomes 2."""
    assert line(each(0.5, 0, -128, 127, 1000)) == "no line has the steps of channel 0"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (each(-0.01, 0, -128, 127, 1000), "a multiplier is negative, or far from 1"),
        (each(0.01, 0, -128, 127, 1 << 22), "sums exceed 4194304"),
        (each(0.01, 0, 5, 5, 1000), "there is one result only"),
    ],
)
def test_why_there_is_none(wanted: Asked, why: str) -> None:
    assert channels(wanted) == why


def test_the_least_multiple_within_limits() -> None:
    for _ in range(300):
        modulus = int(RNG.integers(2, 400))
        step, begin, low = (int(n) for n in RNG.integers(0, modulus, 3))
        high = low + int(RNG.integers(0, 9))
        inside = {n % modulus for n in range(low, high + 1)}
        wanted = next((n for n in range(modulus) if (begin + n * step) % modulus in inside), None)
        assert first_within(step, modulus, (low, high), begin) == wanted


def straight(size: float, *shape: int) -> Value:
    """Multipliers for which there are lines, whatever the sums."""
    tried = (np.float32(size * (1 + i / 1000)) for i in range(100))
    return ops.const(
        np.full(shape, next(m for m in tried if not isinstance(line(each(m, -3, -128, 120, 1 << 21)), str)))
    )


def product(
    op: str, x: tuple[int, ...], w: tuple[int, ...], multiplier: Value, constant: bool = True, zero: int = -3
) -> Graph:
    a = Value(Node("Input", (), (Type("i8", x),), {}, "x"))
    outputs = w[0] if op.endswith("ConvInteger") else w[-1]
    b = ops.const(RNG.integers(-128, 128, w).astype(np.int8), "w")
    bias = ops.const(RNG.integers(-3000, 3000, outputs).astype(np.int32), "bias")
    given = Value(Node("Input", (), (bias.type,), {}, "bias"))
    sums = ops.build(op, a, b, bias if constant else given, label="y_sums")
    y = ops.build("Edgec.Rescale", sums, multiplier, zeros=(0,), to="i8", zero=zero, low=-128, high=120, label="y")
    return Graph("g", (a,) if constant else (a, given), (y,))


def once(g: Graph) -> Graph:
    return run_pipeline(g, parse_pipeline("rescale-once"), Session(verify=3))


@pytest.mark.parametrize(
    "g",
    [
        product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), straight(0.0077, 4, 1, 1)),
        product("Edgec.ConvInteger", (1, 6, 5), (4, 6, 3), straight(0.0191)),
        product("Edgec.MatMulInteger", (2, 3, 17), (17, 5), straight(0.0113, 5)),
    ],
)
def test_rescalings_become_one_multiply_add(g: Graph) -> None:
    new = once(g)
    assert new.outputs[0].node.op == "Edgec.RescaleOnce"
    assert new.outputs[0].node.attrs["bits"] == 16
    x = RNG.integers(-128, 128, g.inputs[0].shape).astype(np.int8)
    np.testing.assert_array_equal(run(new, [x])[0], run(g, [x])[0])


def test_results_beyond_16_bits_are_limited_in_32() -> None:
    g = product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), straight(0.77, 4, 1, 1))
    new = once(g)
    assert new.outputs[0].node.attrs["bits"] == 32
    x = RNG.integers(-128, 128, g.inputs[0].shape).astype(np.int8)
    np.testing.assert_array_equal(run(new, [x])[0], run(g, [x])[0])


def test_channels_of_one_result_do_not_lead_beyond_16_bits() -> None:
    """Sums of a dead channel are all below zero, however far: what is rescaled of them is limited all the same."""
    g = product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), straight(0.0077, 4, 1, 1))
    a, w, bias = g.outputs[0].node.args[0].node.args
    numbers, start = ops.const_array(g.outputs[0].node.args[1]).copy(), ops.const_array(bias).copy()
    numbers[[1, 3]], start[[1, 3]] = 0.9, (-2_000_000, 2_000_000)
    sums = ops.build("Edgec.ConvInteger", a, w, ops.const(start, "bias"))
    y = ops.build("Edgec.Rescale", sums, ops.const(numbers), zeros=(0,), to="i8", zero=-3, low=-128, high=120)
    new = once(replace(g, outputs=(y,)))
    assert new.outputs[0].node.op == "Edgec.RescaleOnce" and new.outputs[0].node.attrs["bits"] == 16
    x = RNG.integers(-128, 128, g.inputs[0].shape).astype(np.int8)
    have = run(new, [x])[0]
    np.testing.assert_array_equal(have, run(replace(g, outputs=(y,)), [x])[0])
    assert (have[:, 1] == -128).all() and (have[:, 3] == 120).all()


def test_they_stay_on_other_cpus() -> None:
    g = product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), straight(0.0077))
    for name, op in (("x86-avx512", "Edgec.Rescale"), ("rpi4", "Edgec.RescaleOnce")):
        made = run_pipeline(g, parse_pipeline("rescale-once"), Session(target=find_target(name)))
        assert made.outputs[0].node.op == op


def test_they_stay_where_sums_are_not_known() -> None:
    one = straight(0.0077)
    g = product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), one, constant=False)
    assert once(g).outputs[0].node.op == "Edgec.Rescale"
    read_twice = product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), one)
    sums = read_twice.outputs[0].node.args[0]
    assert once(replace(read_twice, outputs=(*read_twice.outputs, sums))).outputs[0].node.op == "Edgec.Rescale"
