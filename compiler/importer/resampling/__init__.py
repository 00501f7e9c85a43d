"""Converters of operators that sample: Resize, and grids of positions."""
