"""Whether a bundle that calibration data put into 8 bits is as near to its float model as it was made to be.

Such a bundle computes what another model does, the one in 8 bits; its float model is met by energies only. How far off
that is was measured on the calibration data, and the manifest has it: what a bundle shows beyond that is a fault, of
the bundle or of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf, log10
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..quantize.judged import SOME
from .difference import Difference

SLACK = 6.0  # dB that inputs other than the calibration data may cost
LEAST = 20.0  # dB where the manifest has no figure

Array = npt.NDArray[Any]


def expected(manifest: Mapping[str, Any]) -> float | None:
    """Signal to noise of the worst output of the worst sample, in dB, as it was measured when layers were put into 8
    bits; None where none is in 8 bits by calibration data."""
    found = manifest.get("quantization") or {}
    if not found.get("layers_int8"):
        return None
    measured = [float(found[k]) for k in ("output_sqnr_db", "sample_sqnr_db") if found.get(k) is not None]
    return min(measured, default=LEAST)


def in_noise(
    row: Difference, got: Array, want: Array, measured: float, manifest: Mapping[str, Any] = MappingProxyType({})
) -> Difference:
    """A difference between a bundle in 8 bits and its float model: the root of the error's energy over the output's.
    Of what a selection has left none is judged: it changes by leaps where numbers are nearly equal."""
    found = manifest.get("quantization") or {}
    if not row.ok and row.value in found.get("selected", []):
        note = f"int8: not judged behind a selection; what it reads had {measured:.1f} dB on the calibration data"
        return replace(row, tolerance=inf, note=note)
    if row.ok or got.dtype.kind != "f" or got.shape != want.shape:
        return row
    least = SOME * want.size if row.value in found.get("shares", []) else 0.0
    share = _relative(got.astype(np.float64), want.astype(np.float64), least)
    near = -20 * log10(share) if 0 < share < inf else -inf if share else inf
    note = f"int8: {near:.1f} dB signal to noise; {measured:.1f} on the calibration data"
    return replace(row, error=share, tolerance=10 ** ((SLACK - measured) / 20), note=note)


def _relative(got: Array, want: Array, least: float) -> float:
    energy = max(float(np.square(want).sum()), least)
    noise = float(np.square(got - want).sum())
    if not np.isfinite(noise):
        return inf
    return float((noise / energy) ** 0.5) if energy else (inf if noise else 0.0)
