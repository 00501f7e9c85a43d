"""Rows that select, sort and suppress. Importing this package registers them."""

from . import rows, sort_rows, suppression_rows  # noqa: F401
