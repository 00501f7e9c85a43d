"""Products and windows of f32 on plain multiply-add units."""

from . import conv_rows, matmul_rows, planes_rows  # noqa: F401
