"""Every row of the operator table computes what ONNX Runtime computes, from the type that its inference states."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from whole_file import run_alone, shared

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import trace
from edgec.compiler.op import OPS, infer

ort = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(7)
OURS = {name for name in OPS if name.startswith("Edgec.")}
SEEN: set[str] = set()


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(low: int, high: int, *shape: int, to: Any = np.int32) -> np.ndarray[Any, Any]:
    return RNG.integers(low, high, shape).astype(to)


def i64(*values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.int64)


class K:
    """An argument that is a constant of the model."""

    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value)


def check(op: str, *args: Any, opset: int = 21, results: int = 1, tolerance: float = 1e-5, **attrs: Any) -> None:
    """One node, run here and by ONNX Runtime. Arguments: arrays are inputs, K constants, None is left out."""
    names, inputs, feeds, constants = [], [], {}, []
    for k, arg in enumerate(args):
        names.append("" if arg is None else f"a{k}")
        if isinstance(arg, K):
            constants.append(onnx.numpy_helper.from_array(arg.value, f"a{k}"))
        elif arg is not None:
            kind = onnx.helper.np_dtype_to_tensor_dtype(arg.dtype)
            inputs.append(onnx.helper.make_tensor_value_info(f"a{k}", kind, arg.shape))
            feeds[f"a{k}"] = arg
    outputs = [f"y{k}" for k in range(results)]
    node = onnx.helper.make_node(op, names, outputs, **attrs)
    infos = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = onnx.helper.make_graph([node], "one", inputs, infos, constants)
    # ONNX Runtime infers the types of outputs, the checker wants them: so they are put in from its answer
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    wanted = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feeds)
    for info, array in zip(model.graph.output, wanted, strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, kind, array.shape))
    g = import_model(model)
    values = trace(g, feeds)
    for n in g.nodes():
        SEEN.add(n.op)
        if OPS[n.op].kind != "source":
            assert infer(n.op, [a.type for a in n.args], n.attrs) == n.types
        for value in n.results:
            assert values[value].shape == value.shape, n
            assert values[value].dtype == {"f32": np.dtype("f4")}.get(value.type.dtype, values[value].dtype), n
    for (name, value), want in zip(g.results, wanted, strict=True):
        got = values[value]
        assert got.shape == want.shape and got.dtype == want.dtype, (name, got.dtype, want.dtype)
        if want.dtype.kind in "fV":
            scale = max(float(np.max(np.abs(want[np.isfinite(want)]), initial=0)), 1e-6)
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "op",
    """Abs Neg Ceil Floor Round Sign Exp Reciprocal Sin Cos Tan Atan Sinh Cosh Tanh Asinh Erf Sigmoid Relu HardSwish
    Softplus Softsign Mish LeakyRelu Elu Selu Celu HardSigmoid ThresholdedRelu Gelu""".split(),
)
def test_unary(op: str) -> None:
    check(op, f32(3, 5) * 3)


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Acosh"])
def test_unary_of_positive_numbers(op: str) -> None:
    check(op, np.abs(f32(3, 5)) + 1)


@pytest.mark.parametrize("op", ["Asin", "Acos", "Atanh"])
def test_unary_within_one(op: str) -> None:
    check(op, np.clip(f32(3, 5), -0.9, 0.9))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 2.0}),
        ("Selu", {"alpha": 1.5, "gamma": 2.0}),
        ("Celu", {"alpha": 0.5}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("ThresholdedRelu", {"alpha": 0.3}),
        ("Gelu", {"approximate": "tanh"}),
    ],
)
def test_unary_attributes(op: str, attrs: dict[str, Any]) -> None:
    check(op, f32(3, 5) * 3, **attrs)


def test_infinities_and_not_a_number() -> None:
    x = np.asarray([1, np.inf, -np.inf, np.nan], np.float32)
    check("IsNaN", x)
    check("IsInf", x)
    check("IsInf", x, detect_negative=0)
    check("Relu", x[:3])
    check("Sigmoid", x[:3])
    check("Round", np.asarray([-2.5, -0.5, 0.5, 1.5, 2.5], np.float32))


def test_logic() -> None:
    a, b = f32(2, 3) > 0, f32(3) > 0
    check("Not", a)
    for op in ("And", "Or", "Xor"):
        check(op, a, b)
    for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        check(op, ints(0, 3, 2, 3), ints(0, 3, 3))
    check("Where", a, f32(2, 3), f32(3))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_binary(op: str) -> None:
    check(op, np.abs(f32(2, 1, 3)) + 0.1, f32(4, 1))
    if op != "Pow":
        check(op, ints(-9, 9, 2, 3), np.asarray([3, -2, 1], np.int32))


def test_minimum_and_maximum_of_several() -> None:
    for op in ("Min", "Max", "Sum", "Mean"):
        check(op, f32(2, 3), f32(3), f32(2, 1))


def test_modulo() -> None:
    a, b = np.asarray([-7, 7, -7, 7], np.int32), np.asarray([3, -3, -3, 3], np.int32)
    check("Mod", a, b)
    check("Mod", a, b, fmod=1)
    check("Mod", f32(4) * 5, f32(4), fmod=1)


def test_powers_of_mixed_types() -> None:
    check("Pow", np.abs(f32(3)), K(np.asarray([2, 3, 1], np.int64)))
    check("Pow", ints(1, 5, 3), ints(0, 3, 3))
    check("Pow", ints(1, 5, 3), K(np.float32(2.0)))


def test_bits() -> None:
    a, b = ints(0, 99, 4, to=np.uint8), ints(0, 8, 4, to=np.uint8)
    check("BitShift", a, b, direction="LEFT")
    check("BitShift", a, b, direction="RIGHT")
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        check(op, a, b)
    check("BitwiseNot", a)


def test_prelu() -> None:
    check("PRelu", f32(1, 3, 2, 2), K(f32(3, 1, 1)))
    check("PRelu", f32(2, 3), f32(3))


def test_clip() -> None:
    check("Clip", f32(9), K(np.float32(-0.5)), K(np.float32(0.5)))
    check("Clip", f32(9), None, K(np.float32(0.5)))
    check("Clip", f32(9), np.asarray(-0.5, np.float32), K(np.float32(0.5)))
    check("Clip", ints(-9, 9, 9), K(np.int32(-2)))
    check("Clip", ints(-9, 9, 9, to=np.int64), K(np.int64(-2)))
    check("Clip", ints(0, 9, 9, to=np.uint64), None, K(np.uint64(5)))
    check("Clip", f32(9), opset=6, min=-0.5, max=0.5)


@pytest.mark.parametrize("to", [np.float16, np.float64, np.int8, np.int32, np.int64, np.bool_])
def test_cast(to: Any) -> None:
    check("Cast", np.asarray([-3.7, 0, 0.2, 5.9], np.float32), to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to)))


def test_bit_cast() -> None:
    check("BitCast", f32(2, 3), to=onnx.TensorProto.INT32, opset=26)
    check("BitCast", ints(-9, 9, 5, to=np.int64), to=onnx.TensorProto.DOUBLE, opset=26)


def test_moving_elements() -> None:
    check("Reshape", f32(2, 3, 4), K(i64(0, -1)))
    check("Flatten", f32(2, 3, 4), axis=2)
    check("Transpose", f32(2, 3, 4), perm=[2, 0, 1])
    check("Transpose", f32(2, 3))
    check("Squeeze", f32(1, 3, 1), K(i64(-1)))
    check("Unsqueeze", f32(3), K(i64(0, -1)))
    check("Expand", f32(3, 1), K(i64(2, 1, 4)))
    check("Tile", f32(2, 3), K(i64(2, 3)))
    for mode in ("DCR", "CRD"):
        check("DepthToSpace", f32(1, 8, 2, 3), blocksize=2, mode=mode)
    check("SpaceToDepth", f32(1, 2, 4, 6), blocksize=2)
    check("Trilu", f32(3, 4), upper=0)
    check("Trilu", f32(3, 4), K(np.int64(1)))


def test_cutting_and_joining() -> None:
    check("Concat", f32(2, 3), f32(2, 1), axis=-1)
    check("Split", f32(2, 5), results=2, axis=1, num_outputs=2)
    check("Split", f32(2, 5), K(i64(1, 4)), results=2, axis=1)
    check("Split", f32(4, 2), results=2, opset=7)


@pytest.mark.parametrize(
    ("start", "end", "step"), [(1, 4, 1), (-3, 99, 1), (0, 5, 2), (4, 0, -1), (-1, -99, -2), (3, -99, -1), (3, 2, 1)]
)
def test_slice(start: int, end: int, step: int) -> None:
    check("Slice", f32(2, 5, 3), K(i64(start)), K(i64(end)), K(i64(1)), K(i64(step)))


def test_slice_of_an_axis_without_elements() -> None:
    check("Slice", f32(0, 3), K(i64(-5)), K(i64(-9)), K(i64(0)), K(i64(-1)))


def test_slice_of_old_operator_sets() -> None:
    check("Slice", f32(2, 5), opset=9, starts=[1, 0], ends=[2, -1])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(mode: str) -> None:
    check("Pad", f32(2, 4), K(i64(0, 1, 1, 2)), mode=mode)


def test_pad_that_cuts() -> None:
    check("Pad", f32(2, 4), K(i64(0, -1, 1, 2)), K(np.float32(3)))
    check("Pad", f32(2, 4), K(i64(2, 1)), None, K(i64(1)))


def test_gather() -> None:
    check("Gather", f32(3, 4), K(i64([0, -1], [2, 1])), axis=0)
    check("Gather", f32(3, 4), ints(-4, 4, 2), axis=1)
    check("Gather", f32(3, 4), K(np.int64(1)), axis=-1)
    check("GatherElements", f32(3, 4), ints(-3, 3, 2, 4, to=np.int64), axis=0)
    check("GatherND", f32(2, 3, 4), i64([[0, 1]], [[1, -1]]))
    check("GatherND", f32(2, 3, 4), i64([[1]], [[2]]), batch_dims=1)
    check("GatherND", f32(2, 3, 4), K(i64([[0, 1, -4]], [[-1, -1, 2]])))
    check("GatherND", f32(2, 3, 4), K(i64([[-1]], [[2]])), batch_dims=1, opset=12)
    check("GatherElements", f32(3, 4), K(i64([0, -1], [-3, 2])), axis=-2, opset=11)


def test_one_hot() -> None:
    check("OneHot", i64(0, 2, -1), K(np.int64(3)), f32(2), axis=-1)
    check("OneHot", i64([0, 5], [-6, 2]), K(np.asarray([5])), ints(0, 9, 2, to=np.int64), axis=1, opset=9)
    check("OneHot", np.asarray([1.9, -1.2, 0], np.float32), K(np.float32(3)), f32(2), axis=0)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter(reduction: str) -> None:
    check("ScatterElements", f32(4, 5), ints(-5, 5, 4, 1, to=np.int64), f32(4, 1), axis=1, reduction=reduction)
    check("ScatterND", f32(4, 5, 6), i64([[0, 1]], [[-1, -2]]), f32(2, 1, 6), reduction=reduction)
    check("ScatterND", f32(4, 5), K(i64([3], [0])), f32(2, 5), reduction=reduction)


def test_scatter_of_other_operator_sets() -> None:
    check("Scatter", f32(4, 5), K(i64([0, 3, 1])), f32(1, 3), opset=9, axis=0)
    check("ScatterElements", f32(4, 5), i64([0, -1, 1]), f32(1, 3), opset=11, axis=1)
    check("ScatterND", f32(4, 5), i64([3], [0]), f32(2, 5), opset=11)
    check("TensorScatter", f32(2, 3, 6, 4), f32(2, 3, 2, 4), i64(1, 4), opset=24)
    check("TensorScatter", f32(2, 6, 4), f32(2, 3, 4), i64(4, 11), opset=24, axis=1, mode="circular")
    check("TensorScatter", f32(2, 6, 4), f32(2, 3, 4), opset=24, axis=1)


def test_selection_in_order() -> None:
    x = ints(-3, 4, 2, 5, 7).astype(np.float32)
    check("TopK", x, K(i64(3)), results=2, axis=1, largest=0)
    check("TopK", x, K(i64(4)), results=2, opset=10)
    check("TopK", x, results=2, opset=9, k=2, axis=0)


RESIZE = [
    ("nearest", {}),
    ("nearest", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("nearest", {"nearest_mode": "round_prefer_ceil"}),
    ("linear", {}),
    ("linear", {"coordinate_transformation_mode": "align_corners"}),
    ("linear", {"coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("cubic", {}),
    ("cubic", {"cubic_coeff_a": -0.5, "exclude_outside": 1}),
]


@pytest.mark.parametrize(("mode", "attrs"), RESIZE)
def test_resize(mode: str, attrs: dict[str, Any]) -> None:
    x = f32(1, 2, 4, 5)
    check("Resize", x, None, K(np.asarray([1, 1, 2, 3], np.float32)), opset=18, mode=mode, tolerance=1e-4, **attrs)
    check("Resize", x, None, None, K(i64(1, 2, 3, 8)), opset=18, mode=mode, tolerance=1e-4, **attrs)


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel_symmetric"])
def test_ties_of_nearest_positions_are_decided_to_the_precision_of_scales(mode: str) -> None:
    scales = K(np.asarray([1, 0.8], np.float32))
    attrs = {"coordinate_transformation_mode": mode, "nearest_mode": "round_prefer_ceil"}
    check("Resize", f32(1, 7), None, scales, opset=19, mode="nearest", **attrs)


def test_samples_and_regions() -> None:
    x, grid = f32(2, 3, 5, 4), (RNG.random((2, 3, 6, 2)) * 2.4 - 1.2).astype(np.float32)
    for mode in ("linear", "nearest", "cubic"):
        check("GridSample", x, grid, opset=20, mode=mode, padding_mode="reflection")
    rois = np.asarray([[0, 0, 3, 4], [1.5, -1, 9, 2]], np.float32)
    for mode in ("avg", "max"):
        check("RoiAlign", x, rois, i64(1, 0), opset=16, output_height=2, output_width=3, mode=mode)


def test_resize_of_old_operator_sets() -> None:
    scales = K(np.asarray([1, 1, 2, 2], np.float32))
    for mode in ("nearest", "linear"):
        check("Upsample", f32(1, 1, 2, 3), opset=7, scales=[1.0, 1.0, 2.0, 2.0], mode=mode)
        check("Upsample", f32(1, 1, 2, 3), scales, opset=9, mode=mode)
        check("Resize", f32(1, 1, 2, 3), scales, opset=10, mode=mode)


REDUCTIONS = """ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceSumSquare ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp""".split()


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions(op: str) -> None:
    x = np.abs(f32(2, 3, 4)) + 0.1
    check(op, x, K(i64(0, -1)), opset=18, keepdims=0)
    check(op, x, opset=18)
    check(op, x, K(i64()), opset=18, noop_with_empty_axes=1) if op == "ReduceSum" else None
    check(op, x, opset=11, axes=[1])


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_position_of_the_extreme(op: str) -> None:
    x = ints(0, 3, 4, 5).astype(np.float32)
    check(op, x, axis=-1, keepdims=0)
    check(op, x, axis=0, select_last_index=1)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin", "Hardmax"])
def test_extremes_of_nothing(op: str) -> None:
    check(op, f32(2, 0), axis=0)
    check(op, K(f32(0, 2)), axis=1)


def test_the_greatest_along_an_axis_of_nothing() -> None:
    check("Hardmax", f32(2, 0), axis=1)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(op: str) -> None:
    check(op, f32(2, 3, 4), axis=1)
    check(op, f32(2, 3, 4), opset=11)
    check(op, f32(2, 3, 1, 1), opset=11)


def test_normalizations() -> None:
    check("LayerNormalization", f32(2, 3, 4), K(f32(4)), K(f32(4)), axis=-1)
    check("LayerNormalization", f32(2, 3, 4), K(f32(3, 4)), axis=1, epsilon=0.1)
    check("InstanceNormalization", f32(2, 3, 4, 5), K(f32(3)), K(f32(3)), epsilon=0.1)
    check("LpNormalization", f32(2, 3), axis=1, p=1)
    check("LpNormalization", f32(2, 3), axis=0)
    check("BatchNormalization", f32(2, 3, 4), *(K(np.abs(f32(3))) for _ in range(4)), opset=15)
    check("GroupNormalization", f32(2, 4, 3), K(f32(4)), K(f32(4)), num_groups=2)
    check("MeanVarianceNormalization", f32(2, 3, 4, 4), opset=13)
    check("LRN", f32(1, 5, 3, 3), size=3)
    check("CumSum", f32(3, 4), K(np.int64(1)), exclusive=1, reverse=1)
    check("CumSum", f32(3, 4), K(np.int64(0)))
    check("CumSum", f32(3, 0), K(np.int64(1)), exclusive=1)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_counts_of_runs(mode: str) -> None:
    attrs = {"ngram_counts": [0, 3], "ngram_indexes": [3, 1, 2, 0, 4], "pool_int64s": [1, 2, 3, 1, 2, 3, 1]}
    attrs |= {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 2, "mode": mode}
    check("TfIdfVectorizer", ints(1, 5, 3, 20), weights=[1.0, 2.0, 3.0, 4.0, 5.0], **attrs)
    check("TfIdfVectorizer", ints(1, 5, 20, to=np.int64), **attrs)


def test_determinants() -> None:
    check("Det", f32(4, 4))
    check("Det", f32(2, 3, 5, 5), opset=11)
    check("Det", f32(1, 1))


def test_running_products() -> None:
    check("CumProd", f32(3, 4), K(np.int64(1)), opset=26, exclusive=1, reverse=1)
    check("CumProd", ints(-3, 4, 3, 4), K(np.int64(0)), opset=26)


def test_reversed_sequences() -> None:
    check("ReverseSequence", f32(5, 3, 2), i64(5, 0, 3), opset=10)
    check("ReverseSequence", f32(3, 5), i64(1, 4, 5), opset=10, time_axis=1, batch_axis=0)


CONVS = [
    ((1, 4, 7, 6), (6, 4, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((2, 4, 7, 6), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    ((1, 4, 7, 6), (8, 1, 3, 3), {"group": 4, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((1, 4, 7), (5, 4, 3), {"auto_pad": "VALID"}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 1), {}),
    ((1, 4, 5, 5), (3, 4, 1, 1), {"strides": [2, 2]}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), CONVS)
def test_convolution(x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any]) -> None:
    check("Conv", f32(*x), K(f32(*w)), K(f32(w[0])), **attrs)
    check("Conv", f32(*x), K(f32(*w)), **attrs)


TRANSPOSED = [
    {"strides": [2, 2], "pads": [1, 0, 1, 2], "output_padding": [1, 0]},
    {"strides": [2, 3], "group": 2, "dilations": [2, 1]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "output_shape": [9, 8]},
]


@pytest.mark.parametrize("attrs", TRANSPOSED)
def test_transposed_convolution(attrs: dict[str, Any]) -> None:
    check("ConvTranspose", f32(1, 4, 4, 4), K(f32(4, 3, 3, 3)), K(f32(3 * attrs.get("group", 1))), **attrs)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((3,), (2, 3, 4)), ((2, 3), (3,))])
def test_matrix_product(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check("MatMul", f32(*a), f32(*b))


def test_general_matrix_product() -> None:
    check("Gemm", f32(3, 2), K(f32(4, 3)), K(f32(4)), transA=1, transB=1, alpha=0.5, beta=2.0)
    check("Gemm", f32(2, 3), f32(3, 4), alpha=0.5)


@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bkj->bik", "ij,ij->", "ij->ji", "bhi,hij->bhj"])
def test_einsum(equation: str) -> None:
    sizes = {"i": 2, "j": 3, "k": 4, "b": 2, "h": 5}
    terms = equation.split("->")[0].split(",")
    check("Einsum", *(f32(*(sizes[ch] for ch in term)) for term in terms), equation=equation)


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "dilations": [2, 2]},
]


@pytest.mark.parametrize("attrs", POOLS)
def test_pooling(attrs: dict[str, Any]) -> None:
    check("MaxPool", f32(1, 2, 7, 8), **attrs)
    check("AveragePool", f32(1, 2, 7, 8), **attrs)
    if "ceil_mode" not in attrs:
        check("AveragePool", f32(1, 2, 7, 8), count_include_pad=1, **attrs)


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("order", [0, 1])
def test_positions_in_windows(attrs: dict[str, Any], order: int) -> None:
    check("MaxPool", f32(2, 3, 7, 8), results=2, opset=12, storage_order=order, **attrs)
    check("MaxPool", ints(0, 3, 2, 3, 7, 8).astype(np.float32), results=2, opset=12, storage_order=order, **attrs)


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_windows(attrs: dict[str, Any], p: int) -> None:
    check("LpPool", f32(1, 2, 7, 8), opset=18, p=p, **attrs)


def test_positions_in_volumes() -> None:
    check(
        "MaxPool", f32(2, 2, 4, 5, 6), results=2, opset=12, storage_order=1, kernel_shape=[2, 3, 2], strides=[1, 2, 1]
    )
    check("MaxPool", f32(2, 2, 9), results=2, opset=12, kernel_shape=[3], pads=[1, 2], strides=[2])


def test_undoing_windows() -> None:
    places = i64(5, 7, 13, 15).reshape(1, 1, 2, 2)
    check("MaxUnpool", f32(1, 1, 2, 2), places, opset=11, kernel_shape=[2, 2], strides=[2, 2])
    check("MaxUnpool", f32(1, 1, 2, 2), places, K(i64(1, 1, 4, 4)), opset=11, kernel_shape=[2, 2], strides=[2, 2])
    check("Col2Im", f32(2, 18, 20), K(i64(6, 7)), K(i64(3, 3)), opset=18)
    check("Col2Im", f32(2, 12, 12), K(i64(5, 6)), K(i64(2, 2)), opset=18, strides=[2, 2], pads=[1, 1, 0, 2])
    attrs = {"dilations": [3, 2], "pads": [0, 1, 1, 0], "strides": [1, 2]}
    check("Col2Im", f32(1, 6, 8), K(i64(6, 7)), K(i64(2, 3)), opset=18, **attrs)
    check("Col2Im", f32(1, 8, 12), K(i64(3, 4, 3)), K(i64(2, 2, 2)), opset=18)


def test_global_pooling() -> None:
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        check(op, f32(2, 3, 4, 5))
    check("LpPool", f32(1, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], p=3, tolerance=1e-4)


@pytest.mark.parametrize("to", [np.int8, np.uint8, np.int16, np.uint16])
def test_quantization(to: Any) -> None:
    zero, scales = np.asarray([3, 0, 5], to), np.asarray([0.1, 0.02, 1.5], np.float32)
    check("QuantizeLinear", f32(2, 3) * 9, K(np.float32(0.1)), K(to(3)))
    check("QuantizeLinear", f32(2, 3) * 9, K(scales), K(zero), axis=1)
    check("DequantizeLinear", ints(0, 100, 2, 3, to=to), K(scales), K(zero), axis=-1)
    check("DequantizeLinear", ints(0, 100, 2, 3, to=to), K(np.float32(0.1)))


def test_quantized_operators() -> None:
    one, u8 = K(np.float32(0.05)), K(np.uint8(7))
    x, w = ints(0, 255, 1, 2, 5, 5, to=np.uint8), K(ints(0, 255, 3, 2, 3, 3, to=np.uint8))
    check("QLinearConv", x, one, u8, w, one, u8, K(np.float32(0.9)), u8, K(ints(-99, 99, 3)), pads=[1, 1, 1, 1])
    a, b = ints(0, 255, 2, 3, to=np.uint8), K(ints(0, 255, 3, 4, to=np.uint8))
    check("QLinearMatMul", a, one, u8, b, one, u8, K(np.float32(0.3)), u8)
    check("MatMulInteger", a, b, u8, u8)
    check("ConvInteger", x, w, u8)


def _graph(name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
    def info(row: tuple[str, int, list[int]]) -> Any:
        return onnx.helper.make_tensor_value_info(*row)

    return onnx.helper.make_graph(nodes, name, list(map(info, inputs)), list(map(info, outputs)))


def test_branches_and_loops() -> None:
    node, f, i, b = onnx.helper.make_node, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
    sides = {}
    for side, value in (("then_branch", 1.0), ("else_branch", 2.0)):
        sides[side] = _graph(side, [node("Constant", [], ["r"], value_floats=[value])], [], [("r", f, [1])])
    for condition in (True, False):
        check("If", np.asarray(condition), **sides)
    step = [node("Add", ["x", "x"], ["x2"]), node("Identity", ["c"], ["c2"])]
    ports = [("i", i, []), ("c", b, []), ("x", f, [2])], [("c2", b, []), ("x2", f, [2])]
    for turns in (0, 1, 5):
        check("Loop", np.asarray(turns, np.int64), None, f32(2), body=_graph("body", step, *ports))


def recurrent(op: str, directions: int, steps: int = 4, batch: int = 3, inputs: int = 7, hidden: int = 5) -> list[Any]:
    """X, W, R, B, no lengths, first states."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * hidden
    shapes = [(directions, gates, inputs), (directions, gates, hidden), (directions, 2 * gates)]
    states = [f32(directions, batch, hidden) for _ in range(2 if op == "LSTM" else 1)]
    return [f32(steps, batch, inputs), *(K(f32(*shape)) for shape in shapes), None, *states]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_recurrence(op: str, direction: str) -> None:
    results, directions = 3 if op == "LSTM" else 2, 2 if direction == "bidirectional" else 1
    args = recurrent(op, directions)
    settings: dict[str, Any] = {"hidden_size": 5, "direction": direction, "results": results}
    check(op, *args, **settings)
    check(op, *args[:3], opset=7, **settings)
    args[4] = K(np.asarray([2, 4, 0], np.int32))
    check(op, *args, opset=14, **settings)


