"""Products with weights of few bits in blocks, which are widened in registers or a panel at a time."""

from . import rows  # noqa: F401
