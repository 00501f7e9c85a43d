"""The rows of the operator table, by family. Importing this package fills `edgec.compiler.op.OPS`."""

from . import (
    attention,
    binary,
    control,
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
    "attention",
    "binary",
    "control",
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
