"""Numbers that are moved, with elementwise operators on the way."""

from . import map_vector, pixels, runs, turn  # noqa: F401
