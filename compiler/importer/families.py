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
    recurrence,
    randomness,
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
    "recurrence",
    "randomness",
    "resampling",
    "sequences",
    "shapes",
    "windows",
]
