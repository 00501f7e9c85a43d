"""Rows for NVIDIA GPUs. Importing this package registers them."""

from . import (  # noqa: F401
    conv_simt_rows,
    matmul_simt_rows,
    planes_rows,
)
