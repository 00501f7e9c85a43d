"""Problems whose multipliers and biases have 16 bits, made of those with 32."""

from __future__ import annotations

from dataclasses import replace

from edgec.compiler.ir import Node, Value
from edgec.compiler.registry import Problem
from edgec.compiler.rescale.asked import PRODUCTS

SHIFT = 3


def shortened(problem: Problem, shift: int = SHIFT) -> Problem:
    """The same problem where every channel's multiplier is a bf16, and biases are i16 that are moved up."""
    kinds: dict[Value, str] = {}
    for node in problem.body.nodes():
        if node.op in PRODUCTS:
            kinds[node.args[2]] = "i16"
        if node.op == "Edgec.Rescale" or (node.op == "Edgec.RescaleOnce" and len(node.args) == 2):
            kinds |= {m: "bf16" for m in node.args[len(node.args) // 2 :] if m.node.op == "Input" and m.type.size > 1}
    names = {value.name: kind for value, kind in kinds.items()}
    assert "i16" in names.values()

    def short(node: Node) -> tuple[Value, ...] | None:
        if node.op == "Input" and node.name in names:
            return replace(node, types=(replace(node.types[0], dtype=names[node.name]),)).results
        if node.op in PRODUCTS and node.args[2].type.dtype == "i16":
            return replace(node, attrs={**node.attrs, "shift": shift}).results
        return None

    return replace(problem, body=problem.body.map(short))
