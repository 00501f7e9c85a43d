"""Models of one node: as ONNX Runtime answers them, as the interpreter does, and as compiled code does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run

Arrays = list[np.ndarray[Any, Any]]


class K:
    """An argument that is a constant of the model."""

    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value)


class OneNode:
    """Arguments: arrays are inputs, K constants, None is left out. `results`: (dtype, shape) where it must be said."""

    def __init__(self, op: str, args: Sequence[Any], opset: int = 21, results: int = 1, **attrs: Any) -> None:
        names, inputs, constants = [], [], []
        self.feeds: dict[str, Any] = {}
        for k, arg in enumerate(args):
            names.append("" if arg is None else f"a{k}")
            if isinstance(arg, K):
                constants.append(onnx.numpy_helper.from_array(arg.value, f"a{k}"))
            elif arg is not None:
                inputs.append(
                    helper.make_tensor_value_info(f"a{k}", helper.np_dtype_to_tensor_dtype(arg.dtype), arg.shape)
                )
                self.feeds[f"a{k}"] = arg
        outputs = [f"y{k}" for k in range(results)]
        infos = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([helper.make_node(op, names, outputs, **attrs)], "one", inputs, infos, constants)
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    def runtime(self) -> Arrays:
        """ONNX Runtime's answers, whose types are written into the model."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(self.model.SerializeToString(), options, ["CPUExecutionProvider"])
        return self.typed(session.run(None, self.feeds))

    def reference(self) -> Arrays:
        """ONNX's own answers."""
        from onnx.reference import ReferenceEvaluator

        return self.typed(ReferenceEvaluator(self.model).run(None, self.feeds))

    def typed(self, arrays: Arrays) -> Arrays:
        """The same, with their types entered in the model."""
        for info, array in zip(self.model.graph.output, arrays, strict=True):
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            info.CopyFrom(helper.make_tensor_value_info(info.name, kind, array.shape))
        return arrays

    def interpreted(self) -> Arrays:
        graph = import_model(self.model)
        return list(run(graph, [self.feeds[v.name] for v in graph.inputs]))

    def compiled(self) -> Arrays:
        import edgec.backend

        return list(edgec.backend.prepare(self.model).run(list(self.feeds.values())))


def close(got: Arrays, want: Arrays, tolerance: float = 1e-5) -> None:
    """Equal types; floats within `tolerance` of the largest magnitude, or two units of f16 and bf16."""
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if w.dtype.kind not in "fV":
            np.testing.assert_array_equal(g, w)
            continue
        wide = w.astype(np.float64)
        rough = {2: 1e-3 if w.dtype.kind == "f" else 1e-2}.get(w.dtype.itemsize, tolerance)
        scale = np.max(np.abs(wide[np.isfinite(wide)]), initial=1e-30)
        np.testing.assert_allclose(g.astype(np.float64), wide, rtol=rough, atol=rough * scale)
