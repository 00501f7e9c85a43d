"""A bundle: what it holds, that it is reproducible, and that programs link it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import Bundle, read_bundle, write_bundle
from edgec.compiler.program import Allocation, Port, Program, Ref, Step
from edgec.compiler.target import FOLDER, Target, read_target

KERNELS = """
#include <stdint.h>
#include <math.h>
/* y[i] = x[i] * w[i], 4 elements a task */
void scale(void *const *args, int32_t begin, int32_t end)
{
    const float *x = args[0], *w = args[1];
    float *y = args[2];
    for (int i = 4 * begin; i < 4 * end; i++) y[i] = x[i] * w[i];
}
/* y[i] = tanh(x[i]) + x[i] through scratch memory */
void squash(void *const *args, int32_t begin, int32_t end)
{
    const float *x = args[0];
    float *y = args[1], *t = args[2];
    for (int i = 4 * begin; i < 4 * end; i++) { t[i] = tanhf(x[i]); y[i] = t[i] + x[i]; }
}
"""
WEIGHTS = np.arange(8, dtype=np.float32)


def target(name: str = "x86") -> Target:
    return read_target((FOLDER / f"{name}.toml").read_text(), name)


def program(folder: Path, kind: Target | None = None, name: str = "tiny") -> Program:
    """y = tanh(x * w) + x * w on 8 floats, in two kernels written in C."""
    kind = kind or target()
    (folder / "kernels.c").write_text(KERNELS)
    tools.toolchain(kind).compile(["kernels.c"], folder, ["-std=c11"])
    arena = {n: Ref("arena", at) for n, at in {"x": 0, "m": 64, "y": 128}.items()}
    return Program(
        name=name,
        target=kind.name,
        inputs=(Port("x", "f32", (2, 4), 32, arena["x"]),),
        outputs=(Port("y/out", "f32", (2, 4), 32, arena["y"]),),
        steps=(
            Step(
                "mul",
                "scale",
                (arena["x"], Ref("weights", 0), arena["m"]),
                2,
                row="map",
                origin=("Mul_0",),
                macs=8,
                bytes_moved=96,
                why="only row",
            ),
            Step(
                "act",
                "squash",
                (arena["m"], arena["y"], Ref("scratch", 192)),
                2,
                64,
                row="map",
                origin=("Tanh_1", "Add_2"),
                bytes_moved=64,
            ),
        ),
        weights=WEIGHTS.tobytes(),
        objects=(("kernels.o", (folder / "kernels.o").read_bytes()),),
        arena_bytes=320,
        lower_bound=288,
        arena_map=(Allocation("x", 0, 32, -1, 0), Allocation("m", 64, 32, 0, 1), Allocation("y/out", 128, 32, 1, 1)),
        threads=2,
        passes="canonicalize, fold",
        model_sha256="0" * 64,
    )


def expected(x: np.ndarray) -> np.ndarray:
    m = x * WEIGHTS.reshape(2, 4)
    return np.tanh(m) + m


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(program(folder), target(), folder / "out")


def test_bundle_holds_the_files_that_its_manifest_lists(bundle: Bundle) -> None:
    files = {str(p.relative_to(bundle.folder)) for p in bundle.folder.rglob("*") if p.is_file()}
    assert files == set(bundle.manifest["files"])
    wanted = {
        "tiny.h",
        "libtiny.a",
        "libtiny.so",
        "tiny.json",
        "report.html",
        "tinyConfig.cmake",
        "edgec/edgec.h",
        "libedgec.a",
        "src/core.c",
    }
    assert wanted <= files
    assert read_bundle(bundle.folder) == bundle
