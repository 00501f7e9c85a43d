"""The memory planner: no two live buffers share a byte, and the arena is near the least possible."""

from __future__ import annotations

import random

import pytest

from edgec.compiler.memory.arena import Buffer, Layout, lower_bound, plan
from edgec.compiler.memory.spread import spread


def overlaps(buffers: list[Buffer], layout: Layout) -> list[tuple[str, str]]:
    placed = list(zip(buffers, layout.offsets, strict=True))
    return [
        (a.name, b.name)
        for i, (a, x) in enumerate(placed)
        for b, y in placed[:i]
        if a.first <= b.last and b.first <= a.last and x < y + b.bytes and y < x + a.bytes
    ]


def test_a_chain_needs_two_neighbours() -> None:
    chain = [Buffer(str(i), 100 + i, i, i + 1) for i in range(10)]
    assert plan(chain, align=1).bytes == lower_bound(chain) == 108 + 109


def test_disjoint_lives_share_one_place() -> None:
    assert plan([Buffer("a", 64, 0, 0), Buffer("b", 64, 1, 1)]).offsets == (0, 0)


def test_offsets_are_aligned() -> None:
    assert all(o % 64 == 0 for o in plan([Buffer(str(i), 10 * i + 1, 0, 5) for i in range(7)], align=64).offsets)


def test_nothing_to_place() -> None:
    assert plan([]).bytes == 0


@pytest.mark.parametrize("seed", range(20))
def test_random_lives_never_overlap_and_stay_near_the_bound(seed: int) -> None:
    rng = random.Random(seed)
    buffers = []
    for i in range(60):
        first = rng.randrange(50)
        buffers.append(Buffer(str(i), rng.randrange(1, 5000), first, min(50, first + rng.choice((1, 1, 2, 3, 15)))))
    layout = plan(buffers, align=16)
    assert overlaps(buffers, layout) == []
    assert layout.lower_bound <= layout.bytes <= 1.10 * layout.lower_bound


def test_the_plan_is_deterministic() -> None:
    buffers = [Buffer(str(i), 37 * i % 101 + 1, i % 7, i % 7 + 3) for i in range(40)]
    assert plan(buffers) == plan(buffers)


def test_what_shrinks_gives_its_memory_back() -> None:
    """100 bytes until step 2, then 20 of them: something larger fits above these."""
    buffers = [Buffer("a", 100, 0, 2, kept=20, until=5), Buffer("b", 80, 3, 4), Buffer("c", 30, 1, 2)]
    made = plan(buffers, align=1)
    assert made.bytes == made.lower_bound == 130
    at = dict(zip("abc", made.offsets, strict=True))
    assert at["b"] >= at["a"] + 20 or at["b"] + 80 <= at["a"]
    assert at["c"] >= at["a"] + 100 or at["c"] + 30 <= at["a"]


def test_both_ends_of_gaps_are_tried() -> None:
    """A chain whose second member must lie at the top for the third to fit beside its scratch."""
    sizes = [(3584, 1, 2), (256, 1, 1), (3072, 2, 3), (256, 2, 2), (3072, 3, 4), (768, 3, 3), (1920, 4, 5)]
    made = plan([Buffer(str(k), *row) for k, row in enumerate(sizes)], align=16)
    assert made.bytes == made.lower_bound == 6912


def test_without_effort_the_first_orders_alone_are_tried() -> None:
    sizes = [(3584, 1, 2), (256, 1, 1), (3072, 2, 3), (256, 2, 2), (3072, 3, 4), (768, 3, 3), (1920, 4, 5)]
    buffers = [Buffer(str(k), *row) for k, row in enumerate(sizes)]
    quick = spread(buffers, [0.0] * len(buffers), align=16, effort=0)
    assert overlaps(buffers, Layout(quick.offsets, quick.bytes, quick.lower_bound)) == []
    assert quick.bytes > spread(buffers, [0.0] * len(buffers), align=16).bytes
