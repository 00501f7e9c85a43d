"""Stores multipliers and biases of quantized layers in 16 bits where that holds the same numbers.

The quantizer chooses scales of weights and rounds biases so that it does, where a target is given
(compiler/quantize/shorten.py). Kernels widen them in registers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import const, const_array, full_attrs, is_const
from edgec.compiler.ops.integer import MOST_SHIFT, USUAL_SHIFT, shift_of
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.rescale.asked import PRODUCTS
from edgec.compiler.session import Session

CODE_BYTES = 1000  # of a kernel, about, that a layer does not share with others for the type of its bias
FEW = 3  # input channels up to which code is a layer's own
STEPS = {
    "integers": "it makes sums of integers",
    "zero-points": "it changes biases",
    "rescale-once": "it looks at multipliers of 32 bits",
}


@graph_pass("short-constants", promise=exact, after=STEPS)
def short_constants(graph: Graph, *, session: Session) -> Graph:
    """Multipliers of rescalings as bf16, biases of sums as i16, where nothing is lost and kernels widen them."""
    if session.target is not None and not session.target.widens:
        return graph

    whole = _for_shared_code(graph) if session.target is not None and session.target.shares_code else frozenset[Value]()

    def short(node: Node) -> Value | tuple[Value, ...] | None:
        if node.op == "Edgec.Rescale" or (node.op == "Edgec.RescaleOnce" and len(node.args) == 2):
            first = len(node.args) // 2
            made = replace(node, args=(*node.args[:first], *map(_multiplier, node.args[first:])))
        elif node.op in PRODUCTS and node.args[2] not in whole and (bias := _bias(node.args[2])) is not None:
            made = replace(node, args=(*node.args[:2], bias[0]), attrs={**node.attrs, "shift": bias[1]})
        else:
            return None
        if made.args == node.args or not session.step("short-constants", node):
            return None
        return made.results

    return graph.map(short)


def _for_shared_code(graph: Graph) -> frozenset[Value]:
    """Biases that keep 32 bits because those of dense layers like theirs do: these have the same code then."""
    alike: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes():
        attrs = full_attrs(node)
        dense = attrs.get("group", 1) == 1 and node.op in PRODUCTS and node.args[1].shape[1] > FEW
        if dense and _several(node.args[2], "i32"):
            alike[f"{node.op} {node.args[1].shape[2:]} {attrs.get('strides')}"].append(node)
    found: set[Value] = set()
    for nodes in alike.values():
        short = [node for node in nodes if _bias(node.args[2]) is not None]
        saved = sum(node.args[2].type.size * 2 for node in short)
        if len(short) < len(nodes) and saved < CODE_BYTES:
            found.update(node.args[2] for node in short)
    return frozenset(found)


def _several(value: Value, kind: str) -> bool:
    return is_const(value) and value.type.size > 1 and value.type.dtype == kind


def _multiplier(value: Value) -> Value:
    if not _several(value, "f32"):
        return value
    numbers: Array = const_array(value)
    short = numbers.astype(ml_dtypes.bfloat16)
    same = np.array_equal(short.astype(np.float32), numbers)
    return const(short, value.node.name, value.node.origin) if same else value


def _bias(value: Value) -> tuple[Value, int] | None:
    """A bias in 16 bits, and by how many it is moved up."""
    if not _several(value, "i32"):
        return None
    whole: Any = const_array(value)
    shift = max(shift_of(whole), USUAL_SHIFT)
    if (whole & ((1 << shift) - 1)).any():
        shift = shift_of(whole)
    if (whole & ((1 << shift) - 1)).any() or shift > MOST_SHIFT:
        return None
    return const((whole >> shift).astype(np.int16), value.node.name, value.node.origin), shift
