"""Kernels for AArch64 and Armv7-A: floats and bytes, by lanes, dot products and matrix products of bytes."""

from . import columns_rows, conv_rows, depthwise_rows, matmul_rows, quads_rows, slide_rows  # noqa: F401
