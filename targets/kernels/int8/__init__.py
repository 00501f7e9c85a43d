"""Kernels of bytes for x86: AVX2, AVX-512 with VNNI and VBMI; maps of bytes for every CPU with vectors."""

from . import (  # noqa: F401
    channels,
    conv_rows,
    depthwise_dots_rows,
    depthwise_rows,
    image,
    matmul_rows,
    pool_rows,
    softmax,
    softmax_rows,
    table,
    winograd_rows,
)
