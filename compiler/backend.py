"""`onnx.backend.base.Backend`: lets the official ONNX test runner drive compiled code.

A model whose inputs include what must be known at compile time (shapes, axes, open dimensions) is compiled when it is
run, with these inputs bound to the values that came; each new set of values is compiled once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.backend.base import Backend as _Backend
from onnx.backend.base import BackendRep, namedtupledict

from .errors import EdgecError
from .runtime import Model, load

_BINDABLE = 64  # elements: larger integer inputs are data, not shapes


class Rep(BackendRep):
    """A compiled model, or one that waits for its inputs to be compiled."""

    def __init__(self, proto: onnx.ModelProto, target: str) -> None:
        self.proto, self.target = proto, target
        weights = {i.name for i in proto.graph.initializer}
        self.names = [i.name for i in proto.graph.input if i.name not in weights]
        self.outputs = [o.name for o in proto.graph.output]
        self.models: dict[Any, Model] = {}
        self.refusal: EdgecError | None = None
        try:
            self.general: Model | None = self._compile({}, {})
        except EdgecError as error:
            self.general, self.refusal = None, error
            if not self._open_inputs():
                raise

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """Arrays in the order of the graph's inputs (or by name) to arrays in the order of its outputs."""
        given = inputs if isinstance(inputs, Mapping) else self._by_position(inputs)
        feed = {name: np.asarray(value) for name, value in given.items()}
        model = self.general or self._special(feed)
        outs = model.run({port.name: feed[port.name] for port in model.inputs})
        return tuple(namedtupledict("Outputs", self.outputs)(*(outs[name] for name in self.outputs)))

    def _by_position(self, inputs: Any) -> dict[str, npt.NDArray[Any]]:
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if len(values) > len(self.names):
            raise EdgecError(f"{len(values)} inputs, the model takes {len(self.names)}")
        return dict(zip(self.names, values, strict=False))

    def _open_inputs(self) -> bool:
        """Whether values or shapes of the inputs could make the model compilable."""
        return any(_bindable(i) or _open(i) for i in self.proto.graph.input if i.name in self.names)

    def _special(self, feed: Mapping[str, npt.NDArray[Any]]) -> Model:
        infos = {i.name: i for i in self.proto.graph.input}
        bind = {n: v for n, v in feed.items() if _bindable(infos[n]) and v.size <= _BINDABLE}
        shapes = {n: v.shape for n, v in feed.items() if n not in bind}
        key = (tuple(sorted(shapes.items())), tuple((n, v.tobytes(), v.shape) for n, v in sorted(bind.items())))
        if key not in self.models:
            try:
                self.models[key] = self._compile(shapes, bind)
            except EdgecError as error:
                raise (self.refusal if not bind and self.refusal else error) from None
        return self.models[key]

    def _compile(self, shapes: Mapping[str, Sequence[int]], bind: Mapping[str, Any]) -> Model:
        from edgec import compile as compile_model

        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            compile_model(self.proto, self.target, f"{folder}/bundle", name="model", shapes=shapes, bind=bind)
            return load(f"{folder}/bundle")


def _bindable(info: onnx.ValueInfoProto) -> bool:
    """Integers, flags and scalars: what ONNX passes shapes, axes, limits and switches in."""
    kind = info.type.tensor_type
    rank = len(kind.shape.dim) if kind.HasField("shape") else 1
    exact = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    return rank <= 1 and (kind.elem_type in exact or rank == 0)


def _open(info: onnx.ValueInfoProto) -> bool:
    kind = info.type.tensor_type
    return not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim)


class Backend(_Backend):
    """Compiles for this machine. Device "CPU" only."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:
        """Whether `prepare` would accept the model."""
        try:
            cls.prepare(model, device)
        except EdgecError:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", *, target: str = "host", **_: Any) -> Rep:
        """Compile into a temporary folder and load."""
        if not cls.supports_device(device):
            raise EdgecError(f"device {device!r}: only 'CPU' is supported")
        return Rep(model, target)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **options: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.partition(":")[0] == "CPU"


prepare = Backend.prepare
run_model = Backend.run_model
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible
