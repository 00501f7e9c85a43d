"""Layers split into thinner ones: forms, errors, choice, and the graph with the pieces."""
