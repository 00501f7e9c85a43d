"""Converters of Fourier transforms, windows and mel bands."""
