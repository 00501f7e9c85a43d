"""Where the answers of a model in 8 bits are held against the float model's: at its outputs, but before a selection.

Which boxes of thousands stay (NonMaxSuppression, TopK), or which class is the largest (ArgMax), changes by leaps where
scores that are nearly equal change places: energies of errors say nothing there. What the selection reads says it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..dtypes import dtype
from ..ir import Graph, Node, Value
from ..op import OPS, is_const

SHARES = frozenset({"Sigmoid", "HardSigmoid"})
SOME = 0.01  # of a share's elements, that count as if they were 1: nothing to be found is an answer, too
SELECTIONS = frozenset({"TopK", "ArgMax", "ArgMin", "Edgec.NonMaxSuppression", "Edgec.NonZero", "Edgec.Unique"})


def judged(graph: Graph) -> list[tuple[str, Value]]:
    """Names and values that answers are judged by: each output, or the floats that selections read for it."""
    behind = _behind(graph)
    found: dict[Value, str] = {}
    for name, value in graph.results:
        before = _before(value.node, behind) if value.node in behind else []
        for one in before or [value]:
            found.setdefault(one, name if one == value else one.name)
    return [(name, value) for value, name in found.items()]


def selected(graph: Graph) -> list[str]:
    """Names of the outputs that are judged before a selection."""
    behind = _behind(graph)
    return [name for name, value in graph.results if value.node in behind and _before(value.node, behind)]


def least_energies(graph: Graph) -> list[float]:
    """Per element of each value that answers are judged by: errors of shares count beside 1, not beside how near all of
    them are to 0 where the calibration data show nothing of what a model looks for."""
    between = _shares(graph)
    return [SOME if value.node in between else 0.0 for _, value in judged(graph)]


def shares(graph: Graph) -> list[str]:
    """Names of the outputs that are shares, from 0 to 1."""
    between = _shares(graph)
    return [name for name, value in graph.results if value.node in between]


def _shares(graph: Graph) -> set[Node]:
    """The nodes whose elements all come from a function that goes from 0 to 1."""
    found = set[Node]()
    for node in graph.nodes():
        if OPS[node.op].kind == "map":
            computed = [a.node for a in node.args if not is_const(a)]
            if computed and found.issuperset(computed):
                found.add(node)
        elif node.op in SHARES:
            found.add(node)
    return found


def _behind(graph: Graph) -> set[Node]:
    """Selections of what products made, and what follows them to the outputs; not where products follow again, whose
    errors would not be seen."""
    made, behind, again = set[Node](), set[Node](), set[Node]()
    for node in graph.nodes():
        before = [a.node for a in node.args]
        product = OPS[node.op].kind == "contract"
        if product or made.intersection(before):
            made.add(node)
        if behind.intersection(before) or (node.op in SELECTIONS and made.intersection(before)):
            behind.add(node)
            if product or again.intersection(before):
                again.add(node)
    return behind - again


def _before(node: Node, behind: Iterable[Node]) -> list[Value]:
    """The computed floats that lead to nodes behind a selection, in the order in which these read them."""
    found: dict[Value, None] = {}
    seen, stack = set[Node](), [node]
    while stack:
        here = stack.pop()
        if here in seen:
            continue
        seen.add(here)
        for arg in reversed(here.args):
            if arg.node in behind or not (is_const(arg) or arg.node.op == "Input" or dtype(arg.type.dtype).is_float):
                stack.append(arg.node)
            elif dtype(arg.type.dtype).is_float and not is_const(arg) and arg.node.op != "Input":
                found.setdefault(arg)
    return list(found)
