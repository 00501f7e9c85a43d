"""For a last test that asks what all tests of its file saw: where several processes share them, one runs them all."""

from __future__ import annotations

import os
import subprocess
import sys


def shared() -> bool:
    """Whether other processes run some of the tests."""
    return "PYTEST_XDIST_WORKER" in os.environ


def run_alone(file: str) -> None:
    """Every test of the file in one process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", file]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
