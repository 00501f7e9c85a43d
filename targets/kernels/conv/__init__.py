"""f32 convolutions: direct, along rows, by columns, depthwise, and by Winograd, on every CPU with vectors."""

from . import along_rows, columns_rows, depthwise_rows, rows, winograd_rows  # noqa: F401
