"""Compares a compiled bundle with ONNX Runtime on the same inputs: what "correct" means, measured.

The error of a value is its largest absolute difference, relative to the reference's largest magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import toolchain as tools
from .bundle.emulate import Emulated
from .bundle.manifest import Bundle, read_bundle
from .errors import EdgecError, nearest
from .layout import layout, unpack
from .runtime import Model, Port, named_dtype, random_inputs, read_arrays

Arrays = dict[str, npt.NDArray[Any]]
Trace = Callable[[Mapping[str, npt.NDArray[Any]], list[tuple[int, int, int]]], tuple[Arrays, list[bytes]]]

TOLERANCE = 1e-4
_LOOSER = {"float16": 2e-3, "bfloat16": 1.6e-2}  # two units in the last place


@dataclass(frozen=True)
class Difference:
    """One compared value. `where` is the step that made it, or "output"."""

    where: str
    value: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """All compared values in the order they are computed; `skipped`: steps without a counterpart in the reference."""

    differences: tuple[Difference, ...]
    skipped: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(d.ok for d in self.differences)


def verify(
    model: str | Path,
    bundle: str | Path,
    *,
    layers: bool = False,
    inputs: str | Path | Mapping[str, npt.ArrayLike] | None = None,
    runs: int = 1,
    binds: Mapping[str, Any] | None = None,
) -> Comparison:
    """Run ONNX model and bundle on `inputs`, or on `runs` seeded random ones; the worst of each value is reported.

    `binds` gives the values of inputs that were fixed at compile time. A foreign bundle runs in an emulator.
    """
    compiled = read_bundle(bundle)
    ports = [Port(p["name"], p["dtype"], tuple(p["shape"])) for p in compiled.manifest["inputs"]]
    if layers and not any(s.get("results") for s in compiled.steps):
        raise EdgecError(f"{bundle}: its manifest does not say where values lie; compile it again with this version")
    reference = Reference(model, ports, binds or {}, everything=layers)
    if runs < 1:
        raise EdgecError(f"runs must be 1 or more, got {runs}")
    feeds = [_given(inputs, ports)] if inputs is not None else [random_inputs(ports, seed) for seed in range(runs)]
    trace = _executor(compiled)
    found = [_compare(compiled, trace, reference, feed, layers) for feed in feeds]
    worst = [max(same, key=lambda d: d.error) for same in zip(*(f.differences for f in found), strict=True)]
    return Comparison(tuple(worst), found[0].skipped)


def relative_error(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """Largest difference relative to the largest magnitude of `want`; NaN and infinity must be at the same places."""
    if got.shape != want.shape:
        return inf
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return inf
    if not finite.any():
        return 0.0
    scale = float(np.abs(b[finite]).max())
    return float(np.abs(a[finite] - b[finite]).max()) / (scale or 1.0)


class Reference:
    """ONNX Runtime on the model as it is; `everything`: all named values are outputs too."""

    def __init__(self, model: str | Path, ports: list[Port], binds: Mapping[str, Any], *, everything: bool) -> None:
        try:
            import onnx
            import onnxruntime as ort
        except ImportError as error:
            raise EdgecError("verify needs ONNX Runtime: pip install edgec[verify]") from error
        if not Path(model).is_file():
            raise EdgecError(f"{model}: no such file")
        try:
            proto = onnx.load(str(model))
            self.names = _names_by_node(proto)
            _fix_shapes(proto, ports)
            if everything:
                _expose(proto)
            options = ort.SessionOptions()
            options.log_severity_level = 4
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            self.session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # both raise what they like
            raise EdgecError(f"{model}: ONNX Runtime refuses it: {str(error).splitlines()[0]}") from error
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.binds = self._bound(ports, binds)

    def _bound(self, ports: list[Port], binds: Mapping[str, Any]) -> Arrays:
        there = {port.name for port in ports}
        wanted = {i.name: i for i in self.session.get_inputs() if i.name not in there}
        for name in binds:
            if name not in wanted:
                raise EdgecError(f"--bind {name}: not an input that was fixed at compile time{nearest(name, wanted)}")
        if missing := [name for name in wanted if name not in binds]:
            raise EdgecError(
                f"input {missing[0]!r} was fixed at compile time: give its value with --bind {missing[0]}=VALUE"
            )
        return {name: _as_input(binds[name], wanted[name]) for name in wanted}

    def run(self, feed: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

        try:
            values = self.session.run(self.outputs, {**feed, **self.binds})
        except (Fail, InvalidArgument, RuntimeException) as error:
            raise EdgecError(f"ONNX Runtime cannot run the model: {str(error).splitlines()[0]}") from error
        return {k: v for k, v in zip(self.outputs, values, strict=True) if isinstance(v, np.ndarray)}


def _as_input(value: Any, info: Any) -> npt.NDArray[Any]:
    kind = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}.get(info.type)
    array = np.asarray(value, kind or info.type[7:-1])
    shape = [d if isinstance(d, int) else 1 for d in info.shape]
    return np.ascontiguousarray(np.broadcast_to(array, shape)) if prod(shape) != array.size else array.reshape(shape)


def _names_by_node(proto: Any) -> dict[str, list[str]]:
    """Names of results by name of node; a result's own name stands for itself."""
    table: dict[str, list[str]] = {}
    for node in proto.graph.node:
        outputs = [name for name in node.output if name]
        for name in outputs:
            table.setdefault(name, [name])
        if node.name:
            table[node.name] = outputs
    return table


