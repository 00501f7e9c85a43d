"""Calibration: data for a model, what its values are on them, and statistics of these."""
