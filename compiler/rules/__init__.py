"""Rewrite rules: the language of `.rules` files, matching, and the guards and helpers that rules may name."""
