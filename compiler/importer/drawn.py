"""What random operators draw, made inputs of the model: ONNX does not say which numbers these are."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
from onnx import TensorProto, helper

from .read import ONNX_DOMAINS, copy_besides

LARGE = 1 << 12  # bytes: a constant of more is no shape

# Operators that draw, and what one element of their results is unless the node says so or its argument does.
DRAWN = {
    "RandomNormal": TensorProto.FLOAT,
    "RandomNormalLike": 0,
    "RandomUniform": TensorProto.FLOAT,
    "RandomUniformLike": 0,
    "Bernoulli": 0,
    "Multinomial": TensorProto.INT32,
}


def draw_outside(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Replace the random nodes whose results have these names by inputs of the model, in place."""
    nodes = [n for n in model.graph.node if n.op_type in DRAWN and n.domain in ONNX_DOMAINS and n.output[0] in names]
    if not nodes:
        return
    known = _known(model, nodes)
    for node in nodes:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        name = node.output[0]
        kind = attrs.get("dtype") or DRAWN[node.op_type] or _element(known, node.input[0]) or TensorProto.FLOAT
        info = helper.make_tensor_value_info(name, kind, attrs.get("shape"))
        if "shape" not in attrs and name in known and known[name].type.tensor_type.HasField("shape"):
            info.type.tensor_type.shape.CopyFrom(known[name].type.tensor_type.shape)
        model.graph.node.remove(node)
        model.graph.input.append(info)


def _element(known: Mapping[str, onnx.ValueInfoProto], name: str) -> int:
    return known[name].type.tensor_type.elem_type if name in known else 0


def _known(model: onnx.ModelProto, nodes: Collection[onnx.NodeProto]) -> dict[str, onnx.ValueInfoProto]:
    """Types that the file states; where they leave one of the nodes open, those that ONNX infers as well."""

    def stated(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
        return {info.name: info for info in (*graph.value_info, *graph.input, *graph.output)}

    known = stated(model.graph)
    wanted = {name for node in nodes for name in (*node.input, *node.output)}
    if wanted <= known.keys():
        return known
    light = onnx.ModelProto()
    copy_besides(model, light, "graph")
    copy_besides(model.graph, light.graph, "initializer")
    for tensor in model.graph.initializer:
        if tensor.ByteSize() > LARGE:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.graph.initializer.append(tensor)
    return stated(onnx.shape_inference.infer_shapes(light).graph) | known
