"""32-bit ARM: models of several kinds give the reference's answers, and libraries hold nothing unneeded."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.compiler.bundle import elf
from edgec.compiler.compare.bundle import verify
from edgec.compiler.errors import EdgecError
from edgec.compiler.modelled.counted import Counting
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import toolchain

from .models import MODELS, Model, bundle, find

QUICK = ("mnist_cntk_8", "mlperf_kws_dscnn", "mlperf_kws_dscnn_int8", "mlperf_ic_resnet8", "silero_vad_v6_op16")
SLOW = ("mlperf_ic_resnet8_int8", "gtcrn_simple", "squeezenet_fp16", "yolox_nano_416")

pytestmark = pytest.mark.arm


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in SLOW)])
def test_answers_like_the_reference(name: str) -> None:
    pytest.importorskip("onnxruntime")
    compiled = bundle(name, "armv7")
    model = next((m for m in MODELS if m.name == name), Model(name))
    found = verify(find(name), compiled.folder, runs=1, binds=model.bind)
    assert found.ok, "\n".join(f"{d.value}: {d.error:.1e} > {d.tolerance:.0e}" for d in found.differences if not d.ok)


def test_a_library_is_as_small_as_on_other_machines() -> None:
    """zig's helper functions for Arm are one object: without collection of what is not reached, 200 KB of them."""
    compiled = bundle("mnist_cntk_8", "armv7")
    assert compiled.code_bytes < 40_000
    wanted = {s.name for s in elf.symbols(compiled.shared_library.read_bytes(), dynamic=True) if not s.defined}
    assert not any(name.startswith("__aeabi") for name in wanted)


def test_its_cores_are_not_modelled() -> None:
    with pytest.raises(EdgecError, match="compiled for armv7.*; cores are modelled of AArch64"):
        Counting(bundle("mnist_cntk_8", "armv7"))


def test_calls_reach_over_the_weights_of_large_models(tmp_path: Path) -> None:
    """GNU ld's usual entries for calls of the C library reach 256 MB."""
    (tmp_path / "call.c").write_text("#include <string.h>\nvoid *call(void *a, int n) { return memset(a, 1, n); }\n")
    (tmp_path / "far.s").write_text('.section .rodata\nfar: .space 270000000\n.section .note.GNU-stack,""\n')
    tools = toolchain(find_target("armv7"))
    tools.link("libfar.so", tools.compile(["call.c", "far.s"], tmp_path), tmp_path, ["-shared", "-s"])
    assert (tmp_path / "libfar.so").stat().st_size > 270_000_000
    for made in tmp_path.iterdir():  # temporary folders are kept for some runs
        made.unlink()
