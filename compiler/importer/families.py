"""The families of converters, and of rules for sizes that depend on data. Importing this module fills the tables."""

from . import (
    constants,
    control,
    elementwise,
    folds,
    linear,
    loops,
    quantization,
    recurrence,
    resampling,
    selection,
    sequences,
    shapes,
    sized_maps,
    sized_math,
    sizes,
    windows,
)

__all__ = [
    "constants",
    "control",
    "elementwise",
    "folds",
    "linear",
    "loops",
    "quantization",
    "recurrence",
    "resampling",
    "selection",
    "sequences",
    "shapes",
    "sized_maps",
    "sized_math",
    "sizes",
    "windows",
]
