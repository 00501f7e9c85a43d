"""Rows of 8-bit products on AMX. Importing this package registers them."""

from . import rows  # noqa: F401
