"""The command line as a function."""

from __future__ import annotations

from edgec.compiler.cli import main


def edgec(*words: object) -> int:
    """The exit code."""
    return main([str(w) for w in words])
