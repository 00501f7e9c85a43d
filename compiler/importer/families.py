"""The families of converters. Importing this module fills the table."""

from . import constants, elementwise, folds, linear, quantization, resampling, shapes, windows

__all__ = ["constants", "elementwise", "folds", "linear", "quantization", "resampling", "shapes", "windows"]
