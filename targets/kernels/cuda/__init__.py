"""Rows for NVIDIA GPUs. Importing this package registers them."""

from . import (  # noqa: F401
    conv_simt_rows,
    image_mean,
    map_vector,
    matmul_simt_rows,
    mma_conv,
    mma_matmul,
    planes_rows,
)
