"""What a kernel's body computes, as text that is equal for bodies that differ in names only."""

from __future__ import annotations

from .ir import Attr, Data, Graph, Value


def content(body: Graph) -> str:
    """Operators, attributes, types with their layouts, and which value is read where."""
    number: dict[Value, int] = {}
    lines = []
    for node in body.nodes():
        attrs = [(k, _whole(v)) for k, v in sorted(node.attrs.items())]
        lines.append(f"{node.op}{[number[a] for a in node.args]}{attrs}{[str(t) for t in node.types]}{node.types[0].q}")
        number.update((v, len(number) + i) for i, v in enumerate(node.results))
    return f"{lines}{[number[v] for v in body.inputs]}{[number[v] for v in body.outputs]}"


def _whole(value: Attr) -> object:
    """An attribute with the elements of arrays, which the printed form leaves out."""
    if isinstance(value, tuple):
        return tuple(map(_whole, value))
    return value.array.tobytes() if isinstance(value, Data) else content(value) if isinstance(value, Graph) else value
