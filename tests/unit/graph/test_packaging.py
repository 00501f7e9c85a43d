"""What pyproject.toml says agrees with the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import edgec

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {
    "distributed": "cluster",
    "onnxruntime": "verify",
    "ziglang": "cross",
    "sklearn": "train",
    "cuda": "cuda",
    "PIL": "images",
}
DISTRIBUTION = {
    "tvm": "apache-tvm",
    "tvm_ffi": "apache-tvm",
    "onnx_graphsurgeon": "onnx-graphsurgeon",
    "google": "protobuf",
}


def imported(folder: str) -> dict[str, Path]:
    """Top-level names of absolute imports, wherever they stand in a file, with one file that has them."""
    found: dict[str, Path] = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.append(node.module)
            found |= {name.partition(".")[0]: path for name in names}
    return found


def declared() -> set[str]:
    return {re.split(r"[<>=\[ ]", requirement)[0] for requirement in PROJECT["dependencies"]}


def test_every_import_is_a_declared_dependency() -> None:
    for folder in ("compiler", "passes", "targets"):
        for name, path in imported(folder).items():
            if name in sys.stdlib_module_names or name == "edgec" or name in OPTIONAL:
                continue
            assert DISTRIBUTION.get(name, name) in declared(), f"{path} imports {name}, which pyproject.toml lacks"


def test_only_targets_imports_tvm() -> None:
    assert "tvm" not in {*imported("compiler"), *imported("passes")}


def test_imports_point_one_way() -> None:
    """passes and targets import the compiler; the compiler imports them only inside functions."""
    for path in (ROOT / "compiler").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not re.match(r"(edgec\.)?(passes|targets)\b", module), f"{path}:{node.lineno} imports {module}"


def test_the_version_has_one_source() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\w*)", edgec.__version__)
    assert edgec.__version__ not in (ROOT / "CMakeLists.txt").read_text() + (ROOT / "pyproject.toml").read_text()


def test_the_development_extra_holds_the_others_that_tests_use() -> None:
    own = next(r for r in PROJECT["optional-dependencies"]["dev"] if r.startswith("edgec["))
    assert {"cross", "verify"} <= set(own[len("edgec[") : -1].split(","))
