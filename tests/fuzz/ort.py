"""The interpreter against ONNX Runtime, node by node: each gets the interpreter's own arguments.

Whatever ONNX Runtime lacks is passed over; where it is known to answer otherwise than ONNX says, `APART` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Lacking

from edgec.compiler.compare.difference import relative_error, tolerance
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import trace
from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import OPS, full_attrs

from .draw import is_float
from .stable import near
from .to_onnx import NoForm, single

_OPEN = ("Clip", "QuantizeLinear", "Resize", "Min", "Max")
# operator -> whether the answers are known to differ for these arguments, with the reason
APART: dict[str, Callable[[Node, list[Array]], str]] = {
    "Resize": lambda node, args: _resized(node),
    "Col2Im": lambda node, args: _dilated(node),
    "QuantizeLinear": lambda node, args: (
        "it divides halves in f32; ONNX in the type of the scale" if node.args[1].type.dtype == "f16" else ""
    ),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceL1"), lambda node, args: _inexact(node, args[0], np.add)),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare"), lambda node, args: _inexact(node, args[0], np.add, 2)),
    "ReduceProd": lambda node, args: _inexact(node, args[0], np.multiply),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp"), lambda node, args: _truncated(node)),
}


def _inexact(node: Node, x: Array, fold: np.ufunc, power: int = 1) -> str:
    """Integers that f64 does not hold, or their own type, where they are folded. A zero may come late in a product."""
    if is_float(node.types[0]):
        return ""
    axes: Any = full_attrs(node)["axes"]
    sizes = np.maximum(np.abs(x.astype(np.float64)) ** power, fold.identity)
    most = np.max(fold.reduce(sizes, axis=axes), initial=0)
    off = most > min(1 << 53, np.iinfo(x.dtype).max)
    return "it folds integers in f64, and what is too large becomes the largest" if off else ""


def _dilated(node: Node) -> str:
    """The reference of the onnx package answers as we do, and so does ONNX Runtime for images of two axes."""
    attrs: Any = full_attrs(node)
    off = len(attrs["image_shape"]) != 2 and any(n > 1 for n in attrs["dilations"])
    return "the channels of its dilated blocks are off" if off else ""


def _truncated(node: Node) -> str:
    return "" if is_float(node.types[0]) else "a logarithm is cut to an integer: rounding decides"


def _resized(node: Node) -> str:
    attrs: Any = full_attrs(node)
    exact = all(n * s == m for n, s, m in zip(node.args[0].shape, attrs["scales"], attrs["sizes"], strict=True))
    aligned = attrs["coordinate_transformation_mode"] in ("align_corners", "half_pixel_symmetric")
    if attrs["mode"] == "nearest" and any(16 * s % 1 for s in attrs["scales"]):
        return "which of two neighbours is nearer hangs on the rounding of the scale"
    return "" if exact or not aligned else "it counts with the output's length once that is a whole number"


def against_ort(graph: Graph, feeds: Mapping[str, Array]) -> tuple[str, int]:
    """The first node that ONNX Runtime computes otherwise ("" where there is none), and how many it computed."""
    values, count = trace(graph, feeds), 0
    for node in graph.nodes():
        if node.op in ("Input", "Const", "Edgec.Layout"):
            continue
        args = [values[a] for a in node.args]
        if _passed_over(node, args):
            continue
        try:
            got = _answers(node, args)
        except (NoForm, Lacking, Fail, InvalidArgument, RuntimeException):
            continue
        count += 1
        for value, array in zip(node.results, got, strict=True):
            if (fault := _fault(array, values[value])) and not _rounded(value, args, array):
                return f"{node} of {', '.join(str(a.type) for a in node.args)} {_shown(node)}: {fault}", count
    return "", count


def _passed_over(node: Node, args: list[Array]) -> bool:
    """ONNX says what becomes of infinities and NaN only where arithmetic does."""
    types = [*(a.type for a in node.args), *node.types]
    if any(t.dtype == "bf16" or dtype(t.dtype).is_storage for t in types) or APART.get(node.op, lambda n, a: "")(
        node, args
    ):
        return True
    finite = all(np.isfinite(a).all() for a in args if a.dtype.kind == "f")
    return not finite and (OPS[node.op].kind not in ("elementwise", "map") or node.op in _OPEN)


def _answers(node: Node, args: list[Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(single(node).SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, {f"a{k}": array for k, array in enumerate(args)}))


def _fault(got: Array, ours: Array) -> str:
    if got.dtype != ours.dtype or got.shape != ours.shape:
        return f"ONNX Runtime answers {got.dtype}{list(got.shape)}, the interpreter {ours.dtype}{list(ours.shape)}"
    if ours.dtype.kind != "f":
        wrong = got != ours
        if not wrong.any():
            return ""
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        return f"ONNX Runtime says {got[at]} at {list(at)}, the interpreter {ours[at]}"
    error = relative_error(ours, got)
    return f"ONNX Runtime differs by {error:.2g} of the largest" if error > tolerance(ours.dtype) else ""


def _rounded(value: Value, args: list[Array], got: Array) -> bool:
    """Whether the difference is what a few units in the last place of the arguments make: where numbers cancel."""
    return is_float(value.type) and not near(value, args).fault(got)


def _shown(node: Node) -> str:
    return str({k: v for k, v in full_attrs(node).items() if not isinstance(v, Value)})
