"""How many bytes of its arguments and results a kernel reads and writes: what a faster memory would speed up."""

from __future__ import annotations

from .dtypes import dtype
from .ir import Node, Value
from .layout import storage_bytes
from .macs import macs
from .op import OPS, body_of, int_attr

TILE = 2  # multiply-accumulates that a small core makes of one element that it has read


def bytes_read(node: Node) -> tuple[list[float], list[float], float]:
    """Of a fused kernel: bytes of each argument, of each result, of its scratch."""
    body = body_of(node)
    whole = [n for n in body.nodes() if OPS[n.op].kind == "contract"]
    factors: set[Value] = set(whole[0].args[:2]) if whole else set()
    again = macs(body) / TILE
    read = []
    for arg, inside in zip(node.args, body.inputs, strict=True):
        once = float(storage_bytes(arg.type))
        read.append(max(once, again * dtype(arg.type.dtype).bytes) if inside in factors else once)
    written = [float(storage_bytes(v.type)) for v in node.results]
    return read, written, max(again, 2.0 * int_attr(node, "scratch"))
