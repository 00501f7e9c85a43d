"""From an ONNX model to the canonical graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from .. import ops  # noqa: F401  (fills the operator table)
from ..errors import EdgecError, Unsupported, UnsupportedModel
from ..ir import Graph, Node, Value
from ..op import build, const, is_const
from . import families  # noqa: F401  (fills the table of converters)
from .context import Absent, Items, Unknown
from .convert import Walk, no_elements
from .dims import input_types
from .drawn import draw_outside
from .functions import plain_domain
from .read import cleaned, opset_of, read_model
from .spread import spread

__all__ = ["import_model"]


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def import_model(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, int] | None = None,
    binds: Mapping[str, Any] | None = None,
    notice: Callable[[str], None] = _to_stderr,
) -> Graph:
    """The canonical graph of a model.

    shapes   input name -> sizes; of a sequence, a list of the sizes of each member. The name of what a random operator
             draws makes that an input
    dims     name of a symbolic dimension -> size
    binds    input name -> value, which makes the input a constant; None: an optional that holds nothing
    notice   told, in one line, what was assumed

    Names of inputs and outputs are the model's. Raises `EdgecError` (one line) for what is wrong with the model or
    the arguments, and `UnsupportedModel` with every node that cannot be compiled.
    """
    for what, given in (("shapes", shapes), ("dims", dims), ("bind", binds)):
        if not isinstance(given, Mapping | None):
            raise EdgecError(f"{what}: {given!r}; expected a table by name")
    model, where = read_model(source)
    draw_outside(model, {*(shapes or {}), *(binds or {})})
    initialized = {t.name for t in model.graph.initializer}
    declared = [i for i in model.graph.input if i.name not in initialized]
    tensors = spread(declared, shapes or {}, binds or {})
    types, arrays, refused = input_types(tensors.declared, tensors.shapes, dims or {}, tensors.binds, notice)
    opset = opset_of(model)
    walk = Walk(opset, outputs=frozenset(o.name for o in model.graph.output))
    walk.versions = {plain_domain(o.domain): o.version for o in model.opset_import} | {"": opset}
    walk.functions = {(plain_domain(f.domain), f.name): f for f in model.functions}
    del model.functions[:]
    walk.refusals += [Unsupported(name, "Input", opset, why.why, why.help) for name, why in refused.items()]
    inputs = tuple(Value(Node("Input", (), (t,), {}, name)) for name, t in types.items())
    walk.values.update({v.name: no_elements(v) or v for v in inputs})
    walk.values.update({name: Unknown() for name in refused})
    walk.values.update({name: const(array, name) for name, array in arrays.items()})
    walk.values.update(tensors.held({n: v for n, v in walk.values.items() if isinstance(v, Value)}))
    walk.names.update(walk.values)
    try:
        walk.graph(cleaned(model))
        if not walk.refusals:
            return _finish(model.graph.name or "model", inputs, [o.name for o in model.graph.output], walk)
    except EdgecError as error:
        raise type(error)(f"{where}: {error}") from error.__cause__
    raise UnsupportedModel(walk.refusals, where)


def _finish(name: str, inputs: tuple[Value, ...], outputs: Sequence[str], walk: Walk) -> Graph:
    """Every output a computed value of its own, so that each has memory of its own."""
    seen: set[Value] = set(inputs)
    results: dict[str, Value] = {}
    for output, value in _tensors(outputs, walk):
        if output in results:
            raise EdgecError(f"two outputs are named {output!r}; expected names that differ")
        count = walk.counts.get(value)
        if value in seen or is_const(value):
            value = build("Edgec.Layout", value, label=walk.unique(output))
        seen.add(value)
        if count is not None:
            value = build("Edgec.Sized", value, count.value, axis=count.axis, label=walk.unique(output))
        results[output] = value
    return Graph(name, inputs, tuple(results.values()), tuple(results))


def _tensors(outputs: Sequence[str], walk: Walk) -> Iterator[tuple[str, Value]]:
    """The outputs by name; the members of a sequence are `name.0`, `name.1` and so on."""
    for output in outputs:
        value = walk.values.get(output)
        if value is None or isinstance(value, Unknown):
            raise EdgecError(f"nothing computes the output {output!r}{value.why if value else ''}")
        if isinstance(value, Absent):
            raise EdgecError(f"output {output!r} is an optional that holds nothing; expected a tensor")
        if isinstance(value, Items):
            yield from ((f"{output}.{k}", member) for k, member in enumerate(value.members))
        else:
            yield output, value
