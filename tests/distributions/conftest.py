"""A wheel and a source distribution of this tree, built once, and fresh environments to install them into."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"edgec": "edgec", "edgec/compiler": "compiler", "edgec/passes": "passes"}
PACKAGES |= {"edgec/targets": "targets", "edgec/runtime": "runtime"}


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Standard output; a failing command fails the test with what it said."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """One distribution through the build backend that pyproject.toml names."""
    code = f"import sys; from scikit_build_core.build import build_{kind} as build; print('BUILT', build(sys.argv[1]))"
    printed = run([sys.executable, "-c", code, out], source)
    return out / printed.rpartition("BUILT ")[2].strip()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without build products, so that builds leave nothing in it."""
    pytest.importorskip("scikit_build_core")
    copy = tmp_path_factory.mktemp("tree")
    products = ("build", "dist", ".venv", ".git", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*products))
    return copy


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Python of a new environment that sees the dependencies of this one, but not its edgec."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    target = run([python, "-c", "import site; print(site.getsitepackages()[0])"], tmp_path).strip()
    (Path(target) / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def pip_install(python: Path, *arguments: str | Path) -> None:
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, *arguments], python.parent)
