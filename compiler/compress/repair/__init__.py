"""Layers of a changed graph get weights with which it computes what the one before computed."""
