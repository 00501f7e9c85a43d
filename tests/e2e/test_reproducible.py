"""The same model, target and version give the same bundle, byte by byte, wherever and whenever it is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.compiler.target import find_target

from .models import find, needs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("mlperf_kws_dscnn", "host"),
        ("mnist_cntk_8", "x86-multi"),
        pytest.param("mnist_cntk_8", "arm", marks=pytest.mark.arm),
        pytest.param("fastestdet_coco_352", "host", marks=pytest.mark.long),
        pytest.param("mobilenet_v2_100_224", "arm", marks=[pytest.mark.arm, pytest.mark.long]),
    ],
)
def test_two_compilations_give_the_same_bytes(name: str, target: str, tmp_path: Path) -> None:
    needs(find_target(target))
    bundles = []
    for seed, out in (("1", "here"), ("2", "a/much/deeper/folder")):
        cwd = tmp_path / seed
        cwd.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "TMPDIR": str(cwd)}
        command = [sys.executable, "-m", "edgec", "compile", str(find(name)), "--target", target, "-o", out]
        subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
        bundles.append(files(cwd / out))
    assert bundles[0].keys() == bundles[1].keys()
    assert [path for path, content in bundles[0].items() if content != bundles[1][path]] == []
    assert not [path for path, content in bundles[0].items() if str(tmp_path).encode() in content]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
