"""The operators that networks are made of, each with the shapes it has there: what `operators.py` races.

Cases come from ONNX files, one per node that differs in operator, attributes and shapes, and from the table `BESIDE`.
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


# Operators that the files lack, at sizes that other networks have
BESIDE = """
Add 1x64x64x64 1x64x64x64
Add 1x64x65x65 1x64x65x65
DynamicQuantizeLinear 1x128x384 >3
DynamicQuantizeLinear 1x64x56x56 >3
LRN 1x96x27x27 size=5 alpha=1e-4 beta=0.75
LRN 1x256x13x13 size=5 alpha=1e-4 beta=0.75
LRN 1x64x56x56 size=5 alpha=1e-4 beta=0.75
GridSample 1x8x8x8 1x64x64x2 mode=linear
GridSample 1x32x32x32 1x64x64x2 mode=linear
Resize 1x8x8x8 = =[1.0,1.0,8.0,8.0] mode=linear
Resize 1x64x32x32 = =[1.0,1.0,2.0,2.0] mode=linear
Resize 1x64x32x32 = =[1.0,1.0,2.0,2.0] mode=cubic
Resize 1x256x16x16 = =[1.0,1.0,2.0,2.0] mode=nearest
Unique i8:4096 >4
Unique i8:65536 >4
TopK i8:1x8400 =[100] >2
TopK i8:64x1000 =[10] >2
TopK 1x8400 =[300] >2
TopK 64x1000 =[5] >2
TopK 1x80x100x100 =[10] >2 axis=1
ArgMax 1x21x256x256 axis=1
ArgMax 128x1000 axis=1
CumSum 128x1024 =(1,)
CumSum 1024x128 =(0,)
Softmax 1x12x128x128 axis=-1
Softmax 1x21x128x128 axis=1
LogSoftmax 128x1000 axis=-1
LayerNormalization 1x197x768 =768 =768 axis=-1
LayerNormalization 1x3136x96 =96 =96 axis=-1
InstanceNormalization 1x64x64x64 =64 =64
GroupNormalization 1x320x32x32 =32 =32 num_groups=32
BatchNormalization 1x64x56x56 =64 =64 =64 =64
ReduceMean 1x64x56x56 =[2,3]
ReduceMean 1x64x56x56 =[1]
ReduceMax 1x64x56x56 =[1]
ReduceSum 128x1024 =[0]
ReduceL2 128x768 =[1]
ReduceProd 128x1024 =[1]
ReduceLogSumExp 128x1024 =[1]
Transpose 1x64x56x56 perm=(0,2,3,1)
Transpose 1x56x56x64 perm=(0,3,1,2)
Transpose 1x128x12x64 perm=(0,2,1,3)
Transpose 1x128x12x64 perm=(0,2,3,1)
Transpose 512x512 perm=(1,0)
Transpose u1:1x224x224x3 perm=(0,3,1,2)
Concat 1x64x56x56 1x64x56x56 axis=1
Concat 1x64x56x56 1x64x56x56 axis=3
Split 1x128x56x56 axis=1 num_outputs=2 >2
Slice 1x64x56x56 =[0,0] =[56,56] =[2,3] =[2,2]
Slice 1x64x64x64 =[1,1] =[63,63] =[2,3]
Pad 1x64x56x56 =[0,0,1,1,0,0,1,1] mode=constant
Pad 1x64x56x56 =[0,0,3,3,0,0,3,3] mode=reflect
Tile 1x64x28x28 =[1,1,2,2]
Expand 64x1x128 =[64,128,128]
DepthToSpace 1x64x56x56 blocksize=2
SpaceToDepth 1x16x112x112 blocksize=2
Gather 30522x384 i8:1x128 axis=0
Gather 1x64x56x56 =[3,1,2,0] axis=1
GatherElements 128x1024 i8:128x512 axis=1
GatherND 2x64x56x56 i8:1000x3
ScatterND 2x64x3136 i8:500x2 500x3136
ScatterElements 128x1024 i8:128x512 128x512 axis=1
OneHot i8:128x64 =(1000,) =[0.0,1.0]
Where ?:1x64x56x56 1x64x56x56 1x64x56x56
Where ?:128x128 1x12x128x128 =(-1e9,)
Equal i8:128x1024 i8:128x1024
Greater 1x64x56x56 1x64x56x56
Cast u1:1x3x224x224 to=1
Cast 1x3x224x224 to=3
Cast i8:128x1024 to=1
Cast 1x64x56x56 to=10
Mul i8:128x1024 i8:128x1024
Div i4:128x1024 i4:128x1024
Mod i8:128x1024 =i8:1024
Mod i8:128x1024 =(7,)
Div i8:128x1024 =(7,)
Div i8:128x1024 i8:128x1024
Add 1x64x56x56 =64x1x1
Mul 1x64x56x56 1x64x1x1
Mul 1x197x768 =768
Sub 1x56x56x64 1x56x56x1
Div 1x64x56x56 1x64x56x56
Pow 1x64x56x56 =(2.0,)
Pow 1x64x56x56 =(0.5,)
Pow 128x1024 128x1024
Sqrt 1x64x56x56
Exp 1x64x56x56
Log 1x64x56x56
Sin 1x64x56x56
Atan 1x64x56x56
Tanh 1x64x56x56
Sigmoid 1x64x56x56
Erf 1x64x56x56
Gelu 1x197x768
Gelu 1x197x768 approximate=tanh
Softplus 1x64x56x56
HardSwish 1x64x56x56
HardSigmoid 1x64x56x56
Elu 1x64x56x56
Mish 1x64x56x56
PRelu 1x64x56x56 =64x1x1
LeakyRelu 1x64x56x56
Clip 1x64x56x56 =(0.0,) =(6.0,)
Floor 1x64x56x56
Round 1x64x56x56
Sign 1x64x56x56
Reciprocal 1x64x56x56
Neg 1x64x56x56
Abs i4:128x1024
Not ?:1x64x56x56
And ?:1x64x56x56 ?:1x64x56x56
BitShift u1:128x1024 u1:128x1024 direction=LEFT
MaxPool 1x64x112x112 kernel_shape=(3,3) strides=(2,2) pads=(1,1,1,1)
MaxPool 1x256x56x56 kernel_shape=(2,2) strides=(2,2)
MaxPool 1x512x13x13 kernel_shape=(13,13) pads=(6,6,6,6)
MaxPool 1x64x64x64 kernel_shape=(3,3) strides=(1,1) pads=(1,1,1,1)
AveragePool 1x64x56x56 kernel_shape=(3,3) pads=(1,1,1,1)
AveragePool 1x256x28x28 kernel_shape=(2,2) strides=(2,2)
GlobalAveragePool 1x1280x7x7
GlobalAveragePool 1x64x112x112
GlobalMaxPool 1x512x14x14
LpPool 1x64x56x56 kernel_shape=(2,2) strides=(2,2) p=2
Conv 1x1x64x64 =32x1x3x3 =32 pads=(1,1,1,1)
Conv 1x3x512x512 =32x3x3x3 =32 pads=(1,1,1,1) strides=(2,2)
Conv 1x64x64x64 =64x64x3x3 =64 pads=(1,1,1,1)
Conv 1x64x65x65 =64x64x3x3 =64 pads=(1,1,1,1)
Conv 1x8x128x128 =8x8x3x3 =8 pads=(1,1,1,1)
Conv 1x128x1500 =128x128x3 =128 pads=(1,1)
Conv 1x384x56x56 =384x1x7x7 =384 pads=(3,3,3,3) group=384
Conv 1x64x56x56 =64x64x3x3 =64 pads=(2,2,2,2) dilations=(2,2)
Conv 1x128x28x28 =128x4x3x3 =128 pads=(1,1,1,1) group=32
Conv 1x32x16x28x28 =32x32x3x3x3 =32 pads=(1,1,1,1,1,1)
ConvTranspose 1x128x28x28 =128x64x2x2 =64 strides=(2,2)
ConvTranspose 1x128x28x28 =128x64x4x4 =64 strides=(2,2) pads=(1,1,1,1)
ConvTranspose 1x21x32x32 =21x21x16x16 =21 strides=(8,8) pads=(4,4,4,4)
MatMul 1x12x128x64 1x12x64x128
MatMul 128x768 =768x3072
MatMul 1x768 =768x3072
MatMul 1x4096 =4096x4096
MatMul 197x192 =192x576
Gemm 1x2048 =1000x2048 =1000 transB=1
Gemm 64x512 =512x512 =512 alpha=0.5
Einsum 1x12x128x64 1x12x128x64 equation="bhid,bhjd->bhij"
LSTM 50x1x128 =1x512x128 =1x512x128 =1x1024 hidden_size=128 >3
GRU 50x1x128 =1x384x128 =1x384x128 =1x768 hidden_size=128 >2
RNN 50x1x128 =1x128x128 =1x128x128 =1x256 hidden_size=128 >2
RoiAlign 1x256x50x50 100x4 =i8:100 output_height=7 output_width=7 spatial_scale=0.0625
NonZero 128x1024
Compress 4096x64 ?:4096 axis=0
Trilu 512x512
ReverseSequence 64x32x128 =i8:32 batch_axis=1 time_axis=0
QuantizeLinear 1x64x56x56 =(0.05,)
DequantizeLinear u1:1x64x56x56 =(0.05,)
MatMulInteger u1:128x768 =i1:768x768
Max 1x64x56x56 1x64x56x56
Mean 1x64x56x56 1x64x56x56 1x64x56x56
Sum 1x64x56x56 1x64x56x56 1x64x56x56
MeanVarianceNormalization 1x64x56x56
CenterCropPad 1x64x56x56 =[48,48] axes=(2,3)
Col2Im 1x576x3136 =[56,56] =[3,3] pads=(1,1,1,1)
DFT 1x1024x1 >1
Hardmax 128x1000
LpNormalization 128x768
IsNaN 1x64x56x56
ThresholdedRelu 1x64x56x56
""".strip().splitlines()

# What networks over large images (512 x 512 to 1080p), over many tokens, and step by step have
LARGE = """
Resize 1x19x64x128 = =[1.0,1.0,8.0,8.0] mode=linear
Resize 1x21x128x128 = = =[1,21,512,512] mode=linear
Resize 1x128x64x128 = =[1.0,1.0,2.0,2.0] mode=linear
Resize 1x256x68x120 = =[1.0,1.0,2.0,2.0] mode=nearest
Resize 1x3x1080x1920 = = =[1,3,512,512] mode=linear
Softmax 1x19x512x1024 axis=1
Softmax 1x2x1080x1920 axis=1
ArgMax 1x19x512x1024 axis=1
ArgMax 1x19x512x1024 axis=1 keepdims=0
Conv 1x128x128x256 =19x128x1x1 =19
Conv 1x64x272x480 =1x64x1x1 =1
Conv 1x256x128x128 =21x256x1x1 =21
Conv 1x3x1024x2048 =64x3x7x7 =64 pads=(3,3,3,3) strides=(2,2)
Conv 1x64x128x256 =64x1x5x5 =64 pads=(2,2,2,2) group=64
Conv 1x96x128x128 =96x1x7x7 =96 pads=(3,3,3,3) group=96
Conv 1x64x256x256 =64x1x3x3 =64 pads=(1,1,1,1) group=64
Conv 1x72x128x256 =72x1x5x5 =72 pads=(2,2,2,2) strides=(2,2) group=72
Conv 1x128x64x128 =128x128x3x3 =128 pads=(2,2,2,2) dilations=(2,2)
Conv 1x256x32x64 =256x256x3x3 =256 pads=(12,12,12,12) dilations=(12,12)
Conv 1x64x128x256 =64x64x3x3 =64 pads=(1,1,1,1)
Conv 1x256x128x128 =1x256x1x7 =1 pads=(0,3,0,3)
Conv 1x128x68x120 =128x128x1x7 =128 pads=(0,3,0,3)
MaxPool 1x64x512x1024 kernel_shape=(3,3) strides=(2,2) pads=(1,1,1,1)
MaxPool 1x256x68x120 kernel_shape=(5,5) strides=(1,1) pads=(2,2,2,2)
GlobalAveragePool 1x256x128x256
AveragePool 1x128x64x128 kernel_shape=(5,5) strides=(2,2) pads=(2,2,2,2)
ConvTranspose 1x32x128x256 =32x16x3x3 =16 strides=(2,2) pads=(1,1,1,1) output_padding=(1,1)
ConvTranspose 1x64x128x256 =64x32x2x2 =32 strides=(2,2)
ConvTranspose 1x33x64x64 =33x17x3x3 =17 strides=(2,2)
ConvTranspose 1x64x1000 =64x32x16 =32 strides=(8,) pads=(4,4)
LayerNormalization 1x16384x64 =64 =64 axis=-1
LayerNormalization 1x4096x256 =256 =256 axis=-1
LayerNormalization 1x577x1024 =1024 =1024 axis=-1
InstanceNormalization 1x64x256x256 =64 =64
InstanceNormalization 1x32x512x512 =32 =32
GroupNormalization 1x128x128x128 =32 =32 num_groups=32
BatchNormalization 1x64x256x512 =64 =64 =64 =64
Gelu 1x16384x256
Gelu 1x577x4096
Mul 1x128x128x256 1x128x1x1
Add 1x128x128x256 1x128x128x256
HardSwish 1x64x256x512
PRelu 1x64x256x512 =64x1x1
Concat 1x64x128x256 1x64x128x256 axis=1
Concat 1x16x256x512 1x16x256x512 1x32x256x512 axis=1
Transpose 1x19x512x1024 perm=(0,2,3,1)
Transpose 1x512x512x3 perm=(0,3,1,2)
Transpose 1x1080x1920x3 perm=(0,3,1,2)
Transpose 1x128x128x256 perm=(0,2,3,1)
Transpose 1x32x2x64x64 perm=(0,2,1,3,4)
Transpose 1x1024x12x64 perm=(0,2,1,3)
Transpose 8x8x8x8x96 perm=(0,2,1,3,4)
Transpose 4096x1024 perm=(1,0)
Slice 1x64x256x512 =[0,0] =[256,512] =[2,3] =[2,2]
Split 1x128x128x256 axis=1 num_outputs=2 >2
Pad 1x64x256x256 =[0,0,1,1,0,0,1,1] mode=reflect
Pad 1x3x1024x1024 =[0,0,3,3,0,0,3,3] mode=reflect
DepthToSpace 1x48x180x320 blocksize=4
DepthToSpace 1x12x540x960 blocksize=2
SpaceToDepth 1x3x640x640 blocksize=2
Softmax 1x12x197x197 axis=-1
Softmax 64x3x49x49 axis=-1
Softmax 1x8x1024x1024 axis=-1
MatMul 1x12x197x64 1x12x64x197
MatMul 64x3x49x32 64x3x32x49
MatMul 1x8x1024x64 1x8x64x1024
MatMul 1x8x1024x1024 1x8x1024x64
MatMul 1x16384x64 =64x256
MatMul 577x1024 =1024x4096
LSTM 100x1x256 =1x1024x256 =1x1024x256 =1x2048 hidden_size=256 >3
LSTM 1x1x128 =1x512x128 =1x512x128 =1x1024 hidden_size=128 >3
LSTM 64x1x96 =2x512x96 =2x512x128 =2x1024 hidden_size=128 direction=bidirectional >3
GRU 100x1x256 =1x768x256 =1x768x256 =1x1536 hidden_size=256 linear_before_reset=1 >2
GRU 1x1x256 =1x768x256 =1x768x256 =1x1536 hidden_size=256 linear_before_reset=1 >2
ReduceMean 1x128x128x256 =[1]
ReduceMax 1x128x128x256 =[1]
ReduceMean 1x64x256x512 =[2,3]
GridSample 1x64x64x128 1x64x128x2 mode=linear
GridSample 1x3x512x512 1x512x512x2 mode=linear
Cast u1:1x3x1080x1920 to=1
Cosh 1x64x56x56
Sinh 1x64x56x56
Unique i8:65536 sorted=0 >4
DynamicQuantizeLinear 1x64x256x256 >3
QuantizeLinear 1x64x256x256 =(0.05,)
QuantizeLinear 1x64x56x56 =(0.333333343,)
QuantizeLinear 1x64x56x56 =(0.0078125,)
TopK 1x128x4096 =[5] >2 axis=1
ArgMax 1x2x1080x1920 axis=1
ArgMin 8x64x512 axis=1
Conv 1x32x256x448 =64x32x3x3 =64 pads=(1,1,1,1) strides=(2,2)
Conv 1x32x256x448 =64x32x2x2 =64 strides=(2,2)
ArgMax 1x21x512x512 axis=1
Div i8:1x300 =(80,)
""".strip().splitlines()


def beside() -> list[Case]:
    return [one(text) for text in (*BESIDE, *LARGE)]
