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
from onnx import helper
from onnx.backend.base import Backend as _Backend
from onnx.backend.base import BackendRep, namedtupledict

from .bundle.cuda_emulation import has_driver
from .dtypes import dtype, of_onnx
from .errors import EdgecError, UnsupportedModel
from .execution.model import Model, load
from .ports import check_names

_BINDABLE = 64  # elements: larger integer inputs are data, not shapes


class Rep(BackendRep):
    """A compiled model, or one that waits for its inputs to be compiled."""

    def __init__(self, proto: onnx.ModelProto, target: str, arch: str | None = None) -> None:
        self.proto, self.target, self.arch = proto, target, arch
        weights = {i.name for i in proto.graph.initializer}
        self.names = [i.name for i in proto.graph.input if i.name not in weights]
        self.outputs = [o.name for o in proto.graph.output]
        self.models: dict[Any, Model] = {}
        self.refusal: EdgecError | None = None
        self.infos = {i.name: i for i in proto.graph.input if i.name in self.names}
        try:
            self.general: Model | None = self._compile({}, {})
        except EdgecError as error:
            self.general, self.refusal = None, error
            if not self._may_help(error):
                raise

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """Arrays in the order of the graph's inputs (or by name) to arrays in the order of its outputs."""
        feed = self._arrays(inputs if isinstance(inputs, Mapping) else self._by_position(inputs))
        model = self.general if self.general and self._fits(self.general, feed) else self._special(feed)
        flat = {**feed, **_members(feed)}
        outs = model.run({port.name: flat[port.name] for port in model.inputs})
        results = (_gathered(info, outs) for info in self.proto.graph.output)
        return tuple(namedtupledict("Outputs", self.outputs)(*results))

    def _by_position(self, inputs: Any) -> dict[str, Any]:
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if len(values) > len(self.names):
            raise EdgecError(f"{len(values)} inputs, the model takes {len(self.names)}")
        return dict(zip(self.names, values, strict=False))

    def _arrays(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """One array per input; what is no array yet gets the input's element type. Sequences are lists of arrays."""
        check_names(given, self.names)
        return {name: _taken(self.infos[name], given[name]) for name in self.names}

    def _may_help(self, error: EdgecError) -> bool:
        """Whether values or shapes of the inputs could make the model compilable."""
        infos = self.infos.values()
        if isinstance(error, UnsupportedModel) and not all(map(_is_tensor, infos)):
            return all(_is_tensor(i) or _is_nested(i) for i in infos)
        if isinstance(error, UnsupportedModel) and not any(map(_open, infos)):
            return all(entry.needs_value for entry in error.entries) and any(map(_short, infos))
        return all(map(_is_tensor, infos)) and any(_bindable(i) or _open(i) for i in infos)

    def _fits(self, model: Model, feed: Mapping[str, Any]) -> bool:
        """Whether the open dimensions have these sizes. Where none is open, the model itself says what is wrong."""
        if not all(map(_is_tensor, self.infos.values())):
            return False
        return not any(map(_open, self.infos.values())) or all(p.shape == feed[p.name].shape for p in model.inputs)

    def _special(self, feed: Mapping[str, Any]) -> Model:
        """For these values of what may be shapes, axes or switches; where that will not do, of all short inputs."""
        absent = {n: v for n, v in feed.items() if v is None}
        if self.general:
            return self._bound(feed, absent)
        small = {n: v for n, v in feed.items() if _is_tensor(self.infos[n]) and v.size <= _BINDABLE}
        exact = absent | {n: v for n, v in small.items() if _bindable(self.infos[n])}
        try:
            return self._bound(feed, exact)
        except UnsupportedModel as error:
            short = {n: v for n, v in small.items() if _short(self.infos[n])}
            if short.keys() <= exact.keys():
                raise (self.refusal if not exact and self.refusal else error) from None
            return self._bound(feed, exact | short)

    def _bound(self, feed: Mapping[str, Any], bind: Mapping[str, Any]) -> Model:
        shapes = {n: _shape(v) for n, v in feed.items() if n not in bind}
        fixed = {n: None if v is None else (v.tobytes(), v.shape) for n, v in bind.items()}
        key = (tuple(sorted(shapes.items())), tuple(sorted(fixed.items())))
        if key not in self.models:
            self.models[key] = self._compile(shapes, bind)
        return self.models[key]

    def _compile(self, shapes: Mapping[str, Sequence[Any]], bind: Mapping[str, Any]) -> Model:
        from edgec import compile as compile_model

        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            out = f"{folder}/bundle"
            compile_model(self.proto, self.target, out, name="model", shapes=shapes, bind=bind, arch=self.arch)
            return load(out)


def _is_tensor(info: onnx.ValueInfoProto) -> bool:
    return info.type.WhichOneof("value") == "tensor_type" and of_onnx(info.type.tensor_type.elem_type) is not None


def _is_nested(info: onnx.ValueInfoProto) -> bool:
    """A sequence, or an optional, of tensors of numbers."""
    inner = info.type.optional_type.elem_type if info.type.HasField("optional_type") else info.type
    kind = inner.sequence_type.elem_type if inner.HasField("sequence_type") else inner
    return kind.HasField("tensor_type") and of_onnx(kind.tensor_type.elem_type) is not None


def _shape(value: Any) -> tuple[Any, ...]:
    return tuple(v.shape for v in value) if isinstance(value, list) else value.shape


def _members(feed: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The tensors of the sequences under the names that they have in the compiled model."""
    lists = {name: value for name, value in feed.items() if isinstance(value, list)}
    return {f"{name}.{k}": member for name, value in lists.items() for k, member in enumerate(value)}


def _gathered(info: onnx.ValueInfoProto, outs: Mapping[str, npt.NDArray[Any]]) -> Any:
    """An output of the ONNX model: an array, or the list of a sequence's members."""
    if info.name in outs:
        return outs[info.name]
    members = [name for name in outs if name.rpartition(".")[0] == info.name]
    return [outs[f"{info.name}.{k}"] for k in range(len(members))]


def _taken(info: onnx.ValueInfoProto, value: Any) -> Any:
    if _is_tensor(info):
        return _array(info, value)
    return value if value is None else [np.asarray(v) for v in value] if isinstance(value, list) else np.asarray(value)


def _array(info: onnx.ValueInfoProto, value: Any) -> npt.NDArray[Any]:
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    element = of_onnx(info.type.tensor_type.elem_type)
    try:
        return np.asarray(value, dtype(element).numpy if element else None)
    except (ValueError, TypeError, OverflowError) as error:
        raise EdgecError(f"input {info.name!r}: is not an array of {element}: {error}") from None


def _short(info: onnx.ValueInfoProto) -> bool:
    """A vector or a scalar, as resizing factors are."""
    kind = info.type.tensor_type
    return not kind.HasField("shape") or len(kind.shape.dim) <= 1


def _bindable(info: onnx.ValueInfoProto) -> bool:
    """Integers, flags and scalars: what ONNX passes shapes, axes, limits and switches in."""
    kind = info.type.tensor_type
    exact = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    return _short(info) and (kind.elem_type in exact or (kind.HasField("shape") and not kind.shape.dim))


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
        """Compile into a temporary folder and load. On the device CUDA without a GPU its kernels are emulated."""
        if not cls.supports_device(device):
            raise EdgecError(f"device {device!r}: only 'CPU' and 'CUDA' are supported")
        if device.partition(":")[0] == "CPU":
            return Rep(model, target)
        return Rep(model, "cuda" if target == "host" else target, None if has_driver() else "emulated")

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **options: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **options: Any
    ) -> tuple[Any, ...]:
        """A model of one node. Its inputs are arrays, in order, those that are left out left out."""
        opset = options.pop("opset_version", onnx.defs.onnx_opset_version())
        arrays = [np.asarray(value) for value in inputs]
        names = [name for name in node.input if name]
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], node.name or node.op_type, infos, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])
        return cls.run_model(onnx.shape_inference.infer_shapes(model), arrays, device, **options)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.partition(":")[0] in ("CPU", "CUDA")


prepare = Backend.prepare
run_model = Backend.run_model
supports_device = Backend.supports_device
run_node = Backend.run_node
is_compatible = Backend.is_compatible
