"""Fourier transforms written as products with matrices of cosines and sines, by the plans of fourier_plan.py.

Signals are rows: [rows, n] real; complex [rows, n, 2] in pairs or [rows, 2, n] in planes. A split (Cooley and Tukey,
1965) views n as size x rest: transforms of `size` numbers each, a turn by a root of unity per number, transforms of
`rest` numbers each. In between numbers lie in planes, which transpose in vectors. Of a real signal only the first half
of the columns is computed, the others are their conjugates. Lengths that do not part are convolutions with a chirp
(Bluestein, 1970). All tables are computed in f64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...ir import Value
from ...ops.common import Tensor
from ..context import Context
from .fourier_plan import Plan, complex_plan, real_plan


def turns(a: Tensor, b: Tensor, n: int) -> Tensor:
    """exp(2 pi i a b / n) for all pairs, through angles below one turn."""
    angle = 2 * np.pi * (np.multiply.outer(a, b) % n) / n
    return np.asarray(np.cos(angle) + 1j * np.sin(angle))


def as_real(numbers: Tensor, planes: bool) -> Tensor:
    """Complex [.., m] as real [.., 2m]: real parts first (planes), or each beside its imaginary one."""
    return np.stack([numbers.real, numbers.imag], -2 if planes else -1).reshape(*numbers.shape[:-1], -1)


def embedded(matrix: Tensor, planes_in: bool, planes_out: bool) -> Tensor:
    """A complex matrix [n, m] as a real one [2n, 2m], on rows of pairs or planes."""
    rows = np.stack([as_real(matrix, planes_out), as_real(1j * matrix, planes_out)], 0 if planes_in else 1)
    return rows.reshape(2 * matrix.shape[0], -1)


def halved(matrix: Tensor, n: int, planes: bool) -> Tensor:
    """[2 half, m]: the real part of a transform of conjugate numbers, of which the first half is given."""
    k = np.arange(matrix.shape[0])
    matrix = matrix * np.where((k == 0) | (2 * k == n), 1, 2)[:, None]
    return np.stack([matrix.real, -matrix.imag], 0 if planes else 1).reshape(2 * len(k), -1)


@dataclass(frozen=True)
class Fourier:
    """`sign` of the exponent: -1 forwards, 1 backwards. `kind`: the element type of tables and values, f32 or f64."""

    c: Context
    kind: str
    sign: int
    scale: float = 1.0  # of the results

    @property
    def inner(self) -> Fourier:
        """For the transforms within: the scale is in the tables around them."""
        return replace(self, scale=1.0)

    def roots(self, a: int, b: int, n: int) -> Tensor:
        """exp(+-2 pi i j k / n), j below a, k below b."""
        return turns(np.arange(a), self.sign * np.arange(b), n)

    def table(self, values: Tensor) -> Value:
        return self.c.const(values, like=self.kind)

    def product(self, x: Value, matrix: Tensor) -> Value:
        """The last axis through a matrix."""
        flat = self.c.reshape(x, (x.type.size // matrix.shape[0], matrix.shape[0]))
        y = self.c.emit("MatMul", flat, self.table(matrix))
        return self.c.reshape(y, (*x.shape[:-1], matrix.shape[1]))

    def weighed(self, x: Value, factor: Tensor, axis: int) -> Value:
        """Numbers whose parts lie along `axis` times complex numbers, which broadcast to the other axes."""
        swapped = self.c.emit("Slice", x, starts=(1,), ends=(-1,), axes=(axis % len(x.shape),), steps=(-1,))
        same = self.c.emit("Mul", x, self.table(np.expand_dims(factor.real, axis)))
        other = self.c.emit("Mul", swapped, self.table(np.stack([-factor.imag, factor.imag], axis)))
        return self.c.emit("Add", same, other)

    def whole(self, x: Value, plan: Plan | None = None, planes_in: bool = False, planes_out: bool = False) -> Value:
        """n complex numbers to n."""
        rows, n = x.shape[0], x.type.size // max(2 * x.shape[0], 1)
        plan = plan or complex_plan(n, max(rows, 1))
        result = (rows, 2, n) if planes_out else (rows, n, 2)
        if plan.method == "direct":
            matrix = embedded(self.scale * self.roots(n, n, n), planes_in, planes_out)
            return self.c.reshape(self.product(self.c.reshape(x, (rows, 2 * n)), matrix), result)
        if plan.method == "chirp":
            y = self.chirped(self.c.transpose(x, (0, 2, 1)) if planes_in else x, plan)
            return self.c.transpose(y, (0, 2, 1)) if planes_out else y
        size, rest = plan.size, n // plan.size
        if planes_in:
            columns = self.c.transpose(self.c.reshape(x, (rows, 2, size, rest)), (0, 3, 1, 2))
        else:
            columns = self.c.transpose(self.c.reshape(x, (rows, size, rest, 2)), (0, 2, 1, 3))
        matrix = embedded(self.scale * self.roots(size, size, size), planes_in, True)
        y = self.product(self.c.reshape(columns, (rows, rest, 2 * size)), matrix)
        y = self.turned(self.c.reshape(y, (rows, rest, 2, size)), n)
        y = self.inner.whole(y, plan.inner, True, planes_out)
        if planes_out:
            y = self.c.transpose(self.c.reshape(y, (rows, size, 2, rest)), (0, 2, 3, 1))
        else:
            y = self.c.transpose(self.c.reshape(y, (rows, size, rest, 2)), (0, 2, 1, 3))
        return self.c.reshape(y, result)

    def turned(self, y: Value, n: int) -> Value:
        """[rows, rest, 2, columns] after the first products to [rows * columns, 2, rest] before the second ones."""
        rows, rest, _, columns = y.shape
        y = self.weighed(y, self.roots(rest, columns, n), -2)
        return self.c.reshape(self.c.transpose(y, (0, 3, 2, 1)), (rows * columns, 2, rest))

    def chirped(self, x: Value, plan: Plan) -> Value:
        """w[k] sum_j (x[j] w[j]) / w[k - j], w[j] = exp(pi i j^2 / n): a cyclic convolution of pairs."""
        (rows, n), size = x.shape[:2], plan.size
        w = np.exp(self.sign * 1j * np.pi * (np.arange(n, dtype=np.int64) ** 2 % (2 * n)) / n)
        kernel = np.zeros(size, np.complex128)
        kernel[:n] = kernel[-np.arange(n)] = w.conj()
        if len(x.shape) == 3:
            a = self.weighed(x, w, -1)
        else:
            a = self.c.emit("Mul", self.c.reshape(x, (rows, n, 1)), self.table(as_real(w[:, None], False)))
        a = self.c.emit("Pad", a, pads=(0, 0, 0, 0, size - n, 0))
        there, back = Fourier(self.c, self.kind, -1), Fourier(self.c, self.kind, 1)
        y = self.weighed(there.whole(a, plan.inner), np.fft.fft(kernel) / size, -1)
        return self.weighed(self.first(back.whole(y, plan.inner), n), self.scale * w, -1)

    def forwards(self, x: Value, out: int) -> Value:
        """[rows, n] real -> [rows, out, 2], out up to n."""
        rows, n = x.shape
        plan = real_plan(n, out, max(rows, 1))
        if plan.method == "direct":
            return self.c.reshape(self.product(x, as_real(self.scale * self.roots(n, out, n), False)), (rows, out, 2))
        if plan.method == "chirp":
            return self.first(self.chirped(x, plan), out)
        size, rest, half = plan.size, n // plan.size, plan.size // 2 + 1
        columns = self.c.transpose(self.c.reshape(x, (rows, size, rest)), (0, 2, 1))
        y = self.product(columns, as_real(self.scale * self.roots(size, half, size), True))
        y = self.inner.whole(self.turned(self.c.reshape(y, (rows, rest, 2, half)), n), plan.inner, True)
        k = np.arange(out)
        mirrored = k % size >= half
        k = np.where(mirrored, n - k, k)
        return self.picked(self.c.reshape(y, (rows, half * rest, 2)), (k % size) * rest + k // size, mirrored)

    def backwards(self, x: Value, n: int) -> Value:
        """[rows, n // 2 + 1, 2], the first half of a spectrum -> [rows, n] real."""
        rows, count, _ = x.shape
        plan = real_plan(n, count, max(rows, 1))
        if plan.method == "direct":
            matrix = halved(self.scale * self.roots(count, n, n), n, False)
            return self.product(self.c.reshape(x, (rows, 2 * count)), matrix)
        if plan.method == "chirp":
            k = np.arange(n)
            y = self.chirped(self.picked(x, np.minimum(k, n - k), k >= count), plan)
            return self.c.reshape(self.c.emit("Slice", y, starts=(0,), ends=(1,), axes=(2,), steps=(1,)), (rows, n))
        size, rest, half = plan.size, n // plan.size, plan.size // 2 + 1
        k = (np.arange(half)[:, None] + size * np.arange(rest)).reshape(-1)
        columns = self.c.reshape(self.picked(x, np.minimum(k, n - k), k >= count), (rows * half, rest, 2))
        y = self.c.reshape(self.inner.whole(columns, plan.inner, False, True), (rows, half, 2, rest))
        y = self.c.transpose(self.weighed(y, self.roots(half, rest, n), -2), (0, 3, 2, 1))
        matrix = halved(self.scale * self.roots(half, size, size), size, True)
        y = self.product(self.c.reshape(y, (rows, rest, 2 * half)), matrix)
        return self.c.reshape(self.c.transpose(y, (0, 2, 1)), (rows, n))

    def first(self, x: Value, out: int) -> Value:
        if x.shape[1] == out:
            return x
        return self.c.emit("Slice", x, starts=(0,), ends=(out,), axes=(1,), steps=(1,))

    def picked(self, x: Value, index: Tensor, conjugate: Tensor) -> Value:
        """Numbers of a spectrum by position, conjugates of some."""
        y = self.c.emit("Gather", x, self.c.const(index.astype(np.int64)), axis=1)
        if not conjugate.any():
            return y
        return self.c.emit("Mul", y, self.table(np.stack([np.ones(len(index)), np.where(conjugate, -1, 1)], -1)))
