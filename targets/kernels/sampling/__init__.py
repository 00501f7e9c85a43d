"""Rows that read between elements: resizing, grids, regions, deformed windows. Importing this registers them."""

from . import deform_columns, grid_sample, max_roi_pool, resize_rows, roi_align  # noqa: F401
