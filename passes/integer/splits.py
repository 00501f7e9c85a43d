"""A quantized tensor that is cut into parts is cut as bytes: parts have the scale and the zero point of the whole."""

from __future__ import annotations

from dataclasses import replace

from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import build, is_const

from .ends import lying


def splits_of_bytes(g: Graph) -> Graph:
    """Every Split of a DequantizeLinear before it, where something behind reads bytes."""
    users = g.users()
    new: dict[Value, Value] = {}
    for old in g.nodes():
        args = tuple(new[a] for a in old.args)
        node = old if args == old.args else replace(old, args=args)
        wanted = node.op == "Split" and lying(node.args[0].node) is not None
        if wanted and any(_takes_bytes(reader) for part in old.results for reader in users.get(part, [])):
            new.update(zip(old.results, _parts(node), strict=True))
        else:
            new.update(zip(old.results, node.results, strict=True))
    return g.with_values(tuple(new[v] for v in g.inputs), tuple(new[v] for v in g.outputs))


def _takes_bytes(reader: Node) -> bool:
    """Whether it makes bytes of a part, or multiplies it with quantized weights."""
    if reader.op not in ("Conv", "MatMul"):
        return reader.op == "QuantizeLinear"
    weights = reader.args[1].node
    return weights.op == "DequantizeLinear" and is_const(weights.args[0])


def _parts(node: Node) -> list[Value]:
    real = node.args[0].node
    whole, *pair = real.args
    cut = build("Split", whole, origin=node.origin, label=node.name, **node.attrs).node
    names = [f"{node.name}.{k}" if node.name else "" for k in range(len(cut.types))]
    parts = zip(cut.results, names, strict=True)
    return [build("DequantizeLinear", part, *pair, origin=real.origin, label=name) for part, name in parts]
