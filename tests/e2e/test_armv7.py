"""32-bit ARM: models of several kinds give the reference's answers, and libraries hold nothing unneeded."""

from __future__ import annotations

import pytest

from edgec.compiler.bundle import elf
from edgec.compiler.compare.bundle import verify
from edgec.compiler.errors import EdgecError
from edgec.compiler.modelled.counted import Counting

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
