"""The row of recurrences on CPUs. Importing this package registers it."""

from . import rows  # noqa: F401
