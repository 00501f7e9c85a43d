"""The folders of the checkout become one package, whichever way it is installed."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import edgec

from .conftest import PACKAGES, ROOT, build, pip_install, run


def packaged(tree: Path) -> set[str]:
    """What the package should hold, by the rule that X/y.py is edgec.X.y."""
    files: set[str] = set()
    for package, folder in PACKAGES.items():
        paths = (
            p for p in (tree / folder).rglob("*") if p.is_file() and not (tree / folder / p.parts[-2]).is_symlink()
        )
        files |= {f"{package}/{p.relative_to(tree / folder)}" for p in paths if "__pycache__" not in p.parts}
    return {f for f in files if not f.endswith((".so", ".pyc"))}


def wheel_files(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [n for n in archive.namelist() if ".dist-info/" not in n]


def test_wheel_holds_every_file_of_the_tree_once(tree: Path, wheel: Path) -> None:
    names = wheel_files(wheel)
    assert len(names) == len(set(names))
    assert {n for n in names if not n.endswith(".so")} == packaged(tree)
    assert "edgec/py.typed" in names
    assert "edgec/runtime/include/edgec/edgec.h" in names


def test_wheel_holds_the_compiled_runtime(wheel: Path) -> None:
    assert [n for n in wheel_files(wheel) if n.endswith(".so")] == ["edgec/runtime/lib/libedgec_rt.so"]
    assert "-py3-none-" in wheel.name


def test_source_distribution_keeps_the_folders_and_the_links(tree: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = {m.name.partition("/")[2]: m for m in archive.getmembers()}
    for link in ("compiler", "passes", "targets", "runtime"):
        assert members[f"edgec/{link}"].linkname == f"../{link}"
        assert not [name for name in members if name.startswith(f"edgec/{link}/")]
    modules = {str(p.relative_to(tree)) for folder in PACKAGES.values() for p in (tree / folder).glob("**/*.py")}
    modules = {name for name in modules if not Path(tree, name).parent.is_symlink()}
    assert {name for name in modules if not name.startswith("edgec/") or name.count("/") == 1} <= members.keys()
    assert {"CMakeLists.txt", "LICENSE", "README.md", "Makefile", "pyproject.toml"} <= members.keys()


def test_wheel_from_the_source_distribution_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", next(tmp_path.iterdir()), tmp_path)
    assert sorted(wheel_files(again)) == sorted(wheel_files(wheel))


def test_installed_wheel_runs(wheel: Path, fresh: Path, tmp_path: Path) -> None:
    pip_install(fresh, wheel)
    assert edgec.__version__ in run([fresh, "-m", "edgec", "--version"], tmp_path)
    assert edgec.__version__ in run([fresh.parent / "edgec", "--version"], tmp_path)
    where = run([fresh, "-c", "import edgec.compiler as c; print(c.__file__)"], tmp_path).strip()
    assert Path(where).is_relative_to(fresh.parents[1])


def test_editable_install_runs_from_the_tree(tree: Path, fresh: Path, tmp_path: Path) -> None:
    pip_install(fresh, "--editable", tree)
    assert edgec.__version__ in run([fresh, "-m", "edgec", "--version"], tmp_path)
    where = run([fresh, "-c", "import edgec.compiler as c; print(c.__file__)"], tmp_path).strip()
    assert Path(where).resolve() == tree / "compiler" / "__init__.py"
    (tree / "passes" / "later.py").write_text("ANSWER = 42\n")
    try:
        assert run([fresh, "-c", "from edgec.passes.later import ANSWER; print(ANSWER)"], tmp_path).strip() == "42"
    finally:
        (tree / "passes" / "later.py").unlink()


def test_uninstalled_tree_runs(tmp_path: Path) -> None:
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "edgec", "--version"]
    assert edgec.__version__ in run(command, tmp_path)
