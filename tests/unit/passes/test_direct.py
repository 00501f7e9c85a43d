"""Multipliers of few bits: one multiply-add gives the bytes of a rescaling that rounds twice, without another line."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.op import const, const_array
from edgec.compiler.ops.integer import rescale
from edgec.compiler.ops.once import rescale_once
from edgec.compiler.rescale.direct import farthest, straight, whole_offset
from edgec.compiler.rescale.once import SUMS
from tests.unit.passes.test_once import each, once, product

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("size", [0.9, 0.031, 0.0019, 0.0004, 0.00011])
@pytest.mark.parametrize(("zero", "low"), [(-128, -128), (-8, -128), (-7, -128), (10, 10)])
def test_it_is_known_of_each_number_whether_all_sums_become_the_same(size: float, zero: int, low: int) -> None:
    numbers = np.unique((size * RNG.uniform(0.5, 1, 60)).astype(np.float32).view(np.uint32) & 0xFFFF0000)
    answers = set()
    for multiplier in numbers.view(np.float32):
        wanted = each(float(multiplier), zero, low, 127, min(int(300 / multiplier), SUMS - 1))
        if not whole_offset(wanted.multiplier).all():
            continue
        t = np.arange(wanted.least[0], wanted.most[0] + 1, dtype=np.int32)
        twice = rescale(t, wanted.multiplier, zeros=(0,), to="i8", zero=zero, low=low, high=127)
        exact = rescale_once(t, wanted.multiplier, to="i8", zero=zero, low=low, high=127, bits=32)
        same = np.array_equal(twice, exact)
        assert straight(wanted).tolist() == [same]
        answers.add(same)
    if size > 0.002 and zero % 2 == 0:
        assert answers == {True}
    if size < 0.001 or zero % 2:
        assert False in answers


@pytest.mark.parametrize("multiplier", [1.5, 2.0**-23, 3 * 2.0**-23, -0.5, 1.0 / 3])
def test_addends_must_be_whole_numbers(multiplier: float) -> None:
    assert not straight(each(multiplier, 0, -128, 127, 10)).any()


def test_sums_must_be_floats_lowest_bits() -> None:
    assert straight(each(0.25, 0, -128, 127, (1 << 22) - 1)).all()
    assert not straight(each(0.25, 0, -128, 127, 1 << 22)).any()


def test_how_far_results_lie() -> None:
    assert farthest(each(0.25, -100, -128, 127, 1000)) == 350


@pytest.mark.parametrize("size", [2.0**-7, 0.75])
def test_rescalings_need_nothing_but_such_a_multiplier(size: float) -> None:
    factors = const(np.array([1.0, 1.25, 0.75, 0.5], np.float32).reshape(4, 1, 1) * np.float32(size))
    g = product("Edgec.ConvInteger", (1, 6, 5, 5), (4, 6, 3, 3), factors, zero=-4)
    node = once(g).outputs[0].node
    assert (node.op, len(node.args), node.attrs["zero"]) == ("Edgec.RescaleOnce", 2, -4)
    assert node.attrs["bits"] == (16 if size < 0.01 else 32)
    assert np.array_equal(const_array(node.args[0].node.args[2]), const_array(g.outputs[0].node.args[0].node.args[2]))
    x = RNG.integers(-128, 128, g.inputs[0].shape).astype(np.int8)
    np.testing.assert_array_equal(run(once(g), [x])[0], run(g, [x])[0])
