"""For a test that asks what all tests of some files saw: one process runs them all, whoever shares them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MARK = "EDGEC_TESTS_ALONE"


def alone() -> bool:
    """Whether this process runs every test of the files."""
    return _MARK in os.environ


def run_alone(*files: str | Path) -> None:
    """Every test of the files in one process of its own, in their order."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {_MARK: "1"}, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
