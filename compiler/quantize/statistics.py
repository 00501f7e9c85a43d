"""Statistics of a tensor that come back to its elements, as the mean and the variance of a normalization do.

A normalization that the rules do not know as one is a chain of means, squares, roots and quotients. In 8 bits these are
far off: of squares nearly all fall below half a step, and a reciprocal of what may be small reaches over many powers of
ten. In f32 they cost next to nothing, since they have few elements; what they are combined with is computed in f32
then, as a LayerNormalization is, and rounded where a layer reads it.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..layers import constant, data_args
from ..op import OPS

AVERAGES = frozenset(["ReduceMean"])
STEEP = frozenset(["Log", "Reciprocal", "Sqrt"])
AWAY = 0.1  # a constant that is added before a steep function, as in log(1 + x), keeps its argument away from 0
CARRIED = frozenset("Reshape Transpose Expand Tile Slice Edgec.Layout Relu Clip".split())


def spread(graph: Graph) -> set[Node]:
    """The nodes that combine a statistic with more elements than it has, and the averages that lead to them."""
    known: set[Value] = set()
    combined: list[Node] = []
    for node in graph.nodes():
        data = data_args(node)
        of_statistics = bool(data) and all(a in known for a in data)
        elementwise = OPS[node.op].kind == "elementwise"
        if node.op in AVERAGES or (of_statistics and (elementwise or node.op in CARRIED)):
            known.update(node.results)
        elif elementwise and any(a in known and a.type.size < node.types[0].size for a in data):
            combined.append(node)
    found, stack = set(combined), [a for node in combined for a in data_args(node) if a in known]
    while stack:
        node = stack.pop().node
        if node not in found:
            found.add(node)
            stack.extend(a for a in data_args(node) if a in known and node.op not in AVERAGES)
    return found


def steep(node: Node) -> bool:
    """Whether a node magnifies what is small: errors of half a step near 0 become as large as the result, or infinite,
    and logarithms of power spectra, say, are mostly of what is small. Such arguments stay f32."""
    if node.op == "Div" and constant(node.args[1]) is None:
        return not _away(node.args[1])
    return node.op in STEEP and not _away(node.args[0])


def _away(value: Value) -> bool:
    """Whether something is added to a value that is not computed, and not small."""
    if value.node.op != "Add":
        return False
    added = [array for a in value.node.args if (array := constant(a)) is not None]
    return any(array.size and float(array.min()) >= AWAY for array in added)
