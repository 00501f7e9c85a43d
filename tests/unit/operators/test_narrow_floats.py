"""Floats of 8 bits and fewer: their codes, and what the Cast specification makes of every number."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import IRError
from edgec.compiler.narrow import FORMATS, POWERS, ROUND_MODES, check_mode, rounded, steps
from edgec.compiler.ops.casts import cast
from tests.support.harness import every

INF, NAN = np.inf, np.nan


def bits(array: Any) -> Any:
    return array.view(np.uint8)


def numbers(name: str) -> list[float]:
    """All finite numbers of a type, in order."""
    found = every(name).astype(np.float64)
    return sorted(set(found[np.isfinite(found)]))


@pytest.mark.parametrize("name", FORMATS)
def test_a_code_is_the_number_that_its_bits_say(name: str) -> None:
    f, have = FORMATS[name], every(name).astype(np.float64)
    for code in range(f.greatest + 1):
        exponent, mantissa = code >> f.mantissa, code & ((1 << f.mantissa) - 1)
        one = 1.0 if exponent else 0.0
        number = 2.0 ** (max(exponent, 1) - f.bias) * (one + mantissa / (1 << f.mantissa))
        assert have[code] == number
        assert np.isnan(have[code | f.sign]) if f.unsigned and not code else have[code | f.sign] == -number
    if f.has_nan:
        assert np.isnan(have[f.nan])


# The tables of Cast: what becomes of x where it saturates and where it does not, for each type
TABLE: list[tuple[float, tuple[float, ...], tuple[float, ...]]] = [
    (NAN, (NAN, NAN, NAN, NAN), (NAN, NAN, NAN, NAN)),
    (INF, (448, 240, 57344, 57344), (NAN, NAN, INF, NAN)),
    (-INF, (-448, -240, -57344, -57344), (NAN, NAN, -INF, NAN)),
    (1e9, (448, 240, 57344, 57344), (NAN, NAN, INF, NAN)),
    (-1e9, (-448, -240, -57344, -57344), (NAN, NAN, -INF, NAN)),
    (248, (256, 240, 256, 256), (256, NAN, 256, 256)),  # [x] counts, not x: 248 is rounded to 256
    (247.9, (240, 240, 256, 256), (240, 240, 256, 256)),
    (464, (448, 240, 448, 448), (448, NAN, 448, 448)),
    (465, (448, 240, 448, 448), (NAN, NAN, 448, 448)),
    (61440, (448, 240, 57344, 57344), (NAN, NAN, INF, NAN)),
    (61439, (448, 240, 57344, 57344), (NAN, NAN, 57344, 57344)),
    (2.0**-10, (0, 2.0**-10, 2.0**-10, 2.0**-10), (0, 2.0**-10, 2.0**-10, 2.0**-10)),
    (3 * 2.0**-10, (2.0**-8, 3 * 2.0**-10, 3 * 2.0**-10, 3 * 2.0**-10), (2.0**-8, *(3 * 2.0**-10,) * 3)),
    (2.0**-17, (0, 0, 0, 2.0**-17), (0, 0, 0, 2.0**-17)),
]


@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("x, saturated, otherwise", TABLE)
def test_the_tables_of_cast(x: float, saturated: Any, otherwise: Any, source: Any) -> None:
    for column, name in enumerate(("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz")):
        for saturate, want in ((1, saturated), (0, otherwise)):
            got = cast(np.asarray([x], source), to=name, saturate=saturate).astype(np.float64)
            np.testing.assert_array_equal(got, [want[column]], err_msg=f"{name} {saturate}")


def test_zeros_and_nan_keep_their_signs_where_there_are_any() -> None:
    x = np.asarray([0.0, -0.0, -1e-30, NAN, -NAN, -INF], np.float32)
    for name, want in {
        "f8e4m3fn": [0, 0x80, 0x80, 0x7F, 0xFF, 0xFF],
        "f8e4m3fnuz": [0, 0, 0, 0x80, 0x80, 0x80],
        "f8e5m2": [0, 0x80, 0x80, 0x7E, 0xFE, 0xFC],
        "f8e5m2fnuz": [0, 0, 0, 0x80, 0x80, 0x80],
        "f4e2m1": [0, 8, 8, 8, 8, 0xF],  # no NaN, no infinity: the official cases have -0 and -6
    }.items():
        assert list(bits(rounded(x, name, saturate=0))) == want, name


@pytest.mark.parametrize("name", FORMATS)
def test_every_half_and_its_neighbours(name: str) -> None:
    """Halfway between two neighbours the even code; a little off, the nearer one, from f32 and from f64."""
    codes = {number: int(code) for code, number in enumerate(every(name).astype(np.float64)) if number == number}
    for low, high in pairwise(numbers(name)):
        middle = (low + high) / 2
        if not middle:
            continue
        even = low if codes[low] % 2 == 0 else high
        for kind in (np.float32, np.float64):
            x = np.asarray([low, middle, high], kind)
            off = np.asarray([np.nextafter(x[1], x[0]), np.nextafter(x[1], x[2])])
            np.testing.assert_array_equal(rounded(x, name).astype(np.float64), [low, even, high])
            np.testing.assert_array_equal(rounded(off, name).astype(np.float64), [low, high])


@pytest.mark.parametrize("name", FORMATS)
def test_what_ml_dtypes_makes_of_f16_and_f32(name: str) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    patterns = np.random.default_rng(0).integers(0, 1 << 32, 1 << 18, dtype=np.uint64).astype(np.uint32)
    for x in (halves, patterns.view(np.float32)):
        x = x if FORMATS[name].has_nan else x[~np.isnan(x)]
        with np.errstate(all="ignore"):
            want = x.astype(dtype(name).numpy)
        np.testing.assert_array_equal(bits(rounded(x, name, saturate=0)), bits(want))


def test_large_integers_round_once() -> None:
    half = (1 << 60) + (1 << 52)  # between two bf16
    x = np.asarray([half - 1, half, half + 1, -half - 1], np.int64)
    want = np.asarray([1 << 60, 1 << 60, (1 << 60) + (1 << 53), -(1 << 60) - (1 << 53)], np.float64)
    np.testing.assert_array_equal(cast(x, to="bf16").astype(np.float64), want)
    np.testing.assert_array_equal(cast(x[:3].astype(np.uint64), to="bf16").astype(np.float64), want[:3])
    for over, up in (((1 << 60), 0), ((1 << 60) + 1, 1)):
        assert bits(cast(np.asarray([over], np.int64), to=POWERS))[0] == 127 + 60 + up


def test_powers_of_two() -> None:
    """The table of Cast for float8e8m0; beyond it, up is away from zero and halves go up."""
    least, most = 2.0**-127, 2.0**127
    x = np.asarray([0, NAN, INF, most * 1.5, least / 2, 1, 1.1, 1.5, 1.49, -1, least * 1.2, least * 1.5])
    assert list(bits(rounded(x, POWERS))) == [0, 255, 254, 254, 0, 127, 128, 128, 128, 255, 1, 1]
    assert list(bits(rounded(x, POWERS, 1, "down"))) == [0, 255, 254, 254, 0, 127, 127, 127, 127, 255, 0, 0]
    near = [255, 255, 255, 255, 255, 127, 127, 128, 127, 255, 0, 1]
    assert list(bits(rounded(x, POWERS, 0, "nearest"))) == near
    for mode in ROUND_MODES:
        assert list(bits(rounded(every(POWERS).astype(np.float32), POWERS, 0, mode))) == list(range(256))
    with pytest.raises(IRError, match="round_mode 'even' is unknown; expected one of up, down, nearest"):
        check_mode("even")


@pytest.mark.parametrize("name", ["f8e4m3fn", "f8e5m2fnuz", "f4e2m1", POWERS, "i4", "u2"])
def test_neighbours_are_one_step_apart(name: str) -> None:
    elements = every(name)
    order = np.argsort(elements.astype(np.float64), kind="stable")
    places = steps(elements)[order][np.isfinite(elements.astype(np.float64)[order])]
    assert set(np.diff(places)) <= {0, 1}  # 0: both zeros
