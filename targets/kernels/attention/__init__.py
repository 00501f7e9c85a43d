"""Rows of attention on CPUs. Importing this package registers them."""

from . import few_rows, rows  # noqa: F401
