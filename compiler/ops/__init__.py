"""The rows of the operator table, by family. Importing this package fills `edgec.compiler.op.OPS`."""

from . import (
    binary,
    convolution,
    gather,
    internal,
    matmul,
    normalization,
    pooling,
    quantize,
    reduction,
    resize,
    shape,
    slicing,
    source,
    unary,
)

__all__ = [
    "binary",
    "convolution",
    "gather",
    "internal",
    "matmul",
    "normalization",
    "pooling",
    "quantize",
    "reduction",
    "resize",
    "shape",
    "slicing",
    "source",
    "unary",
]
