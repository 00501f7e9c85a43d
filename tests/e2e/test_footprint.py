"""How much memory a C program that runs a model holds: weights, arena, and little else."""

from __future__ import annotations

import platform
import shutil

import pytest

from benchmarks import start

from .models import bundle

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or shutil.which("cc") is None, reason="reads /proc, needs a C compiler"
)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["mlperf_kws_dscnn", pytest.param("mobilenet_v2_100_224", marks=pytest.mark.long)])
def test_a_program_holds_weights_and_arena(name: str, threads: int) -> None:
    compiled = bundle(name, threads=threads)
    found = start.measured(compiled, threads, processes=3)
    assert compiled.weights_bytes + compiled.arena_bytes // 2 < found.resident <= start.most_bytes(compiled)
    assert found.load > 0 and found.open >= 0 and found.first > 0 and found.later > 0
