"""How AArch64 multiplies bytes, as TensorIR: a tile's sums in registers, and how they start, grow and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import put, vector
from .bytes import BLOCK, LANES, Method

BYTES, WORDS = "int8x16", "int32x4"
Weights = Callable[[int, int], Expr]  # 16 bytes of packed weights of a step: group, offset within it


def shuffled(vectors: Sequence[Expr] | Expr, kind: str, order: Sequence[int], as_kind: str) -> Expr:
    """Elements of one or two vectors, seen as `kind`, in another order; the result is seen as `as_kind`."""
    parts = vectors if isinstance(vectors, (list, tuple)) else [vectors]
    moved = tirx.Shuffle([tirx.reinterpret(kind, v) for v in parts], [tir.i32(i) for i in order])
    return tirx.reinterpret(as_kind, moved)


def splat(byte: int) -> Expr:
    return tir.broadcast(tir.lit(byte, "int8"), BLOCK)


@dataclass(frozen=True)
class Act:
    """Input channels of a pixel: 16 bytes, of which group k of a step is group `first` + k."""

    bytes: Expr
    first: int = 0


class Dots:
    """The sums of `pixels` x `vectors` of four channels."""

    def __init__(self, method: Method, pixels: int, vectors: int) -> None:
        self.method, self.pixels, self.vectors = method, pixels, vectors
        self.teams = ceil_div(pixels, method.pixels)  # pixels that are multiplied together
        self.per_team = vectors * method.pixels
        self.acc, self.alloc = tir.local((self.teams * self.per_team * LANES,), "int32")

    def start(self, first: Callable[[int], Sequence[Expr]]) -> list[Stmt]:
        """Pixels from these vectors of theirs, one for each four channels."""
        size = self.method.pixels
        return [
            self._set(team, i, self._first(first(team * size), i))
            for team in range(self.teams)
            for i in range(self.per_team)
        ]

    def _first(self, first: Sequence[Expr], i: int) -> Expr:
        if self.method.pixels == 1:
            return first[i]
        return shuffled(first[i // 2], "int64x2", [i % 2, i % 2], WORDS)

    def total(self, pixel: int, v: int) -> Expr:
        """The sums of four channels of a pixel."""
        if self.method.pixels == 1:
            return self._get(pixel, v)
        team, half = divmod(pixel, 2)
        return shuffled([self._get(team, 2 * v), self._get(team, 2 * v + 1)], "int64x2", [half, 2 + half], WORDS)

    def step(self, acts: Sequence[Act | None], groups: int, weights: Weights) -> list[Stmt]:
        """Add the products of `groups` groups of input channels; a pixel without any takes no part."""
        step = {"sdot": self._sdot, "smmla": self._smmla, "smull": self._smull}[self.method.name]
        return [s for k in range(groups) for s in step(acts, k, weights)]

    def _sdot(self, acts: Sequence[Act | None], k: int, weights: Weights) -> list[Stmt]:
        lines, parts = self._lines(self.vectors, k, weights)
        for p, act in enumerate(acts):
            if act is not None:
                lane = shuffled(act.bytes, WORDS, [act.first + k] * 4, BYTES)
                for v, line in enumerate(lines):
                    parts.append(self._set(p, v, dot(self._get(p, v), line, lane)))
        return parts

    def _smmla(self, acts: Sequence[Act | None], k: int, weights: Weights) -> list[Stmt]:
        parts: list[Stmt] = []
        teams = []
        for team in range(self.teams):
            first, second = (acts[min(2 * team + i, self.pixels - 1)] for i in range(2))
            if first is not None and second is not None:
                both, bind = tir.let(shuffled([first.bytes, second.bytes], "int64x2", [k, 2 + k], BYTES), "pair")
                parts.append(bind)
                teams.append((team, both))
        for v in range(2 * self.vectors):
            line, bind = tir.let(weights(k, v * BLOCK), "w")
            parts.append(bind)
            for team, both in teams:
                parts.append(self._set(team, v, _call(WORDS, "smmla.v4i32.v16i8", self._get(team, v), both, line)))
        return parts

    def _smull(self, acts: Sequence[Act | None], k: int, weights: Weights) -> list[Stmt]:
        lines, parts = self._lines(ceil_div(self.vectors, 2), k, weights)
        for p, act in enumerate(acts):
            if act is not None:
                pair, bind = tir.let(shuffled(act.bytes, "int16x8", [act.first + k] * 8, BYTES), "pair")
                parts.append(bind)
                for v in range(self.vectors):
                    line, pairs = (shuffled(x, "int64x2", [v % 2], "int8x8") for x in (lines[v // 2], pair))
                    products = _call("int16x8", "smull.v8i16", line, pairs)
                    added = self._get(p, v) + _call(WORDS, "saddlp.v4i32.v8i16", products)
                    parts.append(self._set(p, v, added))
        return parts

    def _lines(self, count: int, k: int, weights: Weights) -> tuple[list[Expr], list[Stmt]]:
        bound = [tir.let(weights(k, i * BLOCK), "w") for i in range(count)]
        return [name for name, _ in bound], [bind for _, bind in bound]

    def _get(self, team: int, i: int) -> Expr:
        return vector(self.acc, LANES, (team * self.per_team + i) * LANES)

    def _set(self, team: int, i: int, value: Expr) -> Stmt:
        return put(self.acc, value, LANES, (team * self.per_team + i) * LANES)


def dot(total: Expr, a: Expr, b: Expr) -> Expr:
    """total + the sum of four products of bytes in each lane."""
    return _call(WORDS, "sdot.v4i32.v16i8", total, a, b)


def _call(kind: str, name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(kind, f"llvm.aarch64.neon.{name}", *args)


def alive(method: Method, acts: Sequence[Act | None], outside: Act) -> list[Act | None]:
    """A pixel that reads nothing reads `outside` where another reads something that is multiplied together with it."""
    size = method.pixels
    found = list(acts)
    for p, act in enumerate(acts):
        team = acts[p // size * size : p // size * size + size]
        if act is None and any(other is not None for other in team):
            found[p] = outside
    return found
