"""Functions of real numbers of which only bytes remain: in stated steps, as accurate as bytes show."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS, build
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.ops.near import NEAR
from edgec.compiler.session import Session

# what gives no more digits than its arguments have, beside maps
PLAIN = frozenset("Add Mul Relu Clip Min Max MaxPool AveragePool ReduceMean QuantizeLinear Edgec.Rescale".split())


def has_steps(session: Session) -> bool:
    """Whether the target has an instruction for each step."""
    return session.target is None or all(program.fuses for program in session.target.programs)


def is_near(value: Value) -> bool:
    """Whether a value is a function that has steps, or a product with one."""
    node = value.node
    found = (node, *(a.node for a in node.args)) if node.op == "Mul" else (node,)
    return value.type.dtype == "f32" and any(map(_has_steps, found))


def _has_steps(node: Node) -> bool:
    """Gelu by the hyperbolic tangent, which is off by 5e-4, is another function."""
    return node.op in NEAR and node.types[0].dtype == "f32" and node.attrs.get("approximate", "none") == "none"


def near_functions(g: Graph, session: Session) -> Graph:
    """The graph with steps for functions in f32 whose every reader makes bytes of them."""
    if not has_steps(session):
        return g
    nodes = list(g.nodes())
    read = _read_with_all_digits(g, nodes)
    near = iter([_has_steps(n) and not read.intersection(n.results) for n in nodes])

    def nearly(node: Node) -> Value | None:
        if not next(near) or not session.step("integers", node):
            return None
        numbers = {name: x for name, x in node.attrs.items() if name != "approximate"}
        return build(NEAR[node.op], *node.args, origin=node.origin, label=node.name, **numbers)

    return g.map(nearly)


def _read_with_all_digits(g: Graph, nodes: Sequence[Node]) -> set[Value]:
    """Values that are outputs, or are read by more than bytes and what comes before them."""
    found = set(g.outputs)
    for node in reversed(nodes):
        digits = any(v in found and v.type.dtype not in BYTES for v in node.results)
        if digits or not (node.op in PLAIN or OPS[node.op].kind == "map" or node.op in NEAR):
            found.update(node.args)
    return found
