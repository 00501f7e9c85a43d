"""A quantized model whose numbers are off, where they become bytes, by what a number in f32 may be off.

A sum in another order, or a function by another polynomial, is as right as the first one; what is nearly half a step is
then rounded the other way, and the layers behind carry that on. How far shows what rounding alone does to a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from .difference import TOLERANCE

NUDGES = (1 + TOLERANCE, 1 - TOLERANCE)
_SUFFIX = " nudged"


def nudge(proto: Any, factor: float) -> None:
    """Multiply what each QuantizeLinear of a model with f32 scales rounds, constants apart."""
    held = {t.name: t.data_type for t in proto.graph.initializer}
    nodes = list(proto.graph.node)
    kinds = {
        n.output[0]: a.t.data_type for n in nodes if n.op_type == "Constant" for a in n.attribute if a.name == "value"
    }
    known = {**held, **kinds}
    made = []
    for node in nodes:
        in_f32 = node.op_type == "QuantizeLinear" and known.get(node.input[1]) == onnx.TensorProto.FLOAT
        if in_f32 and node.input[0] not in known:
            nudged = f"{node.output[0]}{_SUFFIX}"
            made.append(onnx.helper.make_node("Mul", [node.input[0], _SUFFIX], [nudged]))
            node.input[0] = nudged
        made.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(made)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(factor, np.float32), _SUFFIX))
