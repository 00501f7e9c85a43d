"""Products on tensor cores."""

from . import conv, matmul  # noqa: F401
