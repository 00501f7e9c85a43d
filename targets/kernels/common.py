"""What every template asks of a fused body: where the anchor's operands come from, and which layouts the rest needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Literal

from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.op import OPS, int_attr
from edgec.compiler.registry import Problem
from edgec.compiler.target import Cpu

from .generic.choice import DEAR, DEAR_CYCLES, DIVISION, divides
from .generic.choice import byte_layout as byte_layout

# elementwise operators of a few instructions; of any other, one copy per pixel of a tile would dwarf the kernel
LIGHT = frozenset(
    {"Relu", "Clip", "Add", "Sub", "Mul", "Neg", "Abs", "Max", "Min", "LeakyRelu", "PRelu", "HardSigmoid"}
) | {"Edgec.Rescale", "Edgec.RescaleOnce"}
TASK_US = 20.0  # a task of about this length keeps threads busy
NARROW = frozenset({"f16", "i8"})  # how weights may be stored that are multiplied as f32
LOOKUP = 3.0  # instructions of a table's element: its place leaves a vector, and it enters another
# instructions, besides, of operators between bytes and floats on a vector: for each term of a Rescale, for a scale and
# its zero point, for a slope
WRITTEN_OUT = {
    "Edgec.Rescale": 5.0,
    "Edgec.RescaleOnce": 3.0,
    "QuantizeLinear": 12.0,
    "DequantizeLinear": 3.0,
    "PRelu": 2.0,
}
WIDENING = 2.0  # instructions that make f32 of a vector of them


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def unblocked(t: Type) -> Type:
    """Channels in blocks that lie innermost are channels in a row, padding included."""
    letters = t.layout.rstrip("c0123456789")
    if letters not in ("NHWC", "NWC") or t.layout == letters:
        return t
    block = layout(t.layout, len(t.shape)).block(1)
    shape = (t.shape[0], ceil_div(t.shape[1], block) * block, *t.shape[2:])
    return Type(t.dtype, shape, letters, t.q)


def computed_lanes(kept: int, lanes: int) -> int:
    """Lanes with which a vector is computed of whose `lanes` the first are kept: half of 512 bits where that will do,
    since a core may take two of these in the time of one."""
    return lanes // 2 if lanes == 16 and kept <= lanes // 2 else lanes


def input_index(body: Graph, value: Value) -> int:
    """Position of a body input; -1 where the value is computed in the body or a literal."""
    return body.inputs.index(value) if value in body.inputs else -1


def epilogue_fits(problem: Problem) -> Literal[True] | str:
    """True where all that follows the anchor is elementwise, of its shape, and ends in one f32 output."""
    body, anchor = problem.body, problem.anchor
    if len(body.outputs) != 1 or len(anchor.types) != 1:
        return "has several outputs"
    shape = anchor.types[0].shape
    for node in body.nodes():
        if node is anchor or OPS[node.op].kind == "source":
            continue
        if OPS[node.op].kind != "elementwise":
            return f"the body holds {node.op} beside {anchor.op}"
        if node.types[0].shape != shape and depends(node, anchor):
            return f"{node.op} changes the shape after {anchor.op}"
    if body.outputs[0].shape != shape:
        return "the output's shape is not the anchor's"
    return True


def in_memory(problem: Problem, operand: Value) -> Value:
    """Where an operand of the anchor lies: the body input behind a Cast that widens weights, or the operand itself."""
    node = operand.node
    if node.op == "Cast" and operand.type.dtype == "f32" and node.args[0].type.dtype in NARROW:
        return node.args[0] if node.args[0] in problem.body.inputs else operand
    return operand


def in_blocks(node: Node) -> bool:
    """Whether a node widens numbers with a scale per block of them: weights, which its kernel reads so."""
    return node.op == "DequantizeLinear" and int_attr(node, "block") > 0


def after_anchor(problem: Problem) -> list[Node]:
    """The elementwise nodes of a body, its anchor apart: those before it as well, but not what widens its weights."""
    anchor = problem.anchor
    apart = {anchor, *(a.node for a in anchor.args if in_memory(problem, a) != a or in_blocks(a.node))}
    return [n for n in problem.body.nodes() if n not in apart and OPS[n.op].kind == "elementwise"]


def heavy(problem: Problem) -> bool:
    """Whether what follows the anchor is long code."""
    return not LIGHT.issuperset(n.op for n in after_anchor(problem))


def operations(problem: Problem) -> float:
    """Instructions per vector of results, about: the anchor's store and the elementwise nodes."""
    return 1.0 + instructions(after_anchor(problem))


