"""The families of converters. Importing this module fills the table."""

from . import (
    constants,
    control,
    einsum,
    elementwise,
    folds,
    linear,
    loops,
    normalizations,
    quantization,
    randomness,
    recurrence,
    resampling,
    sequences,
    shapes,
    windows,
)

__all__ = [
    "constants",
    "control",
    "einsum",
    "elementwise",
    "folds",
    "linear",
    "loops",
    "normalizations",
    "quantization",
    "randomness",
    "recurrence",
    "resampling",
    "sequences",
    "shapes",
    "windows",
]
