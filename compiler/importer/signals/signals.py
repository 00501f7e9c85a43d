"""Converters of DFT and STFT."""

from __future__ import annotations

from math import gcd

import numpy as np

from ...errors import EdgecError
from ...ir import Value
from ...op import const_array, is_const
from ..context import Context
from ..table import Refused, Result, converts
from .fourier import Fourier, as_real, turns
from .fourier_plan import LONGEST, PASS, complex_plan, real_plan


@converts("DFT")
def dft(c: Context) -> Result:
    """Along the last axis of rows. f16 and bf16 are computed in f32."""
    if c.opset < 20:
        axis = int(c.attr("axis", 1))
    else:
        axis = _scalar(c, 2, "axis") if c.has(2) else -2
    if c.rank < 2 or c.shape[-1] not in (1, 2):
        raise EdgecError(f"{c.where}: {c.arg().type} holds no real or complex numbers along its last axis")
    axis = c.in_rank(axis, c.rank)
    if axis == c.rank - 1:
        raise EdgecError(f"{c.where}: axis {axis} is that of real and imaginary parts")
    is_real, inverse, onesided = c.shape[-1] == 1, bool(c.attr("inverse", 0)), bool(c.attr("onesided", 0))
    if onesided and is_real == inverse:
        raise Refused(
            f"a one-sided transform of {'real' if is_real else 'complex'} numbers is not defined",
            f"expected {'complex' if is_real else 'real'} numbers, or onesided=0",
        )
    given = c.shape[axis]
    n = _scalar(c, 1, "dft_length") if c.has(1) else 2 * (given - 1) if onesided and inverse else given
    if n < 1:
        raise EdgecError(f"{c.where}: its length is {n}; expected 1 or more")
    _check_length(n)
    order = [k for k in range(c.rank - 1) if k != axis] + [axis, c.rank - 1]
    x = c.transpose(c.cast(c.arg(), _work(c)), order)
    rest = x.shape[:-2]
    y = _transform(c, x, n, inverse, onesided)
    y = c.reshape(y, (*rest, y.shape[1], y.shape[2]))
    return c.cast(c.transpose(y, [order.index(k) for k in range(c.rank)]), c.dtype)


def _check_length(n: int) -> None:
    if n > LONGEST:
        raise Refused(f"it transforms {n} numbers at a time", f"expected at most {LONGEST}")


def _work(c: Context) -> str:
    return "f64" if c.dtype == "f64" else "f32"


def _scalar(c: Context, index: int, what: str) -> int:
    array = c.array(index, what)
    if array.size != 1:
        raise EdgecError(f"{c.where}: {what} has {array.size} elements; expected one")
    return int(array.reshape(-1)[0])


def _transform(c: Context, x: Value, n: int, inverse: bool, onesided: bool) -> Value:
    """[.., signal, parts] -> [rows, n or less, parts]; the signal is cut, or continued by zeros."""
    *outer, given, parts = x.shape
    rows = int(np.prod(outer, dtype=np.int64))
    used = n // 2 + 1 if onesided and inverse else n
    x = c.reshape(x, (rows, given, parts))
    if used < given:
        x = c.emit("Slice", x, starts=(0,), ends=(used,), axes=(1,), steps=(1,))
    elif used > given:
        x = c.emit("Pad", x, pads=(0, 0, 0, 0, used - given, 0))
    fourier = Fourier(c, x.type.dtype, 1, 1 / n) if inverse else Fourier(c, x.type.dtype, -1)
    if onesided and inverse:
        return c.reshape(fourier.backwards(x, n), (rows, n, 1))
    if parts == 1:
        return fourier.forwards(c.reshape(x, (rows, n)), n // 2 + 1 if onesided else n)
    return fourier.whole(x)


@converts("STFT")
def stft(c: Context) -> Result:
    """A convolution with windowed sines and cosines; where a fast transform saves enough, one of each frame."""
    signal = c.arg() if c.rank == 3 else c.reshape(c.arg(), (*c.shape, 1))
    if len(signal.shape) != 3 or signal.shape[2] not in (1, 2):
        raise EdgecError(f"{c.where}: {c.arg().type} is no batch of real or complex signals")
    batch, length, parts = signal.shape
    onesided = bool(c.attr("onesided", 1))
    if onesided and parts == 2:
        raise Refused("a one-sided transform of complex numbers is not defined", "expected onesided=0")
    step = _scalar(c, 1, "frame_step")
    n = _scalar(c, 3, "frame_length") if c.has(3) else c.arg(2).type.size if c.has(2) else length
    if c.has(2) and c.arg(2).shape != (n,):
        raise EdgecError(f"{c.where}: its window is {c.arg(2).type}; expected {n} numbers")
    if step < 1 or not 1 <= n <= length:
        raise EdgecError(f"{c.where}: frames of {n}, {step} apart, do not fit a signal of {length}")
    _check_length(n)
    frames, out = (length - n) // step + 1, n // 2 + 1 if onesided else n
    signal = c.cast(signal, _work(c))
    fixed = not c.has(2) or is_const(c.arg(2))
    rows = max(1, batch * frames)
    plan = real_plan(n, out, rows) if parts == 1 else complex_plan(n, rows)
    if fixed and 2 * n * out * parts <= plan.cost + 2 * n * PASS:
        y = _convolved(c, signal, n, step, out)
    else:
        y = _framed(c, signal, n, step, frames, onesided)
    return c.cast(y, c.dtype)


def _window(c: Context, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return const_array(c.arg(2)).astype(np.float64) if c.has(2) else np.ones(n)


def _convolved(c: Context, signal: Value, n: int, step: int, out: int) -> Value:
    """Filters are the columns of the transform; of complex signals the two parts are channels."""
    batch, length, parts = signal.shape
    real = as_real(turns(np.arange(n), -np.arange(out), n), False).reshape(n, out, 2) * _window(c, n)[:, None, None]
    both = [real] if parts == 1 else [real, np.stack([-real[..., 1], real[..., 0]], -1)]
    filters = np.ascontiguousarray(np.stack(both).transpose(2, 3, 0, 1)).reshape(2 * out, parts, n)
    x = c.reshape(signal, (batch, 1, length)) if parts == 1 else c.transpose(signal, (0, 2, 1))
    bias = c.const(np.zeros(2 * out), like=signal)
    y = c.emit("Conv", x, c.const(filters, like=signal), bias, strides=(step,), pads=(0, 0), dilations=(1,), group=1)
    return c.reshape(c.transpose(y, (0, 2, 1)), (batch, y.shape[2], out, 2))


def _framed(c: Context, signal: Value, n: int, step: int, frames: int, onesided: bool) -> Value:
    """Frames one after the other, each weighed by the window; they are read in blocks that all of them consist of."""
    batch, length, parts = signal.shape
    block, used = gcd(step, n), (frames - 1) * step + n
    if used < length:
        signal = c.emit("Slice", signal, starts=(0,), ends=(used,), axes=(1,), steps=(1,))
    blocks = c.reshape(signal, (batch, used // block, block, parts))
    places = (np.arange(frames, dtype=np.int64)[:, None] * step + np.arange(0, n, block)) // block
    x = c.emit("Gather", blocks, c.const(places), axis=1)
    if c.has(2):
        x = c.emit("Mul", x, c.reshape(c.cast(c.arg(2), signal.type.dtype), (n // block, block, 1)))
    y = _transform(c, c.reshape(x, (batch, frames, n, parts)), n, False, onesided)
    return c.reshape(y, (batch, frames, y.shape[1], 2))
