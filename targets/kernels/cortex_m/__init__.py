"""Rows for Cortex-M: with the DSP extension in this folder; without it, with an FPU, and for Helium in folders of their
own. Importing this package registers them."""

from . import conv_rows, depthwise_rows, fpu, helium, matmul_rows, plain, pool_rows  # noqa: F401
