"""Kernel rows. Importing this package registers all of them; TVM is imported only when one is emitted."""

from . import (  # noqa: F401
    attention_rows,
    channels_rows,
    contract_generic,
    conv_rows,
    depthwise_rows,
    generic_map,
    generic_other,
    generic_reduce,
    matmul_rows,
    norm,
    pool_rows,
    pool_spatial_rows,
    recurrent_rows,
    resize_rows,
    selection_rows,
    softmax,
    suppression_rows,
    window_generic,
    winograd_rows,
)
