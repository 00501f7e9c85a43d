"""Rows for NVIDIA GPUs, a folder for each way of sharing work among threads. Importing this package registers them."""

from . import attention, blocks, lines, mma, moves, simt  # noqa: F401
