"""Rows of products by weights that are mostly zero. Importing this package registers them."""

from . import block_rows, int8_rows, rows  # noqa: F401
