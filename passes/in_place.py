"""Decides which arguments of a kernel its result may be written over."""

from __future__ import annotations

from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import OPS, body_of, is_const


def replaceable(node: Node, value: Value) -> list[Value]:
    """Arguments that the kernel reads only elementwise, at the very index that it then writes.

    An argument counts when every path from it to the result is elementwise and of the result's shape, and when it lies
    in memory exactly as the result does. A kernel of one node may have an argument that it changes where it lies.
    """
    body = body_of(node)
    if len(node.types) != 1:
        return []
    if (changed := _changed(body)) is not None:
        given = node.args[body.inputs.index(changed)]
        return [given] if _lies(given) == _lies(value) and not is_const(given) else []
    direct: set[Value] = set(body.outputs)
    barred: set[Value] = set()
    for inner in reversed(list(body.nodes())):
        result = Value(inner)
        same = (
            OPS[inner.op].kind == "elementwise"
            and result in direct
            and result not in barred
            and result.shape == value.shape
        )
        for arg in inner.args:
            (direct if same and arg.shape == value.shape else barred).add(arg)
    found = []
    for inside, arg in zip(body.inputs, node.args, strict=True):
        if _lies(arg) == _lies(value) and inside in direct and inside not in barred and not is_const(arg):
            found.append(arg)
    return found


def _changed(body: Graph) -> Value | None:
    """The input that the body's only node may write over, if it reads it nowhere else."""
    node = body.outputs[0].node
    over = OPS[node.op].over
    if over is None or node.args.count(node.args[over]) > 1 or node.args[over] not in body.inputs:
        return None
    return node.args[over]


def _lies(value: Value) -> tuple[str, str, int]:
    return value.type.layout, value.type.dtype, storage_bytes(value.type)
