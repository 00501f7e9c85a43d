"""Bytes and floats on Cortex-M without the DSP extension."""

from . import rows  # noqa: F401
