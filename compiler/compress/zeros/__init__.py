"""Zeros among weights: which, how many of each layer, and what the others make up for."""
