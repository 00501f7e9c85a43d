"""Multipliers that are stored in 16 bits, widened once for all tiles of a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.tir import Expr, Index, Stmt

from ..bytes_tail import short_multipliers
from ..common_emit import F32, Frame


@dataclass(frozen=True)
class Local(Place):
    """Numbers of some channels, from `first` on."""

    axis: int = 0
    first: Expr = 0

    def load(self, index: Index) -> Expr:
        return tir.load(self.buffer, tir.expr(index[self.axis]) - self.first)


def local(value: Value, numbers: tir.Buffer, first: Expr) -> Local:
    """Where the body reads multipliers, those of the channels from `first` on, that were widened."""
    return Local(replace(value.type, dtype="f32", layout=""), numbers, _axis(value), first)


def number_of(frame: Frame, value: Value, channel: Expr) -> Expr:
    """A multiplier as it is stored, widened."""
    at: list[Expr | int] = [0] * len(value.shape)
    at[_axis(value)] = channel
    return frame.places[value].load(tuple(at))


def _axis(value: Value) -> int:
    return value.shape.index(value.type.size)


def widened(frame: Frame, first: Expr, widths: Sequence[int], lanes: int) -> list[Stmt]:
    """Statements that widen those of the unit's channels from `first` on; from now on the body reads them there."""
    done: list[Stmt] = []
    for value in short_multipliers(frame.body.graph):
        numbers, alloc = tir.local((len(widths) * lanes,), F32, "factors")
        done.append(alloc)
        for k, width in enumerate(widths):

            def one(lane: Expr, k: int = k, value: Value = value, to: tir.Buffer = numbers) -> Stmt:
                return tir.store(to, number_of(frame, value, first + k * lanes + lane), k * lanes + lane)

            done.append(tir.vectorized(width, one))
        frame.body.places[value] = local(value, numbers, first)
    return done
