"""The references of `edgec verify`: ONNX Runtime on the model as it is, and the interpreter in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dtypes import dtype
from ..errors import EdgecError, nearest
from ..importer import import_model
from ..importer.drawn import draw_outside
from ..importer.read import model_file
from ..interpret import trace
from ..ir import Graph, Node, Value
from ..op import OPS, build, const, const_array, rebuild
from ..ports import Port
from .nudged import NUDGES, nudge
from .reference_types import foreign, run, show_as_floats

Arrays = dict[str, npt.NDArray[Any]]
_QUANTIZED = ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear")
_HALVES = ("bf16", "f16")  # coarsest first
_NARROW = ("f32", *_HALVES)


class Reference:
    """ONNX Runtime on the model as it is; `everything`: all named values are outputs too; `optimized`: with its own
    fused and integer kernels; `nudged`: with numbers so much larger where they become bytes (nudged.py)."""

    def __init__(
        self,
        model: str | Path,
        ports: list[Port],
        binds: Mapping[str, Any],
        *,
        everything: bool,
        optimized: bool = False,
        nudged: float | None = None,
    ) -> None:
        self._again: Callable[..., Reference] = partial(Reference, model, ports, binds, everything=False)
        self._others: dict[tuple[str, Any], Reference] = {}
        try:
            import onnx
            import onnxruntime as ort
        except ImportError as error:
            raise EdgecError("verify needs ONNX Runtime: pip install edgec[verify]") from error
        model_file(model)
        try:
            proto = onnx.load(str(model))
            draw_outside(proto, {*(port.name for port in ports), *binds})
            self.names = _names_by_node(proto)
            self.quantized = any(node.op_type in _QUANTIZED for node in proto.graph.node)
            _fix_shapes(proto, ports)
            if everything:
                _expose(proto)
            if nudged is not None:
                nudge(proto, nudged)
            self.session = _session(ort, proto, optimized)
            self.kinds = {o.name: kind for o in self.session.get_outputs() if (kind := foreign(o.type))}
            if self.kinds:
                show_as_floats(proto, self.kinds)
                self.session = _session(ort, proto, optimized)
        except Exception as error:  # both raise what they like
            raise EdgecError(f"{model}: ONNX Runtime refuses it: {str(error).splitlines()[0]}") from error
        self.binds = self._bound(ports, binds)

    def second(self, feed: Mapping[str, npt.NDArray[Any]], output: str) -> npt.NDArray[Any] | None:
        """An output with ONNX Runtime's optimizations; None where there is no such output."""
        return self._other("optimized", True).run(feed).get(output)

    def rounded_otherwise(self, feed: Mapping[str, npt.NDArray[Any]], output: str) -> list[npt.NDArray[Any]]:
        """An output of a quantized model by ONNX Runtime's integer kernels, and with nudged numbers."""
        others = [self._other("optimized", True), *(self._other("nudged", factor) for factor in NUDGES)]
        return [found for other in others if (found := other.run(feed).get(output)) is not None]

    def _other(self, key: str, value: Any) -> Reference:
        """The same model with another setting; made once."""
        if (key, value) not in self._others:
            self._others[key, value] = self._again(**{key: value})
        return self._others[key, value]

    def _bound(self, ports: list[Port], binds: Mapping[str, Any]) -> Arrays:
        there = {port.name for port in ports}
        wanted = {i.name: i for i in self.session.get_inputs() if i.name not in there}
        for name in there - {i.name for i in self.session.get_inputs()}:
            raise EdgecError(
                f"the bundle's input {name!r} is none of the ONNX model's: is it the model of this bundle?"
            )
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
            return run(self.session, {**feed, **self.binds}, self.kinds)
        except (Fail, InvalidArgument, RuntimeException) as error:
            raise EdgecError(f"ONNX Runtime cannot run the model: {str(error).splitlines()[0]}") from error


def _session(ort: Any, proto: Any, optimized: bool = False) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _as_input(value: Any, info: Any) -> npt.NDArray[Any]:
    native = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    kind = foreign(info.type)
    array = np.asarray(value, dtype(kind).numpy if kind else native.get(info.type, info.type[7:-1]))
    shape = [d if isinstance(d, int) else 1 for d in info.shape]
    return np.ascontiguousarray(np.broadcast_to(array, shape)) if prod(shape) != array.size else array.reshape(shape)


def _names_by_node(proto: Any) -> dict[str, list[str]]:
    """Names of results by name of node; a result's own name stands for itself, and for what it is when quantized: a
    step that moves bytes makes the bytes of a value that the model has as a float."""
    table: dict[str, list[str]] = {}
    for node in proto.graph.node:
        outputs = [name for name in node.output if name]
        for name in outputs:
            table.setdefault(name, [name])
        if node.name:
            table[node.name] = outputs
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            table.setdefault(node.input[0], [node.input[0]]).extend(name for name in node.output if name)
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