def _fix_shapes(proto: Any, ports: list[Port]) -> None:
    """Give the model's inputs the shapes that the bundle was compiled for."""
    by_name = {port.name: port for port in ports}
    for info in proto.graph.input:
        port = by_name.get(info.name)
        if port is not None and len(info.type.tensor_type.shape.dim) == len(port.shape):
            for dim, size in zip(info.type.tensor_type.shape.dim, port.shape, strict=True):
                dim.dim_value = size


def _expose(proto: Any) -> None:
    import onnx

    there = {o.name for o in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in there:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
                there.add(name)


def _given(inputs: str | Path | Mapping[str, npt.ArrayLike], ports: list[Port]) -> Arrays:
    arrays = read_arrays(inputs) if isinstance(inputs, (str, Path)) else {k: np.asarray(v) for k, v in inputs.items()}
    known = [port.name for port in ports]
    for name in arrays:
        if name not in known:
            raise EdgecError(f"the model has no input {name!r}{nearest(name, known)}")
    for port in ports:
        if port.name not in arrays:
            raise EdgecError(f"no value for input {port.name!r}")
        array = arrays[port.name]
        if array.dtype != named_dtype(port.dtype) or array.shape != port.shape:
            raise EdgecError(f"input {port.name!r}: {array.dtype}{array.shape}, expected {port.dtype}{port.shape}")
    return arrays


def _executor(bundle: Bundle) -> Trace:
    if tools.runs_here(bundle.manifest["triple"]):
        return Model(bundle).trace
    return Emulated(bundle).trace


def _compare(bundle: Bundle, trace: Trace, reference: Reference, feed: Arrays, layers: bool) -> Comparison:
    stored = [(i, s, r) for i, s in enumerate(bundle.steps) for r in s.get("results", [])] if layers else []
    probes = [(i, r["offset"], _stored_bytes(r)) for i, _, r in stored]
    outputs, memory = trace(feed, probes)
    wanted = reference.run(feed)
    rows, skipped = [], []
    for (_, step, result), data in zip(stored, memory, strict=True):
        row = _closest(step, result, data, reference.names, wanted)
        if row is None:
            skipped.append(step["name"])
        else:
            rows.append(row)
    for name, got in outputs.items():
        if name not in wanted:
            raise EdgecError(
                f"the ONNX model has no output {name!r}{nearest(name, wanted)}: is it the model of this bundle?"
            )
        error = relative_error(got, wanted[name]) if got.dtype == wanted[name].dtype else inf
        rows.append(Difference("output", name, error, tolerance(got.dtype)))
    return Comparison(tuple(rows), tuple(skipped))


def tolerance(kind: np.dtype[Any]) -> float:
    """Allowed relative error of an element type."""
    return _LOOSER.get(kind.name, TOLERANCE)


def _stored_bytes(result: Mapping[str, Any]) -> int:
    shape = layout(result["layout"], len(result["shape"])).physical(tuple(result["shape"]))
    return prod(shape) * named_dtype(result["dtype"]).itemsize


def _closest(
    step: Mapping[str, Any], result: Mapping[str, Any], data: bytes, names: Mapping[str, list[str]], wanted: Arrays
) -> Difference | None:
    """The stored value against that value of the ONNX nodes behind the step which it is nearest to.

    Which of them a fused step ends with is not recorded: passes may have reordered them.
    """
    shape, kind = tuple(result["shape"]), named_dtype(result["dtype"])
    got = unpack(np.frombuffer(data, kind), result["layout"], shape)
    candidates = dict.fromkeys(n for o in (result["value"], *reversed(step["origin"])) for n in names.get(o, []))
    same = [n for n in candidates if n in wanted and wanted[n].size == got.size and wanted[n].dtype == kind]
    errors = [(relative_error(got.reshape(wanted[n].shape), wanted[n]), i) for i, n in enumerate(same)]
    if not errors:
        return None
    error, index = min(errors)
    return Difference(step["name"], same[index], error, tolerance(kind))
