"""Floats of 8 bits and fewer in kernels: codes to f32, and f32 to codes in one rounding. Straight-line integer code."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from edgec.compiler.narrow import FORMATS, POWERS, Format

from .floats import bind
from .tir import Expr, lit
from .whole import as_float

_MANTISSA, _BIAS = 23, 127  # of f32
_INFINITE, _NAN = 0x7F800000, 0x7FC00000


def decoded(code: Expr, name: str) -> Expr:
    """The f32 behind a code; exact."""
    wide = tirx.Cast("uint32", code)
    return bind(wide, _power if name == POWERS else lambda code: _decoded(code, FORMATS[name]))


def encoded(x: Expr, name: str, saturate: bool) -> Expr:
    """The code of an f32, as a byte: halves to even, ends and NaN as ONNX's Cast has them."""
    return bind(tirx.reinterpret("uint32", x), lambda bits: _encoded(bits, FORMATS[name], saturate))


def encoded_power(x: Expr, saturate: bool, mode: str) -> Expr:
    """The code of the power of two next to an f64; NaN for negative numbers."""
    return bind(tirx.reinterpret("uint64", x), lambda bits: _encoded_power(bits, saturate, mode))


def _u(value: int) -> Expr:
    return lit(value, "uint32")


def _decoded(code: Expr, f: Format) -> Expr:
    def signed(magnitude: Expr) -> Expr:
        aligned = (magnitude << _u(_MANTISSA - f.mantissa)) + _u((_BIAS - f.bias) << _MANTISSA)
        step = lit(2.0 ** (1 - f.bias - f.mantissa), "float32")  # below the smallest normal number there are multiples
        tiny = tirx.reinterpret("uint32", tirx.Cast("float32", tirx.Cast("int32", magnitude)) * step)
        number = tirx.Select(magnitude < _u(1 << f.mantissa), tiny, aligned)
        if f.has_nan and not f.unsigned:
            if f.beyond != f.nan:
                number = tirx.Select(magnitude < _u(f.greatest + 1), number, _u(_INFINITE))
            number = tirx.Select(magnitude < _u((f.beyond or 0) + (f.beyond != f.nan)), number, _u(_NAN))
        return number | ((code & _u(f.sign)) << _u(31 - (f.exponent + f.mantissa)))

    bits = bind(code & _u(f.sign - 1), signed)
    if f.unsigned:
        bits = tirx.Select(tirx.EQ(code, _u(f.nan)), _u(_NAN | 1 << 31), bits)
    return as_float(bits, "float32")


def _power(code: Expr) -> Expr:
    """The least is half the smallest normal f32."""
    number = tirx.Select(code < _u(1), _u(1 << (_MANTISSA - 1)), code << _u(_MANTISSA))
    return as_float(tirx.Select(code < _u(255), number, _u(_NAN)), "float32")


def _encoded(bits: Expr, f: Format, saturate: bool) -> Expr:
    shift = _MANTISSA - f.mantissa
    sign = (bits >> _u(31 - (f.exponent + f.mantissa))) & _u(f.sign)

    def of(magnitude: Expr) -> Expr:
        odd = (magnitude >> _u(shift)) & _u(1)
        normal = ((magnitude + odd + _u((1 << (shift - 1)) - 1)) >> _u(shift)) - _u((_BIAS - f.bias) << f.mantissa)
        # the sum with 2**23 steps below the smallest normal number has the rounded multiple in its lowest bits
        rounds = 2.0 ** (_MANTISSA + 1 - f.bias - f.mantissa)
        sum_bits = tirx.reinterpret("uint32", as_float(magnitude, "float32") + lit(rounds, "float32"))
        tiny = sum_bits - _u(int(np.float32(rounds).view(np.uint32)))
        code = tirx.Select(magnitude < _u((_BIAS + 1 - f.bias) << _MANTISSA), tiny, normal)
        return bind(code, lambda code: ends(code, magnitude))

    def ends(code: Expr, magnitude: Expr) -> Expr:
        within, nan = code < _u(f.greatest + 1), _u(_INFINITE) < magnitude
        beyond = _u(f.greatest) if saturate or f.beyond is None else _u(f.beyond)
        number = tirx.Select(within, code, beyond)
        if f.unsigned:
            number = tirx.Select(code < _u(1), number, number | sign)
            return tirx.Select(nan, _u(f.nan), number)
        return tirx.Select(nan, _u(f.nan) | sign if f.has_nan else _u(f.nan), number | sign)

    return tirx.Cast("uint8", bind(bits & _u(0x7FFFFFFF), of))


def _encoded_power(bits: Expr, saturate: bool, mode: str) -> Expr:
    def u(value: int) -> Expr:
        return lit(value, "uint64")

    mantissa, bias = 52, 1023
    least, most = u((bias - 127) << mantissa), u((bias + 127) << mantissa)
    more = {"up": (1 << mantissa) - 1, "down": 0, "nearest": 1 << (mantissa - 1)}[mode]

    def of(magnitude: Expr) -> Expr:
        inside = tirx.Select(magnitude < least, least, tirx.Select(most < magnitude, most, magnitude))
        code = ((inside + u(more)) >> u(mantissa)) - u(bias - 127)
        none = tirx.Or(u(0x7FF << mantissa) < magnitude, u(1 << 63) < bits)
        if not saturate:
            none = tirx.Or(none, tirx.Or(magnitude < least, most < magnitude))
        return tirx.Cast("uint8", tirx.Select(none, u(255), code))

    return bind(bits & u((1 << 63) - 1), of)
