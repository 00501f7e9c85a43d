"""Decides which arguments of a kernel its result may be written over."""

from __future__ import annotations

from edgec.compiler.ir import Node, Value
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import OPS, body_of, is_const


def replaceable(node: Node, value: Value) -> list[Value]:
    """Arguments that the kernel reads only elementwise, at the very index that it then writes.

    An argument counts when every path from it to the result is elementwise and of the result's shape, and when it lies
    in memory exactly as the result does.
    """
    body = body_of(node)
    if len(node.types) != 1:
        return []
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


def _lies(value: Value) -> tuple[str, str, int]:
    return value.type.layout, value.type.dtype, storage_bytes(value.type)