def test_recurrence_with_attributes() -> None:
    two: dict[str, Any] = {"hidden_size": 5, "results": 2}
    check("GRU", *recurrent("GRU", 2), direction="bidirectional", linear_before_reset=1, **two)
    check("GRU", *recurrent("GRU", 1), clip=0.4, **two)
    args, three = [*recurrent("LSTM", 1), K(f32(1, 15))], {**two, "results": 3}
    check("LSTM", *args, **three)
    check("LSTM", *args, input_forget=1, **three)
    for functions in (["Affine", "LeakyRelu", "ThresholdedRelu"], ["Softsign", "Softplus", "Relu"]):
        check("LSTM", *args, activations=functions, activation_alpha=[0.4, 0.3, 0.2], activation_beta=[0.1], **three)
    uneven = ["HardSigmoid", "Tanh", "elu", "Sigmoid", "ScaledTanh", "Softplus"]
    three |= {"direction": "bidirectional", "activations": uneven}
    check("LSTM", *recurrent("LSTM", 2), activation_alpha=[0.3, 0.7, 0.2], activation_beta=[0.4, 0.9], **three)


def test_half_precision_rounds_once() -> None:
    x = f32(2, 8).astype(np.float16)
    for op in ("Exp", "Tanh", "Softmax"):
        check(op, x, tolerance=2e-3)
    check("MatMul", x, K(f32(8, 3).astype(np.float16)), tolerance=4e-3)


def test_every_row_was_met() -> None:
    """Runs last: the tests above went through every operator but our own."""
    if shared():
        run_alone(__file__)
    elif len(SEEN) > 90:  # not when a selection runs
        assert set(OPS) - OURS == SEEN - OURS
