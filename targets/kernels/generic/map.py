"""generic_map: any body of map and elementwise operators, in any layouts, with any number of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import physical_shape, storage_bytes
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import LIGHT
from ..cost import by_lane
from .choice import choices, phases_us, placed, repeated_us, traffic_us, vector_lanes

if TYPE_CHECKING:
    from .nest import Region
    from .space import Group, Space

NEAR = 32 << 10  # bytes of the nearest cache
WIDEST = 4  # bytes of elements that are turned together with narrower ones
LITTLE = LIGHT | {"QuantizeLinear", "DequantizeLinear"}


def match(problem: Problem) -> Literal[True] | str:
    for node in problem.body.nodes():
        if OPS[node.op].kind not in ("map", "elementwise", "source"):
            return f"computes maps and elementwise operators, not {node.op}"
        if node.op == "Edgec.Select":
            return "selects no channels"
    return True


def offers(problem: Problem) -> Sequence[Choice]:
    found, us = choices("generic_map", problem, traffic_us(problem)), repeated_us(problem) + phases_us(problem)
    found += [offer] if (offer := placed(problem)) else []
    if not us or any(v.type.layout for v in problem.body.outputs):
        return found
    inputs, outputs = len(problem.body.inputs), len(problem.body.outputs)
    return [*found, Choice("generic_map", ("",) * inputs, ("",) * outputs, cost_us=traffic_us(problem) - us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .kernel import kernel_function
    from .nest import joined

    groups: dict[tuple[Any, ...], list[Value]] = {}
    for value in dict.fromkeys(v for v in problem.body.outputs if v.type.size):
        groups.setdefault((value.type.shape, value.type.layout), []).append(value)

    def regions(io: Any) -> Region:
        return joined([r for values in groups.values() for r in _regions(problem, io, values)])

    return kernel_function(problem, symbol, regions)


def _regions(problem: Problem, io: Any, values: list[Value]) -> list[Region]:
    """The boxes of the outputs' index space between breaks: one after the other, or where they are large in turns."""
    from .breaks import breaks, shared, true_boxes
    from .nest import in_turns

    inputs = frozenset(problem.body.inputs)
    lead = values[0]
    walked = _walked(problem, lead)
    axes = [set.union(*(breaks(v, inputs)[k] for v in values)) for k in range(len(lead.shape))]
    boxes = true_boxes(walked, axes)
    outer = shared(boxes, physical_shape(walked)) if _is_large(problem, values) else 0
    made = [_box(problem, io, values, walked, box, outer) for box in boxes]
    spaces, regions = [space for space, _ in made], [region for _, region in made]
    if not outer:
        return regions
    unit = sum(prod(end - start for start, end in box[outer:]) for box in boxes)
    return [in_turns(spaces, regions, outer, unit, problem.threads)]


def _is_large(problem: Problem, values: list[Value]) -> bool:
    """Whether an output would have left the nearest cache before the next box of it is written."""
    return not problem.target.gpu and any(storage_bytes(v.type) > NEAR for v in values)


def _box(
    problem: Problem, io: Any, values: list[Value], walked: Type, box: list[tuple[int, int]], outer: int
) -> tuple[Space, Region]:
    """The loops over one box, and what they do; `outer` leading dimensions are left to who runs several boxes."""
    from ... import tir
    from .kernel import logical
    from .nest import Nest
    from .turn import turn, turned
    from .weave import weave, woven

    lead = values[0]
    space = io.space(box, given=outer)

    def index() -> Any:
        return logical(walked, space.loops)

    def element(_: Any = None) -> Any:
        return tir.seq(io.store(space, v, space.body.at(v, index()), index()) for v in values)

    space.trace(element)
    lanes = vector_lanes(problem)
    kind, across = _turning(problem, lead, lanes)
    if kind:
        made, write = partial(_element, space, lead, index, kind), partial(_stored, io, space, lead, index)
        if tiles := turn(space, across, dtype(lead.type.dtype).bytes):
            return space, turned(tiles, made, write, problem.threads, kind)
        wide = max(across, lanes) if dtype(lead.type.dtype).bytes < 4 else across
        if not problem.target.microcontroller and (few := weave(space, wide)):
            return space, woven(few, made, write, problem.threads, kind)
    vector = space.vector_group(lanes) if space.groups else None
    lanes = 4 * lanes if vector and _narrows(problem, vector) else lanes
    order = [g for g in space.groups if g is not vector] + ([vector] if vector else [])
    nest = Nest(space, order, lanes, space.period(vector, lanes) if vector else 1)
    return space, nest.run(lambda points: tir.seq(point(element) for point in points), problem.threads)


def _element(space: Space, value: Value, index: Callable[[], Any], kind: str) -> Any:
    return space.body.at(value, index()).astype(kind)


def _stored(io: Any, space: Space, value: Value, index: Callable[[], Any], x: Any) -> Any:
    from ...conversions import held

    return io.store(space, value, x.astype(held(value.type.dtype)), index())


def _turning(problem: Problem, lead: Value, lanes: int) -> tuple[str, int]:
    """The element type of tiles that are transposed in registers, and their side: the result's, in which every element
    is computed before its tile is turned.

    A side of 16 bytes is a block of channels, whatever the width of vectors. On a Cortex-M no bytes are, and no
    elements of different widths: it has no instructions for that.
    """
    from ...conversions import held, stored

    widths = {dtype(v.type.dtype).bytes for v in (*problem.body.inputs, lead)}
    bytes_apart = problem.target.microcontroller and (lead.type.dtype != "f32" or len(widths) > 1)
    if problem.target.gpu or lanes == 1 or bytes_apart or (len(widths) > 1 and max(widths) > WIDEST):
        return "", lanes
    side = {1: min(16, 4 * lanes), 2: 8, 4: min(8, lanes), 8: lanes // 2}[dtype(lead.type.dtype).bytes]
    return (stored if lead.type.dtype == "bool" else held)(lead.type.dtype), side


def _narrows(problem: Problem, vector: Group) -> bool:
    """Whether four vectors of little code on floats become one of bytes: NEON narrows them pair by pair."""
    if not by_lane(problem.target.cpu) or not {0, 1}.issuperset(vector.strides):
        return False
    light = all(n.op in LITTLE or OPS[n.op].kind in ("map", "source") for n in problem.body.nodes())
    return light and all(v.type.dtype in ("i8", "u8") for v in problem.body.outputs)


def _walked(problem: Problem, lead: Value) -> Type:
    """The type in whose memory order the outputs are visited: an argument's blocks of channels where they have none."""
    if lead.type.layout:
        return lead.type
    for v in problem.body.inputs:
        if v.type.layout.endswith("c") and len(v.shape) == len(lead.shape) and v.shape[1] == lead.shape[1]:
            return replace(lead.type, layout=v.type.layout)
    return lead.type


kernel(
    Row(
        name="generic_map",
        ops=frozenset(),
        match=match,
        choices=offers,
        emit=emit,
        summary="any chain of maps and elementwise operators, any layout",
    )
)