def byte_operations(problem: Problem) -> float:
    """The same after sums of integers. What does not end in packed bytes passes a vector of sums at a time: rescaling
    and quantization are written out."""
    whole, nodes = operations(problem), after_anchor(problem)
    if all(n.op in ("Edgec.Rescale", "Edgec.Table") for n in nodes):
        return whole
    return whole + sum(WRITTEN_OUT.get(n.op, 0.0) * max(1, len(n.args) // 2) for n in nodes)


def lookups(problem: Problem) -> float:
    """Instructions per vector, besides, of tables after the anchor whose elements are looked up one by one."""
    return LOOKUP * problem.target.cpu.lanes(32) * sum(n.op == "Edgec.Table" for n in after_anchor(problem))


def instructions(nodes: Iterable[Node]) -> float:
    """Instructions per vector of elementwise nodes, about."""
    return sum(DEAR_CYCLES if n.op in DEAR else DIVISION if divides(n) else 1.0 for n in nodes)


def depends(node: Node, on: Node) -> bool:
    """Whether `node` needs `on`, directly or not."""
    stack, seen = [node], set[Node]()
    while stack:
        here = stack.pop()
        if here is on:
            return True
        stack += [a.node for a in here.args if a.node not in seen]
        seen.add(here)
    return False


def vectors_fit(problem: Problem, *operands: Value, weights: Value | None = None) -> Literal[True] | str:
    """True where all is f32, the anchor reads these operands as they lie, and the target has room for a tile.

    `weights` are one more operand, which may be widened as it is read.
    """
    wide = operands if weights is None else (*operands, weights)
    if not f32(*(v.type for v in wide), problem.anchor.types[0]):
        return "computes f32"
    if any(input_index(problem.body, v) < 0 for v in operands):
        return "reads an operand through a computation"
    if weights is not None and input_index(problem.body, in_memory(problem, weights)) < 0:
        return "reads an operand through a computation"
    if not problem.target.cpu.has_vectors:
        return "needs vector registers"
    return True


def layouts_in(problem: Problem, fixed: Mapping[Value, str], blocked: str = "") -> tuple[str, ...]:
    """One layout per body input: `fixed` for the anchor's operands, `blocked` where it fits, else row-major."""
    shape = problem.anchor.types[0].shape

    def of(value: Value) -> str:
        if value in fixed:
            return fixed[value]
        same = len(value.shape) == len(shape) and value.shape[1] == shape[1]
        return blocked if same else ""

    return tuple(of(v) for v in problem.body.inputs)


def spread(tasks: int, threads: int) -> float:
    """How much longer than an equal share the largest share of equal tasks is."""
    return ceil_div(tasks, threads) * threads / tasks


def task_split(total: int, unit_us: float, threads: int) -> int:
    """How many of `total` equal pieces of work make one task, where a task has a cost of its own: about TASK_US, but at
    least a few tasks per thread."""
    per_task = max(1, int(TASK_US / max(unit_us, 1e-3)))
    if threads > 1:
        per_task = min(per_task, ceil_div(total, 4 * threads))
    return min(per_task, total)


def f32(*types: Type) -> bool:
    return all(t.dtype == "f32" for t in types)


def blocked_layout(rank: int, lanes: int) -> str:
    """The activation layout with channels in blocks: NCW16c, NCHW16c."""
    return f"{'NCHW' if rank == 4 else 'NCW'}{lanes}c"


def power_of_two(limit: int, n: int) -> int:
    """The largest power of two, up to `limit`, that divides n."""
    size = 1
    while size * 2 <= limit and n % (size * 2) == 0:
        size *= 2
    return size


def rounds(n: int, size: int) -> float:
    """Padded over true size of an axis in blocks."""
    return ceil(n / size) * size / n


def permutes(cpu: Cpu) -> bool:
    """Whether one instruction takes bytes from anywhere in two vectors."""
    return cpu.vector_bits == 512 and "AVX512VBMI" in cpu.isa
