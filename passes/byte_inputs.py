"""Takes inputs of a quantized model as the bytes that its first layers read: a quarter of the memory, no conversion."""

from __future__ import annotations

from edgec.compiler.ir import Graph, Node, QParams, Type, Value
from edgec.compiler.op import build
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.session import Session

from .integer.ends import UNMOVED, pair_of


@graph_pass(
    "byte-inputs",
    promise=lossy,
    after={"quantize": "inputs get the scale of the layers that read them"},
    nested=False,
    inputs=True,
)
def byte_inputs(graph: Graph, *, session: Session) -> Graph:
    """Inputs that are quantized with one scale wherever they are read become bytes: real = (byte - zero) * scale."""
    session.known_rules.add("byte-inputs")
    users = graph.users()
    new: dict[Value, Value] = {}
    real: dict[Node, Value] = {}
    for value in graph.inputs:
        node = _quantizer(value, users, graph)
        if isinstance(node, str):
            session.note(f"input {value.name!r} stays {value.type.dtype}: {node}")
        elif session.step("byte-inputs", value.node):
            kind = node.types[0].dtype
            new[value] = Value(Node("Input", (), (Type(kind, value.shape),), {}, value.name))
            label = f"{value.name}.real"
            real[value.node] = build("DequantizeLinear", new[value], *node.args[1:], label=label, axis=0)
            session.note(f"input {value.name!r} takes {kind}: {_meaning(pair_of(node))}")
    made = graph.map(lambda node: real.get(node))
    return graph.with_values(tuple(new.get(v, v) for v in graph.inputs), made.outputs) if new else graph


def _quantizer(value: Value, users: dict[Value, list[Node]], graph: Graph) -> Node | str:
    """The first QuantizeLinear that reads an input, directly or moved, where all do with the same scale; or why not."""
    if value.type.dtype != "f32":
        return "it is no f32"
    found: list[Node] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if here in graph.outputs:
            return "it is an output too"
        for node in users.get(here, []):
            if node.op in UNMOVED and node.args[0] == here:
                waiting.append(Value(node))
            elif node.op == "QuantizeLinear" and node.args[0] == here and pair_of(node) is not None:
                found.append(node)
            else:
                return f"{node.op} reads it in f32"
    if not found:
        return "nothing reads it"
    if len({(pair_of(node), node.types[0].dtype) for node in found}) > 1:
        return "its readers have scales of their own"
    return found[0]


def _meaning(pair: QParams | None) -> str:
    assert pair is not None
    return f"a byte stands for (byte - {pair.zero[0]}) * {pair.scale[0]:.8g}"
