"""A real plugin package, installed beside edgec: its pass, rule, guard, helper and target are there by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

GRAPH = """graph @g(%x: f32[2, 3], %z: f32[3]) {
  %c = Const() {data=[3.0]} : f32[]
  %a = Add(%x, %x) : f32[2, 3]
  %m = Mul(%a, %c) : f32[2, 3]
  %b = Add(%z, %z) : f32[3]
  %n = Mul(%b, %c) : f32[3]
  %y = Sigmoid(%m) : f32[2, 3]
  return %y, %n
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "package"
    subprocess.run(["cp", "-r", str(HERE / "package"), str(source)], check=True)
    flags = ["--target", str(folder), "--no-build-isolation", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(source)], check=True, capture_output=True)
    return folder


def edgec(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(ROOT)])
    command = [sys.executable, "-c", "import sys; from edgec.compiler.cli import main; sys.exit(main())", *words]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)


def test_pass_and_its_options_are_listed(site: Path) -> None:
    done = edgec(site, "passes", "demo-hard-sigmoid")
    assert done.returncode == 0, done.stderr
    assert "slope=0.2  (a number)" in done.stdout
    assert "after canonicalize: it brings clips to one form" in done.stdout


def test_pipeline_of_the_target_runs_the_pass_and_the_rule(site: Path, tmp_path: Path) -> None:
    (tmp_path / "g.eir").write_text(GRAPH)
    done = edgec(site, "opt", str(tmp_path / "g.eir"), "--target", "demo-board", "--steps", "--why", "demo_double")
    assert done.returncode == 0, done.stderr
    assert "HardSigmoid(%m) {alpha=0.25}" in done.stdout
    assert "%m = Mul(%x, %c) : f32[2, 3]" in done.stdout
    assert "%c = Const() {data=[6.0]} : f32[]" in done.stdout
    assert "canonicalize >> demo_double >> m" in done.stderr
    assert "demo_double at n: x has 3 elements, an odd number" in done.stderr


def test_failing_plugin_is_named(site: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    info = broken / "broken_plugin-1.dist-info"
    info.mkdir(parents=True)
    (broken / "broken_plugin.py").write_text("import nothing_of_that_name\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edgec.plugins]\nbroken = broken_plugin\n")
    done = edgec(broken, "passes")
    assert done.returncode == 1
    assert "plugin 'broken' of broken-plugin (broken_plugin) cannot be loaded" in done.stderr
    assert "No module named 'nothing_of_that_name'" in done.stderr
