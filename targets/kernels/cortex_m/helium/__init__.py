"""Bytes on Helium, the vectors of Cortex-M55."""

from . import bytes, dense_rows, depthwise_rows, pool_rows  # noqa: F401
