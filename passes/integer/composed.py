"""Functions of single bytes, one after the other, are one table: what is quantized between a function's steps is free.

GELU as exporters write it is a table of half of it and a product with 2, rounded in between.
"""

from __future__ import annotations

import numpy as np

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import build, const, is_const
from edgec.compiler.ops.common import limits
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.rewrite import Sweep, python_rule

from .ends import numpy_type
from .tables import tabulated


@python_rule("Edgec.Rescale", "Edgec.Table")
def composed_tables(value: Value, sweep: Sweep) -> Value | str | None:
    """Where one of the two is a table already; what comes before is read by nothing else."""
    second, first = value.node, value.node.args[0].node
    if not (_of_one_byte(second) and _of_one_byte(first)) or "Edgec.Table" not in (first.op, second.op):
        return None
    if sweep.uses(Value(first)) != 1:
        return "something else reads the bytes before it"
    source = first.args[0]
    low, high = map(int, limits(source.type.dtype))
    every = np.arange(low, high + 1).astype(numpy_type(source.type.dtype))
    table = const(tabulated(source, [first, second], every))
    origin = tuple(dict.fromkeys((*first.origin, *second.origin)))
    return build("Edgec.Table", source, table, origin=origin, label=second.name)


def _of_one_byte(node: Node) -> bool:
    """Whether each element comes from one byte at its place, and from constants that are the same everywhere."""
    if node.op == "Edgec.Table":
        return is_const(node.args[1])
    if node.op != "Edgec.Rescale" or len(node.args) != 2:
        return False
    x, multiplier = node.args
    return x.type.dtype in BYTES and is_const(multiplier) and multiplier.type.size == 1
