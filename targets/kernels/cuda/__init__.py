"""Rows for NVIDIA GPUs. Importing this package registers them."""

from . import (  # noqa: F401
    mma_conv,
    mma_matmul,
)
