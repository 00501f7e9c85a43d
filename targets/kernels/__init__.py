"""Kernel rows. Importing this package registers all of them; TVM is imported only when one is emitted."""

from . import conv_rows, depthwise_rows, matmul_rows, pool_rows, pool_spatial_rows  # noqa: F401
from . import contract_generic, generic_map, generic_other, generic_reduce, norm, softmax, window_generic  # noqa: F401
