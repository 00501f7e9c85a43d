"""Multipliers that are stored in 16 bits, widened once for all tiles of a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.tir import Expr, Index, Stmt

from .common_emit import F32, Frame


@dataclass(frozen=True)
class Local(Place):
    """Numbers of some channels, from `first` on."""

    axis: int = 0
    first: Expr = 0

    def load(self, index: Index) -> Expr:
        return tir.load(self.buffer, tir.expr(index[self.axis]) - self.first)


def short(frame: Frame) -> list[Value]:
    """Multipliers of channels that have 16 bits."""
    rescalings = [n for n in frame.body.graph.nodes() if n.op == "Edgec.Rescale"]
    found = {m for n in rescalings for m in n.args[len(n.args) // 2 :] if m in frame.places and m.type.size > 1}
    return [v for v in frame.body.graph.inputs if v in found and v.type.dtype == "bf16"]


def widened(frame: Frame, first: Expr, widths: Sequence[int], lanes: int) -> list[Stmt]:
    """Statements that widen those of the unit's channels from `first` on; from now on the body reads them there."""
    done: list[Stmt] = []
    for value in short(frame):
        stored, axis = frame.places[value], value.shape.index(value.type.size)
        numbers, alloc = tir.local((len(widths) * lanes,), F32, "factors")
        done.append(alloc)
        for k, width in enumerate(widths):

            def one(lane: Expr, k: int = k, stored: Place = stored, axis: int = axis, to: tir.Buffer = numbers) -> Stmt:
                at: list[Expr | int] = [0] * len(stored.type.shape)
                at[axis] = first + k * lanes + lane
                return tir.store(to, stored.load(tuple(at)), k * lanes + lane)

            done.append(tir.vectorized(width, one))
        kind = replace(value.type, dtype="f32", layout="")
        frame.body.places[value] = Local(kind, numbers, axis, first)
    return done
