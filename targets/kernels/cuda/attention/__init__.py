"""Attention whose scores never leave the registers, on tensor cores and by multiply-adds."""

from . import rows  # noqa: F401
