"""The operators that networks are made of, each with the shapes it has there: what `operators.py` races.

Cases come from ONNX files, one per node that differs in operator, attributes and shapes, and from the table
`operator_cases.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.zoo import DIMENSIONS

TABLE = Path(__file__).with_suffix(".txt")

# Of whose time nothing remains when a model is compiled
VIEWS = set("Reshape Identity Squeeze Unsqueeze Flatten Shape Constant ConstantOfShape Dropout Size Range".split())
CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
SMALLEST = 4096  # elements of the largest operand of a case: below it is mostly the cost of a call
PER_OPERATOR = 8  # of most operators; a network has convolutions of more different shapes
MORE = {"Conv": 32, "MatMul": 12}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A model of one node, and what it is fed with."""

    text: str
    model: onnx.ModelProto
    feed: Mapping[str, Array]


def drawn(shape: Sequence[int], dtype: Any, seed: int = 0) -> Array:
    """Normal floats; integers 0 or 1, which are good indices of anything."""
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        return rng.standard_normal(tuple(shape)).astype(kind)
    return rng.integers(0, 2, tuple(shape)).astype(kind)


def of_files(paths: Sequence[Path]) -> list[Case]:
    """The distinct nodes of these files, the largest of each operator first."""
    found: dict[str, tuple[int, Case]] = {}
    for path in paths:
        for size, case in _nodes(path):
            found.setdefault(case.text, (size, case))
    by_operator: dict[str, list[tuple[int, Case]]] = {}
    for size, case in found.values():
        by_operator.setdefault(case.text.split()[0], []).append((size, case))
    chosen = []
    for operator, cases in sorted(by_operator.items()):
        cases.sort(key=lambda pair: -pair[0])
        most = MORE.get(operator, PER_OPERATOR)
        step = max(1.0, len(cases) / most)  # evenly from the largest to the smallest
        chosen += [cases[int(i * step)][1] for i in range(min(most, len(cases)))]
    return chosen


def _nodes(path: Path) -> Iterator[tuple[int, Case]]:
    model = onnx.load(path)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value") or dim.dim_value <= 0:
                dim.dim_value = DIMENSIONS.get(dim.dim_param, 1)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    types = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        if kind.elem_type and min(dims, default=1) > 0:
            types[value.name] = (kind.elem_type, dims)
    for node in model.graph.node:
        if node.op_type in VIEWS | CONTROL:
            continue
        if case := _case(node, constants, types, model.opset_import):
            yield case


