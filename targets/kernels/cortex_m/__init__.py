"""Rows for Cortex-M: with the DSP extension, without it, with an FPU; for Helium `mve_*`. Importing registers them."""

from . import (  # noqa: F401
    conv_rows,
    depthwise_rows,
    float_rows,
    matmul_rows,
    mve_bytes,
    mve_dense_rows,
    mve_depthwise_rows,
    mve_pool,
    plain_rows,
    pool_rows,
)
