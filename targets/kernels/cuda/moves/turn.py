"""turn__cuda: what only moves numbers (transposes, layouts, slices, repeats), with elementwise operators around it.

The way of one operand to the result is a list of pieces, each a stride here and one there. Where the same piece is the
innermost on both sides, threads copy stretches of it; else tiles of two pieces pass through shared memory, so that both
sides are touched in neighbouring stretches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node, Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.op import OPS, is_const
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.strides import Axis, View, moved

from ...common import ceil_div, power_of_two
from ...generic.choice import CHANNELS_LAST
from ..cost import memory_us
from ..vectors import KINDS

NAME = "turn__cuda"
VIEWS = frozenset({"Transpose", "Reshape", "Slice", "Split", "Expand", "Edgec.Layout"})
BLOCK = 128
TILE = {1: 64, 2: 64, 4: 32}  # side of a tile, by bytes of an element
LEAST_SIDE = 8  # of a piece that is tiled


@dataclass(frozen=True)
class Piece:
    """`n` numbers, `source` elements apart where they come from and `to` where they go."""

    n: int
    source: int
    to: int


@dataclass(frozen=True)
class Way:
    """How `value` becomes the result: pieces, outermost in the result first, from element `offset` on."""

    value: Value
    offset: int
    pieces: tuple[Piece, ...]
    plain: bool  # nothing is computed

    @property
    def inner(self) -> Piece:
        """Neighbours in the result."""
        return self.pieces[-1]

    @property
    def outer(self) -> Piece | None:
        """Neighbours in the source, where those of the result are none there."""
        return next((p for p in self.pieces if p.source == 1 and p is not self.inner), None)

    def at_once(self, along: Piece, most: int, source: bool) -> int:
        """Elements of an access along a piece."""
        others = [p.source if source else p.to for p in self.pieces if p is not along]
        size = power_of_two(most, along.n)
        while size > 1 and any(x % size for x in (*others, self.offset if source else 0)):
            size //= 2
        return size


def way(problem: Problem, layout_in: str | None, layout_out: str) -> Way | None:
    """The way of the largest operand that has one; `layout_in` None: as its type says."""
    out = problem.body.outputs[0]
    uses = problem.body.uses()
    found: list[list[tuple[Node, int]]] = []
    _chains(problem, out, [], found)
    chains = [(chain, chain[-1][0].args[k]) for chain in found if (k := _argument(problem, chain)) is not None]
    for chain, value in sorted(chains, key=lambda c: -c[1].type.size):
        middle = [Value(node, index) for node, index in chain[1:]]
        if any(uses[v] != 1 for v in (value, *middle)) or not any(n.op in VIEWS for n, _ in chain):
            continue
        text = value.type.layout if layout_in is None else layout_in
        if (made := _way(chain, value, text, Type(out.type.dtype, out.shape, layout_out))) is not None:
            return made
    return None


def _chains(problem: Problem, value: Value, above: list[tuple[Node, int]], found: list[list[tuple[Node, int]]]) -> None:
    """Lists of nodes from the output down to one that reads an input, through arguments of its own shape."""
    node = value.node
    here = [*above, (node, value.index)]
    if OPS[node.op].kind == "source" or len(found) > 8:
        return
    arguments = [a for a in node.args if not is_const(a) and (node.op in VIEWS or a.shape == value.shape)]
    if any(a in problem.body.inputs for a in arguments):
        found.append(here)
    for a in arguments:
        if a not in problem.body.inputs:
            _chains(problem, a, here, found)


def _argument(problem: Problem, chain: list[tuple[Node, int]]) -> int | None:
    """Which argument of a chain's last node is the input that it reads."""
    node, index = chain[-1]
    shape = node.types[index].shape
    fits = [k for k, a in enumerate(node.args) if a in problem.body.inputs and (node.op in VIEWS or a.shape == shape)]
    return fits[0] if fits else None


def _strides(t: Type) -> list[int]:
    """Of each logical axis."""
    order = layout(t.layout, len(t.shape)).order
    strides = [0] * len(order)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= t.shape[axis]
    return strides


def _way(chain: Sequence[tuple[Node, int]], value: Value, text: str, out: Type) -> Way | None:
    if layout(text, len(value.shape)).blocks or layout(out.layout, len(out.shape)).blocks:
        return None
    strides = _strides(Type(value.type.dtype, value.shape, text))
    axes = tuple(((n, s),) if n > 1 else () for n, s in zip(value.shape, strides, strict=True))
    view: View | None = View(value, 0, axes)
    plain = True
    for node, index in reversed(chain):
        if node.op not in VIEWS:
            plain = False
        elif node.op != "Edgec.Layout":
            view = view and moved(view, node, index)
    if view is None:
        return None
    pieces = [p for axis, step in zip(view.axes, _strides(out), strict=True) for p in _pieces(axis, step)]
    merged: list[Piece] = []
    for p in sorted(pieces, key=lambda p: -p.to):
        last = merged[-1] if merged else None
        if last and last.to == p.n * p.to and last.source == p.n * p.source:
            merged[-1] = Piece(last.n * p.n, p.source, p.to)
        else:
            merged.append(p)
    return Way(value, view.offset, tuple(merged), plain) if merged else None


