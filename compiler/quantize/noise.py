"""How far outputs in 8 bits are from the float model's: signal to noise, of all samples and of the worst one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log10

import numpy as np

from ..ops.common import Tensor

UNUSABLE = 10.0  # dB below which an answer is hardly the float model's: an error of a third
USELESS = 3.0  # dB below which there is about as much noise as answer
APART = 6.0  # dB that the worst sample is below all together where the mean hides it

CACHED = 1 << 14  # elements that are looked at at a time

Samples = Sequence[Sequence[Tensor]]  # of each value the arrays of all samples; only floats count
Least = Sequence[float]  # of each value the energy per element that counts at least; none: 0


@dataclass(frozen=True)
class Weakest:
    """The answer that is farthest off: the number of the sample, that of the output, and its signal to noise in dB."""

    sample: int
    output: int
    sqnr: float


def worst_sqnr(real: Samples, rough: Samples, least: Least = ()) -> float:
    """Signal to noise in dB of the worst value, all samples together."""
    worst = inf
    for wanted, found, base in zip(real, rough, least or [0.0] * len(real), strict=True):
        pairs = [energies(a, b, base) for a, b in zip(wanted, found, strict=True) if a.dtype.kind == "f"]
        worst = min(worst, _decibels(sum(s for s, _ in pairs), sum(n for _, n in pairs)))
    return worst


def weakest(real: Samples, rough: Samples, least: Least = ()) -> Weakest | None:
    """The worst answer to one sample; None where nothing differs. A single number may well be near zero, which says
    nothing: outputs of several count."""
    found = [
        Weakest(sample, output, _decibels(*energies(a, b, base)))
        for output, (wanted, given, base) in enumerate(zip(real, rough, least or [0.0] * len(real), strict=True))
        for sample, (a, b) in enumerate(zip(wanted, given, strict=True))
        if a.dtype.kind == "f" and a.size > 1
    ]
    worst = min(found, key=lambda one: one.sqnr, default=None)
    return None if worst is None or worst.sqnr == inf else worst


def warning(least: Weakest | None, sqnr: float, output: str, sample: int) -> str | None:
    """What is said where answers are unusable: to all samples, or to one and all together do not show it."""
    if sqnr < UNUSABLE:
        return (
            f"in int8 the outputs are {off_by(sqnr)}, of little use: --max-drop leaves as many layers in f32 as "
            "are needed"
        )
    if least is None or least.sqnr >= UNUSABLE or least.sqnr > sqnr - APART:
        return None
    return (
        f"in int8 output {output!r} is {off_by(least.sqnr)} on calibration sample {sample}, though all samples "
        f"together are by {sqnr:.1f} dB: of little use on inputs like it"
    )


def energies(real: Tensor, rough: Tensor, least: float) -> tuple[float, float]:
    """Of a signal, at least so much per element, and of what was made of it minus the signal: infinite where one of the
    two has a number that is not finite, and the other not the same."""
    signal = noise = 0.0
    flat, made = real.reshape(-1), rough.reshape(-1)
    for at in range(0, flat.size, CACHED):
        a, b = (one[at : at + CACHED].astype(np.float64) for one in (flat, made))
        with np.errstate(invalid="ignore", over="ignore"):
            off = a - b
            if not isfinite(more := float(off @ off)):
                off = np.where(a == b, 0.0, off)
                more = float(off @ off)
            noise += more
            signal += float(a @ a)
    return max(signal, least * flat.size), noise if isfinite(noise) else inf


def off_by(sqnr: float) -> str:
    """As it is told."""
    return "not finite" if sqnr == -inf else f"off by {sqnr:.1f} dB"


def _decibels(signal: float, noise: float) -> float:
    if noise == inf:
        return -inf
    return 10 * (log10(signal) - log10(noise)) if signal > 0 < noise else inf
