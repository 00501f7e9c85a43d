"""A plugin of edgec. Importing this module is all that edgec does; it registers everything below."""

from pathlib import Path

import numpy as np

from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import build
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.plugins import rules_file, target_file
from edgec.compiler.rules.helpers import Answer, Context, guard, helper
from edgec.compiler.session import Session

HERE = Path(__file__).parent


@graph_pass("demo-hard-sigmoid", promise=close, after={"canonicalize": "it brings clips to one form"})
def hard_sigmoid(graph: Graph, *, slope: float = 0.2, session: Session) -> Graph:
    """Replaces Sigmoid by HardSigmoid, which needs no exponential."""

    def replaced(node: Node) -> Value | None:
        if node.op != "Sigmoid" or not session.step("hard_sigmoid", node):
            return None
        return build("HardSigmoid", *node.args, origin=node.origin, label=node.name, alpha=slope)

    return graph.map(replaced)


@guard("demo_even")
def even(context: Context, value: Value) -> Answer:
    """An even number of elements."""
    return value.type.size % 2 == 0 or f"has {value.type.size} elements, an odd number"


@helper("demo_half")
def half(array: Array) -> Array:
    """Half of each number."""
    return np.asarray(array / 2)  # type: ignore[operator]


rules_file(HERE / "demo.rules")
target_file(HERE / "demo-board.toml")
