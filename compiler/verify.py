"""The verifier: what must hold of every graph, after every pass.

level 0   nothing
level 1   closed and acyclic; known operators, arity, attributes; stored types equal inferred ones (layout and
          quantization aside); quantization invariants; nested graphs as well
level 2   + the rules of the stages that the graph has been through, and the text form reads back to the same text
level 3   + the interpreter gives the same answers before and after, as far as the pass promises
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from .dtypes import DTYPES, dtype, integer_limits, of_numpy
from .errors import IRError, nearest
from .ir import Array, Attr, Data, Graph, Node, Type
from .narrow import is_narrow, steps
from .op import OPS, infer
from .text import constants, excerpt, parse, show, show_type

Promise = Literal["exact", "close", "lossy"]
exact: Promise = "exact"  # the same bits
close: Promise = "close"  # the same numbers, sums in another order: 1e-4 of the largest magnitude
lossy: Promise = "lossy"  # other numbers on purpose (pruning, quantization); still finite, same shapes

StageRule = Callable[[Graph], None]
STAGE_RULES: dict[str, list[StageRule]] = {}
CLOSE = 1e-4


@dataclass(frozen=True)
class Fault:
    """One broken rule: the node, what is wrong, what was expected."""

    node: Node
    what: str


def stage_rule(stage: str, fn: StageRule) -> StageRule:
    """Add what must hold once the pass `stage` has run: `fn` raises `IRError` (see `fault`) where it does not."""
    STAGE_RULES.setdefault(stage, []).append(fn)
    return fn


def fault(graph: Graph, node: Node, what: str) -> IRError:
    """The error for a node: where (node, ONNX origin), what is wrong, and the IR around it. Its `node` is the node."""
    origin = f" (from {', '.join(node.origin[:3])}{' ...' if len(node.origin) > 3 else ''})" if node.origin else ""
    error = IRError(f"{node}{origin}: {what}", excerpt(graph, node, what))
    error.node = node  # type: ignore[attr-defined]
    return error


def verify(
    graph: Graph,
    level: int = 1,
    *,
    stages: Sequence[str] = (),
    before: Graph | None = None,
    promise: Promise = "exact",
) -> None:
    """Raise `IRError` at the first rule that `graph` breaks.

    `stages` names the passes that have run; `before` is the graph before the last one, `promise` what that one keeps.
    """
    if level <= 0:
        return
    structure(graph)
    if level >= 2:
        for stage in stages:
            for rule in STAGE_RULES.get(stage, []):
                rule(graph)
        round_trip(graph)
    if level >= 3 and before is not None:
        same_answers(before, graph, promise)


def structure(graph: Graph, nested: bool = False) -> None:
    """Level 1."""
    known: set[Node] = set()
    for value in graph.inputs:
        if value.node.op != "Input":
            raise fault(graph, value.node, f"is listed as an input of graph @{graph.name}; expected an Input node")
        if value.node in known:
            raise fault(graph, value.node, "is listed as an input twice")
        known.add(value.node)
    if not nested:
        _interface(graph)
    seen: set[Node] = set()
    for node in graph.nodes():
        for bad in _node_faults(node, known, seen):
            raise fault(graph, bad.node, bad.what)
        for inner in _nested(node.attrs.values()):
            try:
                structure(inner, nested=True)
            except IRError as error:
                nested_error = IRError(f"{node}: in graph @{inner.name}: {error}", error.context)
                nested_error.node = getattr(error, "node", node)  # type: ignore[attr-defined]
                raise nested_error from error
        seen.add(node)
    for value in graph.outputs:
        if not 0 <= value.index < len(value.node.types):
            raise fault(graph, value.node, f"output asks for result {value.index}; it has {len(value.node.types)}")


def _interface(graph: Graph) -> None:
    if graph.output_names and len(graph.output_names) != len(graph.outputs):
        raise IRError(f"graph @{graph.name}: {len(graph.output_names)} output names for {len(graph.outputs)} outputs")
    names = [v.node.name for v in graph.inputs]
    for kind, listed in (("input", names), ("output", [name for name, _ in graph.results])):
        twice = next((name for i, name in enumerate(listed) if name in listed[:i]), None)
        if twice is not None:
            raise IRError(f"graph @{graph.name}: two {kind}s are named {twice!r}; expected names that differ")


def _node_faults(node: Node, inputs: set[Node], seen: set[Node]) -> Iterable[Fault]:
    for arg in node.args:
        if arg.node not in seen:
            yield Fault(node, f"reads {arg.node} before it is made: the graph is cyclic")
        if arg.node.op == "Edgec.Sized":
            yield Fault(node, f"reads {arg.node}, of which only the user knows the size; expected its first argument")
        if not 0 <= arg.index < len(arg.node.types):
            yield Fault(node, f"reads result {arg.index} of {arg.node}; it has {len(arg.node.types)}")
    for key, value in node.attrs.items():
        if not _is_attr(value):
            yield Fault(
                node,
                f"attribute {key!r} is a {type(value).__name__}; expected bool, int, float, str, tuple, Data or Graph",
            )
    for t in node.types:
        yield from (Fault(node, what) for what in _type_faults(t))
    if node.op == "Input":
        if node not in inputs:
            yield Fault(node, "is read but is not an input of this graph; expected a closed graph")
    elif node.op == "Const":
        yield from _const_faults(node)
    elif node.op not in OPS:
        yield Fault(node, f"unknown operator {node.op!r}{nearest(node.op, OPS)}")
    else:
        yield from _inferred_faults(node)


def _is_attr(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_attr, value))
    return type(value) in (bool, int, float, str, Data, Graph)


def _type_faults(t: Type) -> Iterable[str]:
    if t.dtype not in DTYPES:
        yield f"unknown element type {t.dtype!r}{nearest(t.dtype, DTYPES)}"
        return
    if any(type(n) is not int or n < 0 for n in t.shape):
        yield f"shape {list(t.shape)}; expected integers that are not negative"
    if t.q is None:
        return
    row, q = dtype(t.dtype), t.q
    if not row.is_whole:
        yield f"{t} is quantized; expected an integer type"
        return
    want = 1
    if q.axis is not None:
        if not 0 <= q.axis < len(t.shape):
            yield f"quantized along axis {q.axis}; {t} has {len(t.shape)} axes"
            return
        want = t.shape[q.axis]
    if len(q.scale) != want or len(q.zero) != want:
        per = "the tensor" if q.axis is None else f"axis {q.axis} of {t}"
        yield f"{len(q.scale)} scale(s) and {len(q.zero)} zero point(s) for {per}; expected {want} of each"
    for scale in q.scale:
        if not isfinite(scale) or scale <= 0:
            yield f"scale {scale}; expected a finite number above zero"
    least, most = integer_limits(row)
    for zero in q.zero:
        if not least <= zero <= most:
            yield f"zero point {zero}; expected {least} to {most}, the range of {t.dtype}"


def _const_faults(node: Node) -> Iterable[Fault]:
    data = node.attrs.get("data")
    if node.args or len(node.types) != 1 or not isinstance(data, Data):
        yield Fault(node, "a constant has data, one result and no arguments")
        return
    t = node.types[0]
    if data.array.dtype != dtype(t.dtype).numpy:
        yield Fault(node, f"type says {t.dtype} but its data is {data.array.dtype}")
    if data.array.shape != t.shape and not t.layout:
        yield Fault(node, f"type says {list(t.shape)} but its data has shape {list(data.array.shape)}")


def _inferred_faults(node: Node) -> Iterable[Fault]:
    try:
        OPS[node.op].check(node)
        want = infer(node.op, [a.type for a in node.args], node.attrs, str(node))
    except IRError as error:
        yield Fault(node, str(error).removeprefix(f"{node}: "))
        return
    if len(want) != len(node.types):
        yield Fault(node, f"has {len(node.types)} result(s); its arguments give {len(want)}")
        return
    for index, (got, expected) in enumerate(zip(node.types, want, strict=True)):
        if (got.dtype, got.shape) != (expected.dtype, expected.shape):
            which = f" of result {index}" if len(want) > 1 else ""
            yield Fault(node, f"type{which} says {_bare(got)} but its arguments give {_bare(expected)}")


def _bare(t: Type) -> str:
    return show_type(Type(t.dtype, t.shape))


def _nested(values: Iterable[Attr]) -> Iterable[Graph]:
    for value in values:
        if isinstance(value, Graph):
            yield value
        elif isinstance(value, tuple):
            yield from _nested(value)


def round_trip(graph: Graph) -> None:
    """Level 2: the text form reads back to the same text."""
    text = show(graph)
    again = show(parse(text, constants(graph)))
    if again != text:
        lines = zip(text.split("\n"), again.split("\n"), strict=False)
        was, now = next(((a, b) for a, b in lines if a != b), ("", ""))
        raise IRError(
            f"graph @{graph.name}: the text form does not read back to itself: {was.strip()!r} became {now.strip()!r}"
        )


def seeded_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Inputs to run a graph with: floats normally distributed, quantized integers over their range, others 0 or 1."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in graph.inputs:
        t, row = value.type, dtype(value.type.dtype)
        if row.is_float or is_narrow(row.name):
            array: Array = np.asarray(rng.standard_normal(t.shape))
        elif t.q is not None or row.is_storage:
            array = rng.integers(*integer_limits(row), t.shape, endpoint=True)
        else:
            array = rng.integers(0, 1, t.shape, endpoint=True)
        feeds[value.node.name] = array.astype(row.numpy)
    return feeds


def same_answers(before: Graph, after: Graph, promise: Promise, seed: int = 0, tolerance: float = CLOSE) -> None:
    """Level 3: both graphs run on the same seeded inputs; `IRError` names the output that differs and by how much."""
    from .interpret import interpret  # the operators' numpy meanings are not needed below level 3

    feeds = seeded_inputs(before, seed)
    want, got = interpret(before, feeds), interpret(after, feeds)
    for name in want:
        if name not in got:
            raise IRError(f"graph @{after.name}: output {name!r} is gone{nearest(name, got)}")
        if problem := difference(want[name], got[name], promise, tolerance):
            raise IRError(f"graph @{after.name}: output {name!r} {problem}")


def difference(want: Array, got: Array, promise: Promise, tolerance: float = CLOSE) -> str:
    """What breaks the promise between two arrays; "" where nothing does. `tolerance` is relative to max |want|."""
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"was {want.dtype}{list(want.shape)} and is now {got.dtype}{list(got.shape)}"
    if want.size == 0:
        return ""
    row = dtype(of_numpy(want.dtype))
    if promise == "exact" or not row.is_float:
        same = (want == got) | ((want != want) & (got != got))
        if promise == "close" and (row.is_whole or row.is_storage) and row.bytes == 1:
            # quantized: a sum's order may tip a rounding
            same |= np.abs(steps(want) - steps(got)) <= 1
        if promise == "lossy" or bool(np.all(same)):
            return ""
        return f"differs in {int(np.sum(~same))} of {want.size} elements; expected the same bits"
    a, b = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(np.isfinite(b), finite):
        return "is finite in other places than before"
    if promise == "lossy" or not finite.any():
        return ""
    error, scale = np.abs(a[finite] - b[finite]).max(), np.abs(a[finite]).max()
    if error > tolerance * max(scale, 1e-30):
        return (
            f"differs by {error:.3g} where the largest magnitude is {scale:.3g}; expected at most {tolerance:g} of it"
        )
    return ""