def _case(node: Any, constants: Mapping[str, Any], types: Mapping[str, Any], opsets: Any) -> tuple[int, Case] | None:
    """A node as a model, and its size; None where it is small, or shapes are not known."""
    names = [name for name in node.input if name]
    values = [name for name in dict.fromkeys(names) if name not in constants]
    if not values or any(name not in types for name in values) or any(o and o not in types for o in node.output[:1]):
        return None
    sizes = [int(np.prod(types[name][1])) for name in values] + [int(np.prod(types[node.output[0]][1]))]
    if max(sizes) < SMALLEST:
        return None
    inputs = [helper.make_tensor_value_info(n, *types[n]) for n in values]
    outputs = [
        helper.make_tensor_value_info(o, *types[o]) if o in types else onnx.ValueInfoProto(name=o)
        for o in node.output
        if o
    ]
    held = [constants[name] for name in dict.fromkeys(names) if name in constants]
    graph = helper.make_graph([node], "one", inputs, outputs, held)
    work = max(sizes) * max([int(np.prod(t.dims)) // max(t.dims[0], 1) for t in held if len(t.dims) > 1], default=1)
    feed = {n: drawn(types[n][1], helper.tensor_dtype_to_np_dtype(types[n][0]), i) for i, n in enumerate(values)}
    return work, Case(_text(node, constants, types), _model(graph, opsets), feed)


def _model(graph: onnx.GraphProto, opsets: Any) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=list(opsets), ir_version=10)


def _text(node: Any, constants: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    """The operator, its operands (`=` before constants) and its attributes."""
    parts = []
    for name in node.input:
        if name in constants:
            tensor = constants[name]
            few = int(np.prod(tensor.dims)) <= 8 and tensor.data_type == TensorProto.INT64
            parts.append(
                "=" + (str(numpy_helper.to_array(tensor).tolist()) if few else "x".join(map(str, tensor.dims)))
            )
        elif name:
            kind, dims = types[name]
            short = "" if kind == TensorProto.FLOAT else str(helper.tensor_dtype_to_np_dtype(kind)) + ":"
            parts.append(short + "x".join(map(str, dims)))
    attributes = [
        f"{a.name}={helper.get_attribute_value(a)!s:.20}" for a in node.attribute if a.name not in ("auto_pad",)
    ]
    return " ".join([node.op_type, *parts, *attributes])[:110]


def one(text: str) -> Case:
    """A case from a row: operator, operands as `[=][type:]AxBxC`, attributes `name=python`; `>` number of outputs."""
    import ast

    operator, *words = text.split()
    names, inputs, held, feed, attributes, count = [], [], [], {}, {}, 1
    for i, word in enumerate(words):
        if word.startswith(">"):
            count = int(word[1:])
            continue
        name, _, literal = word.partition("=")
        if name:
            if literal:
                attributes[name] = literal.encode() if literal[0].isalpha() else ast.literal_eval(literal)
                continue
            kind, _, dims = word.rpartition(":")
            dtype = np.dtype(kind or "f4")
            array = drawn([int(d) for d in dims.split("x")] if dims else [], dtype, i)
            array = fitting(operator, i, array)
            feed[f"i{i}"] = array
            inputs.append(helper.make_tensor_value_info(f"i{i}", helper.np_dtype_to_tensor_dtype(dtype), array.shape))
        elif not literal:
            names.append("")
            continue
        elif literal[0] in "[(":
            values = ast.literal_eval(literal)
            dtype = np.int64 if all(isinstance(v, int) for v in values) else np.float32
            held.append(
                numpy_helper.from_array(np.array(values, dtype).reshape(-1 if literal[0] == "[" else ()), f"i{i}")
            )
        else:
            kind, _, dims = literal.rpartition(":")
            array = drawn([int(d) for d in dims.split("x")], kind or "f4", i)
            held.append(numpy_helper.from_array(fitting(operator, i, array), f"i{i}"))
        names.append(f"i{i}")
    node = helper.make_node(operator, names, [f"o{i}" for i in range(count)], **attributes)
    outputs = [onnx.ValueInfoProto(name=f"o{i}") for i in range(count)]
    graph = helper.make_graph([node], "one", inputs, outputs, held)
    model = _model(graph, [helper.make_opsetid("", 20)])
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in inferred.graph.output:
        if not value.type.WhichOneof("value"):  # of functions whose results have no inference: those of normalizations
            value.type.CopyFrom(inputs[0].type)
    return Case(text, inferred, feed)


def fitting(operator: str, operand: int, array: Array) -> Array:
    """Numbers as this operand has them: no division by zero, keys that differ, positions within an image."""
    rng = np.random.default_rng(operand)
    if array.dtype.kind in "iu" and operator in ("TopK", "Unique", "Mod", "Div"):
        return rng.integers(1, 1000, array.shape).astype(array.dtype)
    if (operator, operand) == ("GridSample", 1):
        return np.clip(array / 2, -1, 1).astype(array.dtype)
    if (operator, operand) == ("RoiAlign", 1):  # corners in an image of 800 pixels
        begin = rng.uniform(0, 500, (len(array), 2))
        return np.concatenate([begin, begin + rng.uniform(50, 300, begin.shape)], 1).astype(array.dtype)
    if (operator, operand) == ("RoiAlign", 2):
        return np.zeros_like(array)
    return array


def rows() -> list[str]:
    """Those of the table."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def beside() -> list[Case]:
    return [one(row) for row in rows()]