Rounding = Callable[[Node], "Value | tuple[Value, ...] | None"]


class Exact:
    """The model in float64, by the interpreter: the arbiter where a bundle and ONNX Runtime differ.

    `rounded` is what else is done to its nodes: `halved_operands` or `single_results`."""

    def __init__(
        self, model: str | Path, ports: list[Port], binds: Mapping[str, Any], rounded: Rounding | None = None
    ) -> None:
        shapes = {port.name: port.shape for port in ports}
        stated = import_model(model, shapes=shapes, binds=binds, notice=lambda text: None)
        self.halves = halves_before(stated)
        graph = in_float64(stated)
        self.graph = graph.map(rounded) if rounded else graph

    def run(self, feed: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Every value by its ONNX name."""
        kinds = {v.name: v.type.dtype for v in self.graph.inputs}
        wide = {k: v.astype(np.float64) if kinds[k] == "f64" else v for k, v in feed.items()}
        values = trace(self.graph, wide)
        found: Arrays = {value.name: array for value, array in values.items()}
        return found | {name: values[value] for name, value in self.graph.results}  # whose nodes may have no names


def halves_before(graph: Graph) -> dict[str, str]:
    """Values, by ONNX name, that come of computed ones in half precision, and the coarsest type of these."""
    found: dict[Node, str] = {}
    for node in graph.nodes():
        own = {t.dtype for t in node.types} if node.op != "Const" else set()
        kinds = own | {found[a.node] for a in node.args if a.node in found}
        if kind := next((k for k in _HALVES if k in kinds), None):
            found[node] = kind
    named = [*((v.name, v) for node in found for v in node.results), *graph.results]
    return {name: found[v.node] for name, v in named if v.node in found}


def in_float64(graph: Graph) -> Graph:
    """The same graph with every float widened to f64, in branches and loops too."""
    shown = {node.name: node.args[0].type.dtype for node in graph.nodes() if node.op == "BitCast"}

    def widen(node: Node) -> Value | tuple[Value, ...] | None:
        kind = node.types[0].dtype
        if node.op == "Const":
            return const(const_array(Value(node)).astype(np.float64), node.name) if kind in _NARROW else None
        if node.op == "Input":
            return build_input(node) if kind in _NARROW else None
        if node.op == "Cast" and node.attrs.get("to") in _NARROW:
            return build("Cast", *node.args, label=node.name, to="f64")
        if node.op == "DequantizeLinear":
            return rebuild(node, to="").results
        if node.op == "BitCast":
            return _same_bits(node, shown[node.name])
        bodies = {k: in_float64(v) for k, v in node.attrs.items() if isinstance(v, Graph)}
        return rebuild(node, node.args, **bodies).results

    return graph.map(widen)


def halved_operands(node: Node) -> Value | tuple[Value, ...] | None:
    """A contraction of numbers that have been rounded to f16."""
    if node.op not in OPS or OPS[node.op].kind != "contract":
        return None
    args = [build("Cast", build("Cast", a, to="f16"), to="f64") if a.type.dtype == "f64" else a for a in node.args]
    return rebuild(node, args).results


def single_results(node: Node) -> Value | tuple[Value, ...] | None:
    """Each operator as exact as f32 can store it, contractions summed in f32 too: whoever computes in f32 rounds at
    least so often."""
    if node.op not in OPS or OPS[node.op].kind == "source":
        return None
    args = node.args
    if OPS[node.op].kind == "contract":
        args = tuple(build("Cast", a, to="f32") if a.type.dtype == "f64" else a for a in args)
    made = rebuild(node, args).results
    return tuple(_in_single(v) for v in made)


def _in_single(value: Value) -> Value:
    if value.type.dtype not in ("f32", "f64"):
        return value
    return build("Cast", value if value.type.dtype == "f32" else build("Cast", value, to="f32"), to="f64")


def _same_bits(node: Node, source: str) -> Value:
    """The bits of a number in its own type, and what they are in another as f64."""
    (x,) = node.args
    inner = build("Cast", x, label=f"{node.name}.bits", to=source) if source in _NARROW else x
    y = build("BitCast", inner, label=node.name, to=node.attrs["to"])
    return build("Cast", y, label=node.name, to="f64") if y.type.dtype in _NARROW else y


def build_input(node: Node) -> Value:
    """The input as f64."""
    (t,) = node.types
    return Value(Node("Input", (), (type(t)("f64", t.shape),), {}, node.name))
