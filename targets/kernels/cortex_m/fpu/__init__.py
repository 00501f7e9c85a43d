"""Products of f32 on Cortex-M with an FPU."""

from . import rows  # noqa: F401
