"""Small ONNX models around values whose size depends on data: written in a line each, compared with ONNX Runtime."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.verify import verify

Arrays = dict[str, Any]

# Starts of models: `n` is [2, N], what is found in a mask; `p` [N, 2]; `v` [N] and `r` [N, 5] are read there.
FOUND = """
m = Greater(x, 0.5f)
n = NonZero(m)
p = Transpose(n) perm=1,0
v = GatherND(x, p)
rows = Gather(n, 0) axis=0
r = Gather(x, rows) axis=0
"""
X = np.float32([[0, 1, 0, 2, 0], [0, 0, 0, 0, 0], [3, 0, 0, 0, 4], [0, 0.2, 5, 0, 0]])
NONE, ALL = np.zeros_like(X), np.abs(X) + 1
DERIVED = """
rr0 = Cast(r) to=7
rr = Clip(rr0, 0, 4)
v1 = Unsqueeze(v, [1])
im0 = Gather(r, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]) axis=1
im = Reshape(im0, [-1, 4, 2, 2])
q8 = Cast(r) to=2
flat = Reshape(x, [-1])
hit0 = NonZero(flat)
hit = Squeeze(hit0, [0])
g = Gather(flat, hit) axis=0
"""

SEEN: set[str] = set()  # the operators that were compared


def whole(line: str) -> str:
    """The lines of a model, with those of the beginning that it needs."""
    return f"{FOUND}{DERIVED}" + line.replace(" ; ", "\n")


def _value(text: str) -> Any:
    """`0.5f` a float, `2` or `[1, 2]` integers, `[0.5, 1]f` floats."""
    kind = np.float32 if text.endswith("f") else np.int64
    return np.asarray(ast.literal_eval(text.rstrip("f")), kind)


def nodes_of(text: str) -> tuple[list[Any], list[Any]]:
    """Nodes and constants of lines such as `y, z = TopK(x, [3]) axis=0 mode=abc`."""
    nodes, constants = [], []
    for line in filter(None, (line.strip() for line in text.strip().split("\n"))):
        match = re.fullmatch(r"([\w, ]+) = (\w+)\((.*?)\)((?: \w+=\S+)*)", line)
        assert match, line
        names = []
        for arg in re.findall(_ARGUMENT, match[3]):
            if re.match(r"[-\[\d]", arg):
                names.append(f"k{len(constants)}.{len(nodes)}")
                constants.append(numpy_helper.from_array(_value(arg), names[-1]))
            else:
                names.append("" if arg == "none" else arg)
        attrs: dict[str, Any] = {}
        for key, number in re.findall(r"(\w+)=(\S+)", match[4]):
            numbers = [int(n) for n in number.split(",")] if re.fullmatch(r"[-\d,]+", number) else number
            attrs[key] = (
                numbers[0] if isinstance(numbers, list) and len(numbers) == 1 and key not in _LISTS else numbers
            )
        nodes.append(helper.make_node(match[2], names, [n.strip() for n in match[1].split(",")], **attrs))
    return nodes, constants


_ARGUMENT = r"\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\]f?|[^,\s]+"
_LISTS = ("perm", "axes", "shape", "kernel_shape", "pads", "strides")


def model(text: str, feeds: Arrays, outputs: str, opset: int = 20) -> onnx.ModelProto:
    """A model of these lines; `outputs` are names of results, one or several."""
    nodes, constants = nodes_of(text)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in feeds.items()
    ]
    graph = helper.make_graph(nodes, "counts", infos, [onnx.ValueInfoProto(name=n) for n in outputs.split()], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    inferred = {o.name: o for o in onnx.shape_inference.infer_shapes(made).graph.output}
    for output in made.graph.output:
        known = inferred[output.name].type.tensor_type.elem_type
        output.CopyFrom(helper.make_tensor_value_info(output.name, known or onnx.TensorProto.FLOAT, None))
    return made


def answers(made: onnx.ModelProto, feeds: Arrays) -> Arrays:
    """ONNX Runtime's."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in made.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def check(text: str, feeds: Any, outputs: str = "y", opset: int = 20, *, empty: bool = True) -> None:
    """The interpreter's answers are ONNX Runtime's, also with everything found in `x` and, if `empty`, nothing."""
    made = model(text, feeds, outputs, opset)
    graph = import_model(made)
    verify(graph, 2)
    SEEN.update(node.op_type for node in made.graph.node)
    found = "x" in feeds and feeds["x"] is X
    for case in [feeds, *([feeds | {"x": ALL}] if found else []), *([feeds | {"x": NONE}] if found and empty else [])]:
        got = interpret(graph, case)
        for name, want in answers(made, case).items():
            assert got[name].shape == want.shape and got[name].dtype == want.dtype, (name, got[name].shape, want.shape)
            np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6, err_msg=name)
