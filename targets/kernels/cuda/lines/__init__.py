"""Rows and columns of numbers that threads fold together."""

from . import norm, reduce, softmax  # noqa: F401
