"""Elementwise operators and reductions take every element type that the newest operator set lists for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import edgec
from edgec.compiler.dtypes import dtype, of_onnx
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.support.harness import compare

OPSET = onnx.defs.onnx_opset_version()
UNARY = """Abs Neg Ceil Floor Round Sign Sqrt Exp Log Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh
Atanh Erf Sigmoid Relu HardSwish Softplus Softsign Mish Not IsNaN IsInf LeakyRelu Elu Selu Celu HardSigmoid
ThresholdedRelu Gelu BitwiseNot Identity Shrink Swish Softmax LogSoftmax Hardmax Clip Size Shape Flatten Dropout
Transpose Reshape Squeeze Unsqueeze Expand Tile Pad Slice""".split()
BINARY = """Add Sub Mul Div Mod And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual BitShift BitwiseAnd BitwiseOr
BitwiseXor PRelu Pow Sum Mean Min Max Concat Where""".split()
REDUCTIONS = """ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceSumSquare ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ArgMax ArgMin CumSum""".split()
SHAPES: dict[str, list[Any]] = {  # what follows the argument, as constants
    "Reshape": [[5, 3]],
    "Unsqueeze": [[0]],
    "Expand": [[2, 3, 5]],
    "Tile": [[2, 1]],
    "Pad": [[1, 0, 0, 2]],
    "Slice": [[1], [3]],
    "CumSum": [1],
    **{op: [[1]] for op in REDUCTIONS if op.startswith("Reduce")},
}
NUMBERS = {name.lower(): number for name, number in onnx.TensorProto.DataType.items()}


def kinds(op: str) -> list[str]:
    """Our names of the types that the schema lists for the operator's data."""
    schema: Any = onnx.defs.get_schema(op)
    parameter = schema.inputs[1 if op == "Where" else 0].type_str
    listed = next((t.allowed_type_strs for t in schema.type_constraints if t.type_param_str == parameter), [parameter])
    numbers = [NUMBERS.get(match[1], 0) for text in listed if (match := re.fullmatch(r"tensor\((\w+)\)", text))]
    return [name for number in sorted(numbers) if (name := of_onnx(number))]


def sample(op: str, kind: str, rng: Any) -> Any:
    row = dtype(kind)
    if kind == "bool":
        return rng.random((3, 5)) < 0.5
    if row.is_whole:
        return rng.integers(
            1 if op in ("Div", "Mod", "Pow", "BitShift") else 0, 2 if row.bits == 2 else 6, (3, 5)
        ).astype(row.numpy)
    low, high = {"Acosh": (1, 3), "Asin": (-0.9, 0.9), "Acos": (-0.9, 0.9), "Atanh": (-0.9, 0.9)}.get(op, (0.3, 3))
    return rng.uniform(low, high, (3, 5)).astype(row.numpy)


def model(op: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """One node per element type, and what to feed it."""
    rng = np.random.default_rng(0)
    nodes, inputs, outputs, constants, feeds = [], [], [], [], {}
    for kind in kinds(op):
        names = [f"{kind}.a", f"{kind}.b"] if op in BINARY else [f"{kind}.a"]
        for name in names:
            feeds[name] = sample(op, kind, rng)
            inputs.append(helper.make_tensor_value_info(name, dtype(kind).onnx, (3, 5)))
        if op == "Where":
            names.insert(0, f"{kind}.c")
            constants.append(onnx.numpy_helper.from_array(rng.random((3, 5)) < 0.5, names[0]))
        for k, value in enumerate(SHAPES.get(op, [])):
            names.append(f"{kind}.{k}")
            constants.append(onnx.numpy_helper.from_array(np.asarray(value, np.int64), names[-1]))
        attrs: dict[str, Any] = {"BitShift": {"direction": "RIGHT"}, "Concat": {"axis": 1}}.get(op, {})
        if op == "Mod" and dtype(kind).is_float:
            attrs = {"fmod": 1}
        nodes.append(helper.make_node(op, names, [f"{kind}.y"], **attrs))
        outputs.append(onnx.ValueInfoProto(name=f"{kind}.y"))
    graph = helper.make_graph(nodes, op, inputs, outputs, constants)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=13)
    ), feeds


@pytest.mark.parametrize("op", UNARY + BINARY + REDUCTIONS)
def test_every_listed_type_is_taken(op: str) -> None:
    proto, feeds = model(op)
    found = interpret(import_model(proto), feeds)
    kinds_of = {v.name: v.type.tensor_type.elem_type for v in proto.graph.output}
    for name, array in found.items():
        assert array.dtype == dtype(of_onnx(kinds_of[name]) or "").numpy, name


@pytest.mark.long
@pytest.mark.parametrize("op", UNARY + BINARY + REDUCTIONS)
def test_every_listed_type_is_compiled(op: str, tmp_path: Path) -> None:
    proto, feeds = model(op)
    edgec.compile(proto, target="host", out=tmp_path / "b")
    with edgec.load(tmp_path / "b") as compiled:
        got = compiled.run(feeds)
    for name, want in interpret(import_model(proto), feeds).items():
        compare(got[name], want, 1e-5)


@pytest.mark.parametrize("base", ["i32", "i64"])
@pytest.mark.parametrize("exponent", ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"])
def test_powers_of_integers_are_exact_whatever_the_exponent_is(base: str, exponent: str) -> None:
    x = np.asarray([3, 3, 2, -3, 7, 10]).astype(dtype(base).numpy)
    n = np.asarray([39, 19, 30, 19, 0, 9]).astype(dtype(exponent).numpy)
    infos = [
        helper.make_tensor_value_info(k, dtype(t).onnx, [6]) for k, t in (("x", base), ("n", exponent), ("y", base))
    ]
    graph = helper.make_graph([helper.make_node("Pow", ["x", "n"], ["y"])], "g", infos[:2], infos[2:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with np.errstate(over="ignore"):
        want = np.asarray([int(a) ** int(b) % (1 << dtype(base).bits) for a, b in zip(x, n, strict=True)], np.uint64)
    np.testing.assert_array_equal(interpret(import_model(proto), {"x": x, "n": n})["y"], want.astype(x.dtype))
