"""What recipes draw from: values made so far, fresh inputs and constants, shapes and element types; all by one seed.

Every value that is drawn is computed at once, so that recipes can ask what an argument holds, and so that operations
whose results say nothing (NaN, overflow, no elements left) are drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, TypeVar

import numpy as np

from edgec.compiler.dtypes import DTYPES, dtype, of_numpy
from edgec.compiler.errors import IRError
from edgec.compiler.ir import Array, Node, Type, Value
from edgec.compiler.op import build, const, evaluate, is_const, row
from edgec.compiler.ops.common import FLOATS

from .arrays import array_of, real, sprinkled

T = TypeVar("T")
Ints = tuple[int, ...]

MOST_ELEMENTS = 6000
MOST_INPUTS = 4
_DTYPES = {"f32": 60, "f16": 5, "bf16": 4, "f64": 4, "i32": 6, "i64": 5, "u8": 4, "i8": 4, "bool": 4}
_SIZES = {1: 14, 2: 12, 3: 14, 4: 10, 5: 10, 6: 5, 7: 10, 8: 8, 9: 3, 12: 2, 16: 5, 17: 3, 24: 2, 32: 2, 33: 2, 64: 1}
_RANKS = {0: 3, 1: 8, 2: 20, 3: 24, 4: 35, 5: 10}
_LARGEST = {"f16": 1e3}  # above: sums overflow soon


class Unsuitable(Exception):
    """What was drawn cannot be, or would show nothing: something else is drawn."""


class Draw:
    """One graph being drawn. `values` are the results so far, `known` what each holds."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.arrays = np.random.default_rng(seed)
        self.main = self.weighted(_DTYPES)
        self.folds = self.flag(0.8)  # as the importer does: what constants decide is a constant
        self.wild = self.flag(0.07)  # inputs hold infinities and the like, and results may be anything
        self.values: list[Value] = []
        self.inputs: list[Value] = []
        self.ends: list[Value] = []  # outputs that nothing else reads
        self.known: dict[Value, Array] = {}

    # ---- numbers ----

    def flag(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def integer(self, low: int, high: int) -> int:
        """low .. high, both included."""
        return self.rng.randint(low, high)

    def choice(self, of: Sequence[T]) -> T:
        if not of:
            raise Unsuitable("nothing to choose from")
        return self.rng.choice(of)

    def weighted(self, table: dict[T, int]) -> T:
        return self.rng.choices(list(table), list(table.values()))[0]

    def shuffled(self, of: Sequence[T]) -> list[T]:
        return self.rng.sample(list(of), len(of))

    def dtype(self, allowed: frozenset[str] | set[str] = frozenset(DTYPES)) -> str:
        """An element type: mostly the graph's own."""
        if self.main in allowed and self.flag(0.85):
            return self.main
        table = {name: _DTYPES.get(name, 1) for name in DTYPES if name in allowed}
        if not table:
            raise Unsuitable("no such element type")
        return self.weighted(table)

    def size(self, most: int = 64) -> int:
        return self.weighted({n: w for n, w in _SIZES.items() if n <= most})

    def shape(self, rank: int | None = None, most: int = MOST_ELEMENTS) -> Ints:
        """A shape of at most `most` elements, now and then of none."""
        rank = self.weighted(_RANKS) if rank is None else rank
        shape = [self.size() for _ in range(rank)]
        while prod(shape) > most:
            longest = max(range(rank), key=shape.__getitem__)
            shape[longest] = self.size(shape[longest] - 1)
        if shape and self.flag(0.01):
            shape[self.rng.randrange(rank)] = 0
        return tuple(shape)

    def axis(self, value: Value, *, negative: bool = False) -> int:
        rank = len(value.shape)
        if not rank:
            raise Unsuitable("a scalar has no axes")
        axis = self.rng.randrange(rank)
        return axis - rank if negative and self.flag(0.3) else axis

    def parts(self, total: int, most: int = 4) -> Ints:
        """Sizes that add up."""
        cuts = sorted(self.integer(0, total) for _ in range(self.integer(0, most - 1)))
        return tuple(b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True))

    # ---- values ----

    def pick(self, fits: Callable[[Type], bool], otherwise: Callable[[], Type] | None = None) -> Value:
        """A value that fits: mostly one of the latest, else a fresh one of the type that `otherwise` gives."""
        found = [v for v in self.values if v.type.size and fits(v.type) and (not is_const(v) or self.flag(0.05))]
        if found and (otherwise is None or self.flag(0.85)):
            return found[-min(len(found), 1 + int(self.rng.expovariate(0.5)))]
        if otherwise is None:
            raise Unsuitable("no value fits")
        return self.fresh(otherwise(), constant=0.1)

    def fresh(self, t: Type, style: str = "", constant: float = 0.5) -> Value:
        """A new input or constant."""
        array = array_of(self.arrays, t, style)
        return self.hold(sprinkled(self.arrays, array) if self.wild and not style else array, constant)

    def hold(self, array: Array, constant: float = 0.5) -> Value:
        """A new input or constant that holds `array`; what has no elements is a constant, as in an imported model."""
        if self.flag(constant) or len(self.inputs) >= MOST_INPUTS or not array.size:
            return self.constant(array)
        name = f"x{len(self.inputs)}"
        value = Value(Node("Input", (), (Type(of_numpy(array.dtype), array.shape),), {}, name))
        self.inputs.append(value)
        return self._enter(value, array)

    def constant(self, array: Any, like: str = "") -> Value:
        """A constant; `like` is its element type."""
        exact = np.asarray(array).astype(dtype(like).numpy) if like else np.asarray(array)
        return self._enter(const(exact, f"c{len(self.known)}"), exact)

    def _enter(self, value: Value, array: Array) -> Value:
        self.known[value] = array
        self.values.append(value)
        return value

    # ---- operations ----

    def emit(self, op: str, *args: Value, **attrs: Any) -> Value:
        """The first result of a new node."""
        return self.emit_all(op, *args, **attrs)[0]

    def end(self, op: str, *args: Value, **attrs: Any) -> None:
        """A node whose result is an output and nothing else."""
        self.ends.append(build(op, *args, label=f"n{len(self.known)}", **attrs))

    def emit_all(self, op: str, *args: Value, **attrs: Any) -> tuple[Value, ...]:
        """The results of a new node; `Unsuitable` where it cannot be or its results say nothing."""
        if op not in ("Clip", "Pad"):  # ONNX keeps attributes in f32, where they are no arguments there
            given = {**row(op).attrs, **attrs}
            attrs |= {k: float(np.float32(v)) for k, v in given.items() if isinstance(v, float)}
        try:
            node = build(op, *args, label=f"n{len(self.known)}", **attrs).node
        except IRError as error:
            raise Unsuitable(str(error)) from error
        if any(t.size > MOST_ELEMENTS for t in node.types):
            raise Unsuitable("too large")
        arrays = evaluate(node, [self.known[a] for a in args])
        for array in arrays:
            self._judge(array)
        known = self.folds and op != "DequantizeLinear" and all(map(is_const, args))
        return tuple(
            self.constant(a) if known or not v.type.size else self._enter(v, a)
            for v, a in zip(node.results, arrays, strict=True)
        )

    def _judge(self, array: Array) -> None:
        if not array.size or self.wild or not real(array):
            return
        wide = array.astype(np.float64)
        beyond = not np.isfinite(wide).all() or np.abs(wide).max() > _LARGEST.get(of_numpy(array.dtype), 1e5)
        if beyond and self.flag(0.97):
            raise Unsuitable("numbers without meaning")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Whatever is entered is taken back when the attempt is `Unsuitable`, which is raised on."""
        values, inputs, ends, known = len(self.values), len(self.inputs), len(self.ends), dict(self.known)
        try:
            yield
        except Unsuitable:
            del self.values[values:]
            del self.inputs[inputs:]
            del self.ends[ends:]
            self.known = known
            raise


def is_float(t: Type) -> bool:
    return t.dtype in FLOATS
