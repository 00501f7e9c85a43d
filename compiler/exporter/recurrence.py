"""Recurrent operators as ONNX nodes: the products with the input, which come before ours, go back into the node.

Where what comes before is no product by a matrix, the node multiplies by ones and zeros, which changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from ..dtypes import dtype
from ..ir import Array, Node, Value
from ..op import const_array, is_const
from ..ops.recurrence import GATES, PARAMETERS, USUAL
from .forms import form
from .writer import NoForm, Writer

DIRECTIONS = {(0,): "forward", (1,): "reverse", (0, 1): "bidirectional"}


@dataclass(frozen=True)
class _Products:
    """What a product multiplies, [steps * batch, inputs], by which matrix [inputs, columns], and what it adds."""

    source: Value
    matrix: Value
    bias: Array | None


@form("Edgec.RNN", "Edgec.GRU", "Edgec.LSTM")
def recurrence(node: Node, args: list[str], outputs: list[str], attrs: dict[str, Any], w: Writer) -> None:
    directions, gates = len(attrs["reverse"]), GATES[node.op]
    if attrs["reverse"] not in DIRECTIONS:
        raise NoForm(f"{node.op} with directions {attrs['reverse']}")
    wide, hidden = gates * node.args[1].shape[1], node.args[1].shape[1]
    x, weights, bias = _input(node, directions, wide, w)
    hidden_bias: Array = np.zeros((directions, wide), dtype(node.args[0].type.dtype).numpy)
    if node.op == "Edgec.GRU":
        if not is_const(node.args[3]):
            raise NoForm("Edgec.GRU whose bias is computed")
        hidden_bias[:, wide - hidden :] = const_array(node.args[3])
    given = [x, weights, _recurrent(node, args[1], w), w.constant(np.concatenate([bias, hidden_bias], 1))]
    rest = {"Edgec.RNN": [args[2]], "Edgec.GRU": [args[2]], "Edgec.LSTM": args[2:4]}[node.op]
    more = args[4:] if node.op != "Edgec.RNN" else args[3:]
    peepholes = [_shaped(more.pop(0), (directions, 3 * hidden), w)] if attrs.get("peepholes") else []
    lengths = more[0] if more else ""
    results = outputs if attrs["sequence"] else ["", *outputs]
    w.node(node.op.removeprefix("Edgec."), [*given, lengths, *rest, *peepholes], results, **_said(node, attrs, hidden))


def _input(node: Node, directions: int, wide: int, w: Writer) -> tuple[str, str, Array]:
    """Names of X and W, and the bias of each direction."""
    steps, batch, columns = node.args[0].shape
    kind = dtype(node.args[0].type.dtype).numpy
    found = _products(node.args[0], columns)
    if found is None:
        rows: Array = np.eye(columns, dtype=kind).reshape(directions, wide, columns)
        return w.names[node.args[0]], w.constant(rows), np.zeros((directions, wide), kind)
    inputs = found.matrix.shape[0]
    if is_const(found.matrix):
        array: Any = const_array(found.matrix)
        weights = w.constant(np.ascontiguousarray(array.T).reshape(directions, wide, inputs))
    else:
        turned = w.unique("turned")
        w.node("Transpose", [w.names[found.matrix]], [turned], perm=[1, 0])
        weights = _shaped(turned, (directions, wide, inputs), w)
    bias = np.zeros(columns, kind) if found.bias is None else np.broadcast_to(found.bias.reshape(-1), (columns,))
    return _shaped(w.names[found.source], (steps, batch, inputs), w), weights, bias.reshape(directions, wide)


def _products(x: Value, columns: int) -> _Products | None:
    """The product behind the operator's first argument; None where there is another operator."""
    if x.node.op != "Reshape":
        return None
    value, bias = x.node.args[0], None
    if value.node.op == "Add" and any(is_const(a) for a in value.node.args):
        value, added = sorted(value.node.args, key=is_const)
        bias = const_array(added)
        if bias.size not in (1, columns) or (bias.size > 1 and bias.shape[-1] != columns):
            return None
    if value.node.op != "MatMul" or len(value.shape) != 2 or value.shape[1] != columns:
        return None
    source, matrix = value.node.args
    if matrix.type.dtype != x.type.dtype or len(matrix.shape) != 2 or len(source.shape) != 2:
        return None
    return _Products(source, matrix, bias)


def _recurrent(node: Node, name: str, w: Writer) -> str:
    """R, [directions, gates * hidden, hidden], in the type of X."""
    value, kind = node.args[1], node.args[0].type.dtype
    directions, hidden, gates, _ = value.shape
    shape = (directions, gates * hidden, hidden)
    if is_const(value):
        array: Any = const_array(value).astype(dtype(kind).numpy)
        return w.constant(np.ascontiguousarray(array.transpose(0, 2, 3, 1)).reshape(shape))
    if value.type.dtype != kind:
        wide = w.unique("wide")
        w.node("Cast", [name], [wide], to=dtype(kind).onnx)
        name = wide
    turned = w.unique("turned")
    w.node("Transpose", [name], [turned], perm=[0, 2, 3, 1])
    return _shaped(turned, shape, w)


def _shaped(name: str, shape: tuple[int, ...], w: Writer) -> str:
    made = w.unique("shaped")
    w.node("Reshape", [name, w.ints(shape)], [made])
    return made


def _said(node: Node, attrs: dict[str, Any], hidden: int) -> dict[str, Any]:
    """Attributes; each activation takes as many parameters as it has, in their order."""
    said: dict[str, Any] = {"hidden_size": hidden, "direction": DIRECTIONS[attrs["reverse"]]}
    names = tuple(attrs["activations"])
    if names != USUAL[node.op]:
        counts = [len(PARAMETERS.get(name, ())) for name in names]
        said["activations"] = list(names) * len(attrs["reverse"])
        for key, least, values in (("activation_alpha", 1, attrs["alpha"]), ("activation_beta", 2, attrs["beta"])):
            listed = [v for v, n in zip(values, counts, strict=True) if n >= least] * len(attrs["reverse"])
            said |= {key: listed} if listed else {}
    if attrs["clip"] != inf:
        said["clip"] = attrs["clip"]
    for key in ("input_forget", "linear_before_reset"):
        said |= {key: 1} if attrs.get(key) else {}
    return said