def _pieces(axis: Axis, step: int) -> list[Piece]:
    found = []
    for n, stride in reversed(axis):
        found.append(Piece(n, stride, step))
        step *= n
    return found


# -- the row -----------------------------------------------------------------------------------------------------------


def match(problem: Problem) -> Literal[True] | str:
    body = problem.body
    if len(body.outputs) != 1 or not body.outputs[0].type.size:
        return "has one output"
    for node in body.nodes():
        if node.op not in VIEWS and OPS[node.op].kind not in ("elementwise", "source"):
            return f"moves numbers; {node.op} does more"
    return True if choices(problem) else "finds no operand whose numbers move in stretches"


def choices(problem: Problem) -> Sequence[Choice]:
    out = problem.body.outputs[0]
    fixed = bool(out.type.layout) or any(
        v.type.layout or n.op == "Edgec.Layout" for v in problem.body.inputs for n in problem.body.nodes()
    )
    outs = [out.type.layout] if fixed else ["", *_last(out)]
    found = []
    for to in outs:
        seen = way(problem, None, to)
        if seen is None:
            continue
        for text in [seen.value.type.layout] if fixed else ["", *_last(seen.value)]:
            made = way(problem, text, to)
            if made is not None and (tiles := _tiles(made, out.type)) is not None:
                found.append(_choice(problem, made, text, to, tiles))
    return found


def _last(value: Value) -> list[str]:
    rank = len(value.shape)
    return [CHANNELS_LAST[rank]] if rank in CHANNELS_LAST else []


def _tiles(made: Way, out: Type) -> tuple[int, int, int] | None:
    """(side of a tile or 0, elements read at once, elements written at once)."""
    kinds = made.value.type.dtype, out.dtype
    size = max(dtype(kind).bytes for kind in kinds)
    if size not in TILE or (not made.plain and not set(kinds) <= KINDS.keys()):
        return None
    most = 16 // size
    if made.inner.source == 1:
        at_once = min(made.at_once(made.inner, most, True), made.at_once(made.inner, most, False))
        return (0, at_once, at_once) if at_once > 1 and at_once * min(dtype(k).bytes for k in kinds) >= 4 else None
    if made.outer is None or min(made.inner.n, made.outer.n) < LEAST_SIDE or made.inner.to != 1:
        return None
    read, written = made.at_once(made.outer, most, True), made.at_once(made.inner, most, False)
    return TILE[size], _words(read, kinds[0]), _words(written, kinds[1])


def _words(at_once: int, kind: str) -> int:
    """Accesses of fewer bytes than a word take one element each."""
    return at_once if at_once * dtype(kind).bytes >= 4 else 1


def _choice(problem: Problem, made: Way, text: str, to: str, tiles: tuple[int, int, int]) -> Choice:
    gpu = problem.target.gpu
    assert gpu is not None
    side, read, written = tiles
    size = dtype(made.value.type.dtype).bytes
    # accesses that do not fill 16 bytes take as long as those that do
    slow = (8 / min(8, read * size) + 8 / min(8, written * size)) / 2
    in_flight = min(problem.body.outputs[0].type.size * size, gpu.multiprocessors * 16384)
    us = gpu.launch_us + (0.8 if side else 0.5) + slow * memory_us(gpu, problem.bytes_moved, in_flight)
    read_as = tuple(text if v == made.value else None for v in problem.body.inputs)
    return Choice(NAME, read_as, (to,), (("side", side), ("read", read), ("written", written)), us)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .turn_emit import turned

    made = way(problem, None, problem.body.outputs[0].type.layout)
    assert made is not None
    return turned(problem, symbol, made, choice.get("side"), choice.get("read"), choice.get("written"))


def blocks_of(made: Way, side: int, at_once: int) -> int:
    """Blocks of the grid."""
    if not side:
        return ceil_div(prod(p.n for p in made.pieces) // at_once, BLOCK)
    assert made.outer is not None
    rest = prod(p.n for p in made.pieces) // (made.inner.n * made.outer.n)
    return rest * ceil_div(made.inner.n, side) * ceil_div(made.outer.n, side)


kernel(
    Row(
        NAME,
        frozenset(),
        match,
        choices,
        emit,
        "transposes, layouts and slices in long accesses, with elementwise operators",
        isa=frozenset({"CUDA"}),
    )
)
