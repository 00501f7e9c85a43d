"""Folds of a row across threads: over the lanes of each warp by exchange, then over its warps through shared memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import tirx

from .... import tir
from ....cuda.block import barrier, result, shared
from ....tir import Buffer, Expr, Stmt
from ...generic.stage import Parts, Stage
from .shape import Lines

MOST_EXCHANGES = 4  # two folds of two components
_SHUFFLED = {"float32": "ec_shfl_xor_f32", "int32": "ec_shfl_xor_i32"}


@dataclass
class Exchange:
    """Among the threads of a row, `group` of those in a block. `head` gets the shared memory."""

    lines: Lines
    group: Expr
    thread: Expr  # among those of the row
    head: list[Stmt]
    memory: dict[str, Buffer] = field(default_factory=dict)
    used: int = 0

    def across(self, stage: Stage, parts: list[Buffer]) -> tuple[list[Stmt], Parts]:
        """One accumulator per row: over the lanes of each warp, then over the row's warps."""
        cells = [tir.local((1,), d, "all") for d in stage.dtypes]
        buffers = [b for b, _ in cells]
        stmts: list[Stmt] = [m for _, m in cells]
        stmts += [tir.store(b, tir.load(p, 0), 0) for b, p in zip(buffers, parts, strict=True)]
        stmts += _butterfly(stage, buffers, 32)
        warps = self.lines.warps
        if warps > 1:
            lane, warp = tirx.floormod(self.thread, 32), tirx.floordiv(self.thread, 32)
            slots = [(self._shared(d), b) for d, b in zip(stage.dtypes, buffers, strict=True)]
            own = [tir.store(s, tir.load(b, 0), base + warp) for (s, base), b in slots]
            stmts += [tir.when(tirx.EQ(lane, 0), tir.seq(own)), barrier()]
            stmts += [tir.store(b, tir.load(s, base + tirx.floormod(lane, warps)), 0) for (s, base), b in slots]
            stmts += _butterfly(stage, buffers, warps)
        return stmts, tuple(tir.load(b, 0) for b in buffers)

    def _shared(self, kind: str) -> tuple[Buffer, Expr]:
        """Where the row's warps exchange numbers: memory that no other exchange uses, so that one barrier is enough.

        It is one array of all exchanges: of several, TVM would put the later ones into the place of the earlier.
        """
        size = self.lines.together * self.lines.warps
        if kind not in self.memory:
            self.memory[kind], made = shared((size * MOST_EXCHANGES,), kind, f"across_{kind}")
            self.head.append(made)
        self.used += 1
        return self.memory[kind], (self.used - 1) * size + self.group * self.lines.warps


def stored(buffers: list[Buffer], parts: Parts, at: Expr | int) -> Stmt:
    """All components at once: each is computed from the old ones."""
    if len(parts) == 1:
        return tir.store(buffers[0], parts[0], at)
    names = [tir.let(p, "part") for p in parts]
    return tir.seq([bind for _, bind in names], [tir.store(b, n, at) for b, (n, _) in zip(buffers, names, strict=True)])


def _butterfly(stage: Stage, buffers: list[Buffer], width: int) -> list[Stmt]:
    """Every lane gets the fold over `width` neighbouring lanes."""
    stmts: list[Stmt] = []
    while width > 1:
        width //= 2
        other = [
            tir.let(result(d, _SHUFFLED[d], tir.load(b, 0), width), "other")
            for b, d in zip(buffers, stage.dtypes, strict=True)
        ]
        stmts += [bind for _, bind in other]
        mine = tuple(tir.load(b, 0) for b in buffers)
        stmts.append(stored(buffers, stage.combine(mine, tuple(v for v, _ in other)), 0))
    return stmts
