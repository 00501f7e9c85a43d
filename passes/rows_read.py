"""Which rows of its arguments a fused kernel reads for some rows of its result, and the kernel's body for those rows.

Rows are the first spatial axis: of images their lines, of sequences their elements. Windows (convolutions, pooling)
read the rows that their taps reach; what of these lies outside the image stays padding. Elementwise nodes read the rows
that they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import OPS, full_attrs, ints_attr, is_const, rebuild
from edgec.compiler.ops.common import fill

AXIS = 2  # N, C, rows ...
CONVERSION = "Edgec.Layout"
_CONVOLUTIONS = frozenset({"Conv", "Edgec.ConvInteger"})
_POOLS = frozenset({"MaxPool", "AveragePool", "Edgec.SumPool"})


@dataclass(frozen=True)
class Rows:
    """Rows start .. stop-1."""

    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start

    def joined(self, other: Rows | None) -> Rows:
        """The least rows that hold both."""
        return self if other is None else Rows(min(self.start, other.start), max(self.stop, other.stop))

    def within(self, outer: Rows) -> Rows:
        """The same rows, counted from the first of `outer`."""
        return Rows(self.start - outer.start, self.stop - outer.start)


Demand = dict[Value, Rows | None]  # None: all of it


def rows_read(body: Graph, want: Rows) -> Demand | str:
    """For each value of a body with one result the rows that `want` of the result take; or why it has no such rows."""
    if len(body.outputs) != 1:
        return "it has several results"
    demand: Demand = {body.outputs[0]: want}
    for node in reversed(list(body.nodes())):
        if node.op in ("Input", "Const"):
            continue
        rows = demand.get(Value(node))
        if rows is None or len(node.types) != 1:
            return f"{node.op} is no image of rows"
        for arg, needed in _arguments(node, rows):
            if isinstance(needed, str):
                return needed
            if arg in demand and demand[arg] != needed:
                return f"{arg.name} is read at different rows"
            if needed is not None and arg.node.op == "Const":
                return f"{arg.name} differs from row to row"
            demand[arg] = needed
    return demand


def separated(body: Graph, args: Sequence[Value]) -> tuple[Graph, tuple[Value, ...]]:
    """The same kernel with an input for each node that reads rows, so that each may read rows of its own."""
    inputs, given = list(body.inputs), list(args)
    seen: set[Value] = set()

    def own(node: Node) -> tuple[Value, ...] | None:
        new: dict[Value, Value] = {}
        for arg in dict.fromkeys(node.args):
            if arg in body.inputs and len(arg.shape) > AXIS and not is_const(args[body.inputs.index(arg)]):
                if arg in seen:
                    new[arg] = Value(replace(arg.node, name=f"a{len(inputs)}"))
                    inputs.append(new[arg])
                    given.append(args[body.inputs.index(arg)])
                seen.add(arg)
        return replace(node, args=tuple(new.get(a, a) for a in node.args)).results if new else None

    outputs = body.map(own).outputs
    return Graph(body.name, tuple(inputs), outputs), tuple(given)


def cut_body(body: Graph, demand: Demand) -> Graph:
    """The body for the rows that `rows_read` found."""
    known: dict[Value, Value] = {}
    for node in body.nodes():
        if node.op == "Input":
            made = replace(node, types=(cut_type(node.types[0], demand.get(Value(node))),))
        elif node.op == "Const":
            made = node
        else:
            args = [known[a] for a in node.args]
            rows = demand[Value(node)]
            assert rows is not None
            pads = {"pads": _pads(node, rows)} if _is_window(node) else {}
            made = rebuild(node, args, **pads)
        known.update(zip(node.results, made.results, strict=True))
    return body.with_values(tuple(known[v] for v in body.inputs), tuple(known[v] for v in body.outputs))


def cut_type(t: Type, rows: Rows | None) -> Type:
    """The type of some rows of a value."""
    return t if rows is None else replace(t, shape=(*t.shape[:AXIS], rows.count, *t.shape[AXIS + 1 :]))


def _is_window(node: Node) -> bool:
    return node.op in _CONVOLUTIONS or node.op in _POOLS


def _arguments(node: Node, rows: Rows) -> Sequence[tuple[Value, Rows | str | None]]:
    """Each argument with the rows that are read of it; a text: why that cannot be said."""
    shape = node.types[0].shape
    if len(shape) <= AXIS or shape[AXIS] < 2:
        return [(Value(node), f"{node.op} has no rows")]
    if _is_window(node):
        if node.op in _POOLS and full_attrs(node)["ceil_mode"]:
            return [(Value(node), f"{node.op} rounds its size up")]
        low, high = _reach(node, rows)
        read = Rows(max(low, 0), min(high, node.args[0].shape[AXIS]))
        if read.count < 1:
            return [(Value(node), f"{node.op} has rows of padding alone")]
        return [(node.args[0], read), *((a, None) for a in node.args[1:])]
    if node.op == CONVERSION:
        return [(node.args[0], rows)]
    if OPS[node.op].kind != "elementwise":
        return [(Value(node), f"{node.op} does not go row by row")]
    return [(a, _elementwise(a, shape, rows)) for a in node.args]


def _elementwise(arg: Value, shape: Sequence[int], rows: Rows) -> Rows | str | None:
    axis = AXIS - (len(shape) - len(arg.shape))
    if axis < 0 or arg.shape[axis] == 1:
        return None
    return rows if len(arg.shape) == len(shape) else f"{arg.name} has rows at another axis"


def _window(node: Node) -> tuple[int, int, int, int]:
    """Taps, stride, dilation and padding before the first row."""
    rank = len(node.types[0].shape) - AXIS
    taps = node.args[1].shape[AXIS] if node.op in _CONVOLUTIONS else ints_attr(node, "kernel_shape")[0]
    strides, dilations = (fill(ints_attr(node, key), rank, 1, key) for key in ("strides", "dilations"))
    return taps, strides[0], dilations[0], fill(ints_attr(node, "pads"), 2 * rank, 0, "pads")[0]


def _reach(node: Node, rows: Rows) -> tuple[int, int]:
    """First row that a window touches and the one behind the last, perhaps outside the image."""
    taps, stride, dilation, begin = _window(node)
    return rows.start * stride - begin, (rows.stop - 1) * stride + (taps - 1) * dilation + 1 - begin


def _pads(node: Node, rows: Rows) -> tuple[int, ...]:
    """The node's pads where only `rows` of its result are computed."""
    rank = len(node.types[0].shape) - AXIS
    pads = list(fill(ints_attr(node, "pads"), 2 * rank, 0, "pads"))
    low, high = _reach(node, rows)
    pads[0], pads[rank] = max(-low, 0), max(high - node.args[0].shape[AXIS], 0)
    return tuple(pads)
