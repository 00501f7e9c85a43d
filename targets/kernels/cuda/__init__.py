"""Rows for NVIDIA GPUs. Importing this package registers them."""

from . import (  # noqa: F401
    attention_rows,
    conv_simt_rows,
    map_vector,
    matmul_simt_rows,
    mma_conv,
    mma_matmul,
    norm,
    pixels,
    planes_rows,
    recurrent_block,
    reduce,
    runs,
    softmax,
    suppress_block,
    top_k_block,
    turn,
)
