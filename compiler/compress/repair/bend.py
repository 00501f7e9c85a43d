"""The function through which alone a value is read, and aims that count only what it shows.

For least squares behind a function f, the error of a result p with the aim y is taken as s^2 (p - y)^2, with s the
slope of f between them; where slopes differ, aims move towards the results instead of weighting them, which majorizes
that error (Zhang, Zou, He and Sun, "Accelerating very deep convolutional networks for classification and detection",
2015, do so for Relu).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from ...ir import Node, Value
from ...layers import constant
from ...op import OPS, evaluate
from ...ops.common import Tensor

Bend = Callable[[Tensor], Tensor]
LONGEST = 8  # operators of a function


def bend_of(users: Mapping[Value, Sequence[Node]], aim: Value, outputs: Sequence[Value]) -> Bend | None:
    """The chain of elementwise operators behind a value, if nothing else reads it; None without one."""
    readers = users.get(aim, [])
    if aim.node.op == "MatMul" and len(readers) == 1 and readers[0].op == "Add":  # its bias
        other = next((constant(a) for a in readers[0].args if a != aim), None)
        if other is not None and aim not in outputs:
            aim = Value(readers[0])
    chain = _chain(users, aim)
    inside = {aim, *(Value(n) for n in chain)}
    ends = [v for v in inside if v in outputs or any(n not in chain for n in users.get(v, []))]
    if len(ends) != 1 or ends[0] == aim:
        return None
    return _function(aim, chain, ends[0])


def _chain(users: Mapping[Value, Sequence[Node]], aim: Value) -> list[Node]:
    """Operators that compute each element from the same element of the aim alone, in order."""
    chain: list[Node] = []
    inside = {aim}
    grown = True
    while grown and len(chain) < LONGEST:
        grown = False
        for node in [n for v in inside for n in users.get(v, [])]:
            if node not in chain and _uniform(node, inside, aim):
                chain.append(node)
                inside.add(Value(node))
                grown = True
                break
    return chain


def _uniform(node: Node, inside: Collection[Value], aim: Value) -> bool:
    if OPS[node.op].kind != "elementwise" or node.op in ("QuantizeLinear", "DequantizeLinear", "Cast", "BitCast"):
        return False
    if node.types[0] != aim.type:
        return False
    arrays = [constant(a) for a in node.args if a not in inside]
    return all(a is not None and a.size == 1 for a in arrays)


def _function(aim: Value, chain: Sequence[Node], end: Value) -> Bend:
    def run(x: Tensor) -> Tensor:
        known: dict[Value, Tensor] = {aim: x}
        for node in chain:
            args = [known[a] if a in known else _number(a) for a in node.args]
            known[Value(node)] = evaluate(node, args)[0]
        return known[end]

    return run


def _number(value: Value) -> Tensor:
    array = constant(value)
    assert array is not None
    return np.asarray(array.reshape(()))


def bent_aims(bend: Bend, real: Tensor, y: Tensor, made: Tensor) -> Tensor:
    """Aims y, moved towards the results `made` where the function, which gives `real` for y, is flat."""
    apart = y - made
    near = np.abs(apart) < 1e-6
    slope = np.where(near, 1.0, (real - bend(made)) / np.where(near, 1.0, apart)).astype(np.float32)
    most = max(float(np.abs(slope).max()), 1e-6)
    return np.asarray(made + np.square(slope / most) * apart, np.float32)
