"""Imports point one way: passes and targets import the compiler, which knows neither; heavy packages load late."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("compiler", "passes", "targets")

# folder -> packages that no file of it imports, not even inside a function
FORBIDDEN = {
    "compiler": ("edgec.passes", "edgec.targets", "tvm"),
    "passes": ("edgec.targets", "tvm", "onnx", "onnx_graphsurgeon"),
    "targets": ("edgec.passes", "onnx", "onnx_graphsurgeon"),
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import in a file, those inside functions included."""
    package = ["edgec", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_relative_imports_are_read_right() -> None:
    assert "edgec.compiler.errors.IRError" in {m for _, m in imports(ROOT / "compiler/ops/internal.py")}
    assert "edgec.targets.tir" in {m for _, m in imports(ROOT / "targets/kernels/generic/nest.py")}
    assert "tvm.tirx" in {m for _, m in imports(ROOT / "targets/kernels/norm.py")}  # inside a function


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files
        for line, module in imports(path)
        for package in FORBIDDEN[folder]
        if within(module, package)
    ]
    assert wrong == []


def test_the_compiler_names_no_module_of_passes_or_targets() -> None:
    """Passes, rows and targets are found by listing their folders."""
    modules = {f"edgec.{d}.{p.stem}" for d in ("passes", "targets") for p in (ROOT / d).iterdir()}
    allowed = {
        ("driver.py", "edgec.targets.builder"),  # the driver brings them together
        ("driver.py", "edgec.targets.codegen"),
        ("driver.py", "edgec.targets.kernels"),
        ("driver.py", "edgec.targets.tuner"),
        ("target.py", "edgec.targets.host"),  # `host` is asked of this machine, not read from a file
    }
    found = {
        (path.name, node.value)
        for path in (ROOT / "compiler").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in modules
    }
    assert found == allowed


LOADED = """
import sys
{run}
print("LOADED", *sorted({{"tvm", "onnx", "onnxruntime", "networkx", "numpy", "lark", "rich"}} & set(sys.modules)))
"""
COMMAND = """
import contextlib, io
from edgec.compiler.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    try:
        main({words!r})
    except SystemExit:
        pass
"""
EIR = """graph @g(%x: f32[1, 4]) {
  %y = Relu(%x) : f32[1, 4]
  return %y
}
"""


def loaded(run: str, folder: Path) -> set[str]:
    """Which heavy packages a fresh interpreter holds after running some code."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(run=run)], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("LOADED")[1].split())


@pytest.mark.parametrize(
    ("words", "may"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["compile", "--help"], {"numpy"}),
        (["opt", "g.eir", "--passes", "fold"], {"numpy", "lark"}),
        (["passes"], {"numpy", "lark"}),
        (["targets"], {"numpy"}),
        (["inspect", "digits.onnx"], {"numpy", "lark", "onnx", "rich"}),
        (["compile", "digits.onnx", "-o", "build"], {"numpy", "lark", "onnx", "networkx"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_load_no_more_than_they_need(words: list[str], may: set[str], tmp_path: Path) -> None:
    (tmp_path / "g.eir").write_text(EIR)
    (tmp_path / "digits.onnx").write_bytes((ROOT / "examples/digits/digits.onnx").read_bytes())
    assert loaded(COMMAND.format(words=words), tmp_path) <= may


def test_the_package_itself_loads_nothing(tmp_path: Path) -> None:
    assert loaded("import edgec", tmp_path) == set()


def test_every_file_of_the_runtime_names_its_licence() -> None:
    """They are copied into the trees of others."""
    files = [path for path in (ROOT / "runtime").rglob("*") if path.suffix in (".c", ".h", ".hpp", ".cpp")]
    without = [path.name for path in files if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:80]]
    assert files and not without
