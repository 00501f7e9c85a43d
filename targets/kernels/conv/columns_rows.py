"""col2im: columns of windows into an image; a task is one row of pixels, which gathers the columns that cover it.

Along the row, pixel p of the padded image lies at p % stride, p // stride of an array of sums: there the columns of a
tap are a run, whatever the stride. In the end runs are woven into pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.columns import blocks
from edgec.compiler.target import Cpu

from ..plain import Part, Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...tir import Expr, Stmt


@dataclass(frozen=True)
class Shape:
    """Of the spatial axes; `counts` of windows."""

    image: tuple[int, ...]
    block: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    counts: tuple[int, ...]

    lanes: int  # of f32 in a vector

    @property
    def run(self) -> int:
        """Sums of one remainder: as far as windows or pixels reach, in whole vectors."""
        reach = self.counts[-1] + (self.block[-1] - 1) * self.dilations[-1] // self.strides[-1]
        pixels = (self.image[-1] - 1 + self.pads[len(self.image) - 1]) // self.strides[-1] + 1
        return -(-max(reach, pixels) // self.lanes) * self.lanes

    def step(self, k: int) -> int:
        """Distance of the taps that lie on one pixel: window * stride + tap * dilation is the same for all of them."""
        return self.strides[k] // gcd(self.strides[k], self.dilations[k])

    def covering(self, k: int) -> int:
        """The most taps that lie on one pixel."""
        return -(-self.block[k] // self.step(k))


def shape_of(node: Node, cpu: Cpu) -> Shape:
    attrs: Any = full_attrs(node)
    given = [attrs[key] for key in ("image_shape", "block_shape", "strides", "pads", "dilations")]
    strides, pads, dilations, counts = blocks(*given)
    return Shape(given[0], given[1], strides, pads, dilations, counts, max(1, cpu.lanes(32)))


def _cycles(node: Node, cpu: Cpu) -> float:
    s = shape_of(node, cpu)
    rows = node.types[0].size / s.image[-1]
    taps = s.block[-1] * prod(s.covering(k) for k in range(len(s.block) - 1))
    sums = taps * (8.0 + 2.0 * s.counts[-1] / s.lanes)
    return rows * (20.0 + sums + 5.0 * s.strides[-1] * s.run / s.lanes)


def _scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    """The sums, and where they must be woven the row of pixels."""
    s, kind = shape_of(node, cpu), _kind(node)
    sums = (kind, s.strides[-1] * s.run)
    return [sums] if s.strides[-1] == 1 else [sums, sums]


def _kind(node: Node) -> str:
    """The type of the sums; `reduce_stages.computed_in` would import TVM."""
    name = dtype(node.types[0].dtype).tvm
    return "float32" if name in ("float16", "bfloat16") else name


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .columns_emit import rows

    return rows(t)


plain("col2im", ["Col2Im"], _code, _cycles, "columns of windows into an image", _scratch, flat=True)
