"""Weights with a scale per block of few of them, as language models have: in the form that kernels of products read.

That is `DequantizeLinear` of a constant matrix, unsigned, with blocks along the sums, of each product that reads it
(docs/design/0050). A file may say the same of signed numbers, or of the matrix turned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.session import Session
from edgec.compiler.target import Target

WORD = 32  # bits, of which kernels read the codes of a column at a time
SCALES = ("f32", "f16")


def in_blocks(g: Graph, session: Session) -> Graph:
    """Products with such weights, where the target's kernels take them; all others are left as they are."""
    if not has_kernels(session.target):
        return g
    users, outputs = g.users(), set(g.outputs)
    made: dict[Value, Value | None] = {}

    def product(node: Node) -> Value | None:
        if node.op != "MatMul" or node.types[0].dtype != "f32":
            return None
        w = node.args[1]
        if any(reader.op != "MatMul" for reader in users.get(w, [])) or w in outputs:
            return None
        if w not in made:
            made[w] = _canonical(w)
        found, shared = made[w], len(users[w]) > 1
        if found is None or (found == w and not shared) or not session.step("integers", node):
            return None
        if shared:  # each product widens for itself
            found = Value(replace(found.node))
        return build("MatMul", node.args[0], found, origin=node.origin, label=node.name)

    return g.map(product)


def stays(node: Node, users: dict[Value, list[Node]]) -> bool:
    """Whether a node makes weights that kernels widen."""
    readers = users.get(Value(node), [])
    alone = len(readers) == 1 and readers[0].op == "MatMul" and readers[0].args.index(Value(node)) == 1
    return alone and readers[0].types[0].dtype == "f32" and _canonical(Value(node)) == Value(node)


def has_kernels(target: Target | None) -> bool:
    """Whether kernels of a target widen such weights."""
    return target is None or target.multiplies_few_bits


def _canonical(w: Value) -> Value | None:
    """The same weights as kernels read them; None where they are no such weights."""
    turned = w.node.op == "Transpose"
    node = w.node.args[0].node if turned else w.node
    if node.op != "DequantizeLinear" or len(w.shape) != 2 or not all(map(is_const, node.args)):
        return None
    attrs: Any = full_attrs(node)
    codes, scales, zeros = node.args
    row = dtype(codes.type.dtype)
    if not row.is_whole or row.bits > 8 or scales.type.dtype not in SCALES or node.types[0].dtype != "f32":
        return None
    if not attrs["block"] or (attrs["axis"] % 2 == 1) != turned or attrs["block"] % (WORD // row.bits):
        return None
    if not turned and row.name[0] == "u" and (zeros.shape == () or not _equal(zeros)):
        return w
    signed = row.name[0] == "i"
    parts = [_unsigned(const_array(codes), row.bits, signed), const_array(scales)]
    parts.append(_unsigned(const_array(zeros), row.bits, signed))
    if _equal(zeros):
        parts[2] = parts[2].reshape(-1)[0]
    made = [
        const(np.asarray(a.T if turned else a, order="C"), v.name, v.node.origin)
        for a, v in zip(parts, node.args, strict=True)
    ]
    return build("DequantizeLinear", *made, axis=0, block=attrs["block"], to="f32", origin=node.origin, label=node.name)


def _equal(zeros: Value) -> bool:
    array: Any = const_array(zeros)
    return bool(np.all(array == array.flat[0]))


def _unsigned(array: Any, bits: int, signed: bool) -> Any:
    """Codes as unsigned ones, moved by half of their range where they are signed."""
    moved = array.astype(np.int16) + ((1 << (bits - 1)) if signed else 0)
    return moved.astype(dtype(f"u{bits}").numpy)
