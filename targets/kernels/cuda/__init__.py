"""Rows for NVIDIA GPUs. Importing this package registers them."""

from . import (  # noqa: F401
    attention_rows,
    norm,
    reduce,
    softmax,
)
