"""The cost model asks one thing of every row: from which cache bytes come, and how long what follows the anchor is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgec.compiler.registry import choices
from edgec.targets.kernels.cost import streamed
from tests.support.convolutions import Case
from tests.support.harness import target

CPU = target("x86").cpu


def test_bytes_come_from_the_cache_that_holds_them() -> None:
    sizes = {"near": CPU.l2 // 2, "middle": CPU.l3 // 2, "far": CPU.l3}
    found = {level: streamed(CPU, moved) for level, moved in sizes.items()}
    assert all(getattr(traffic, level) == sizes[level] for level, traffic in found.items())
    rates = [sizes[level] / traffic.cycles(CPU) for level, traffic in found.items()]
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 3


@pytest.mark.parametrize(
    ("row", "case"),
    [
        ("conv_f32_pointwise", Case((1, 32, 14, 14), 32, (1, 1))),
        ("conv_f32_tile", Case((1, 16, 14, 14), 32, (3, 3), pads=(1, 1, 1, 1))),
        ("conv_f32_winograd", Case((1, 64, 28, 28), 64, (3, 3), pads=(1, 1, 1, 1))),
        ("conv_f32_depthwise", Case((1, 32, 14, 14), 32, (3, 3), pads=(1, 1, 1, 1), group=32)),
    ],
)
def test_every_row_counts_an_exponential_as_many_operations(row: str, case: Case) -> None:
    def least(then: str) -> float:
        problem = Case(**{**vars(case), "then": then}).problem(target("x86"))
        return min(c.cost_us for c in choices(problem) if c.row == row)

    assert least("+") - least("Relu") > 3 * (least("Relu") - least("")) > 0


def test_dot_products_of_512_bits_take_two_steps_where_multiply_adds_do() -> None:
    """Else int8 would seem eight times as fast as f32 there, in place of four."""
    from edgec.targets.kernels.int8.tiles import VNNI, step_cycles

    whole = target("x86-avx512").cpu
    halves = replace(whole, fma_per_cycle=1.0)
    assert step_cycles(halves, VNNI, 14, 2) == 2 * step_cycles(whole, VNNI, 14, 2)
