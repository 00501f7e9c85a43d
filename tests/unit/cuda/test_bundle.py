"""A bundle for a GPU: what it holds, that it is reproducible, runs on the emulated driver, and every refusal."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.budget import measures
from edgec.compiler.bundle import Bundle, cuda_emulation, elf, read_bundle, write_bundle
from edgec.compiler.bundle.cuda_emulation import emulated_driver
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.program import Image
from edgec.compiler.target import find_target
from tests.support.handmade import expected, target
from tests.support.handmade_device import DEVICE_ARENA, PTX, device_program, emulated_image

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
MAIN = """
#include <stdio.h>
#include <string.h>
#include "tiny.h"
#include "edgec/cuda.h"
EC_ALIGNAS(TINY_ARENA_ALIGN) static uint8_t arena[TINY_ARENA_BYTES];
int main(void)
{
    const float x[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    ec_model model;
    ec_status status = ec_open(&model, &tiny_desc, arena, sizeof arena);
    if (status < 0) {
        printf("%s: %s\\n", ec_strerror(status), ec_device_error(&tiny_desc));
        return 1;
    }
    memcpy(ec_input(&model, 0).data, x, sizeof x);
    if (ec_cuda_use(&model, NULL, EC_CUDA_COPY) < 0 || ec_run(&model) < 0) return 2;
    printf("%g\\n", (double)((const float *)ec_output(&model, 0).data)[7]);
    ec_close(&model);
    return 0;
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(device_program(folder), target(), folder / "out")


def has_gpu() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests say the same on machines with a GPU."""
    monkeypatch.delenv(cuda_emulation.VARIABLE, raising=False)
    monkeypatch.setattr(cuda_emulation, "has_driver", lambda: False)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- What it holds


def test_manifest(bundle: Bundle) -> None:
    image = emulated_image(bundle.folder.parent)
    assert bundle.manifest["device"] == {
        "host_bytes": 192,
        "arena_bytes": DEVICE_ARENA,
        "zeros_bytes": 4,
        "images": [{"module": 0, "arch": 0, "kind": "emulated", "bytes": len(image.data)}],
    }
    launches = [step["launch"] for step in bundle.steps]
    size = {"grid": [2, 1, 1], "block": 4, "shared": 50 << 10, "registers": 0, "spilled": 0}
    assert launches[0] == {"kernel": "scale", "module": 0} | size
    assert launches[1]["kernel"] == "squash"
    assert bundle.code_bytes > len(image.data)
    assert bundle.arena_bytes == bundle.lower_bound == DEVICE_ARENA
    assert measures(bundle).ram == 192 + DEVICE_ARENA + 4
    assert read_bundle(bundle.folder) == bundle
    assert set(files(bundle.folder)) == set(bundle.manifest["files"]) >= {"src/tiny_device.cu", "src/cuda.c"}


def test_same_program_gives_the_same_bytes_anywhere(bundle: Bundle, tmp_path: Path) -> None:
    images = (emulated_image(bundle.folder.parent),)  # the linker's output may name its folder
    again = write_bundle(device_program(tmp_path, images), target(), tmp_path / "deeper" / "out")
    assert files(again.folder) == files(bundle.folder)


def test_shared_library_exports_one_symbol_and_needs_only_libc(bundle: Bundle) -> None:
    symbols = elf.symbols(bundle.shared_library.read_bytes(), dynamic=True)
    assert [s.name for s in symbols if s.defined] == ["edgec_model"]
    assert {s.name for s in symbols if not s.defined} <= {
        "dlopen", "dlsym", "dlclose", "dlerror", "getenv", "malloc", "calloc", "free", "memcpy", "memset", "strcmp",
        "strcpy", "strlen", "snprintf", "strtol", "__isoc23_strtol", "pthread_mutex_lock", "pthread_mutex_unlock",
        "pthread_self", "pthread_equal", "__stack_chk_fail", "__snprintf_chk", "__strcpy_chk",
        "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__", "__cxa_finalize",
    }  # fmt: skip


def test_shared_library_needs_no_loader_of_programs(bundle: Bundle) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    command = ["readelf", "-dW", str(bundle.shared_library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    needed = set(re.findall(r"\(NEEDED\).*\[(\w+)[.-]", done.stdout))
    assert "libc" in needed
    assert needed <= {"libc", "libm", "libdl", "libpthread"}


@pytest.mark.arm
@pytest.mark.parametrize("version", ["2.17", "2.31"])
def test_shared_library_loads_on_old_boards(version: str, tmp_path: Path) -> None:
    """Ubuntu 20.04 has glibc 2.31: a linker that knows its symbols only finds all of ours."""
    if not find_spec("ziglang") or not shutil.which("aarch64-linux-gnu-gcc"):
        pytest.skip("needs ziglang and a cross compiler for aarch64")
    built = write_bundle(device_program(tmp_path, (emulated_image(tmp_path),)), find_target("jetson"), tmp_path / "out")
    (tmp_path / "open.c").write_text("void *edgec_model(void); int main(void) { return !edgec_model(); }")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"aarch64-linux-gnu.{version}"]
    command = [*zig, "open.c", str(built.shared_library), "-ldl", "-lm", "-Wl,--no-allow-shlib-undefined"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_images_are_in_the_tables(tmp_path: Path) -> None:
    images = (Image(87, "cubin", b"machine code"), Image(90, "ptx", b".version 8"), emulated_image(tmp_path))
    made = write_bundle(device_program(tmp_path, images), target(), tmp_path / "out")
    text = (made.folder / "src" / "tiny_model.c").read_text()
    for row in (
        "{87, EC_IMAGE_CUBIN, tiny_module0_cubin87, 12},",
        "{90, EC_IMAGE_PTX, tiny_module0_ptx90, 10},",
        ".n_modules = 1,\n    .n_images = 3,",
        '{"scale", 0, {2, 1, 1}, 4, 51200},',
    ):
        assert row in text
    assert b"machine code\0" in made.shared_library.read_bytes()
    with edgec.load(made.folder) as model:
        np.testing.assert_allclose(model.run({"x": X})["y/out"], expected(X), rtol=1e-6)
    for spoilt in (((images[0],), (images[1],)), ()):
        base = device_program(tmp_path)
        assert base.device is not None
        with pytest.raises(ValueError, match="device module"):
            write_bundle(replace(base, device=replace(base.device, modules=spoilt)), target(), tmp_path / "bad")


# ---- Running it


def test_answers(bundle: Bundle, rtol: float = 1e-6) -> None:
    with edgec.load(bundle.folder) as model:
        assert model.on_device and model.threads == 1 and model.steps == ("mul", "act")
        for run, scale in enumerate((1, 2, -3), 1):
            found = model.run({"x": scale * X})
            np.testing.assert_allclose(found["y/out"], expected(scale * X), rtol)
            assert found["runs"] == [run]
    assert cuda_emulation.VARIABLE not in os.environ


def test_instances_do_not_meet(bundle: Bundle, rtol: float = 1e-6) -> None:
    a, b = edgec.load(bundle.folder), edgec.load(bundle.folder)
    results = [m.run({"x": s * X}) for s in (1, 2) for m in (a, b)]
    for result, scale in zip(results, (1, 1, 2, 2), strict=True):
        np.testing.assert_allclose(result["y/out"], expected(scale * X), rtol)
    assert [float(result["runs"][0]) for result in results] == [1, 1, 2, 2]
    a.close()
    np.testing.assert_allclose(b.run({"x": X})["y/out"], expected(X), rtol)
    with pytest.raises(EdgecError, match="the model is closed"):
        a.run({"x": X})


def test_another_model_of_the_same_name_has_its_own_code(bundle: Bundle, tmp_path: Path) -> None:
    other = write_bundle(device_program(tmp_path, offset=1.0), target(), tmp_path / "out")
    with edgec.load(bundle.folder) as first, edgec.load(other.folder) as second:
        assert not np.allclose(first.run({"x": X})["y/out"], second.run({"x": X})["y/out"])


def test_trace_reads_the_memory_of_the_device(bundle: Bundle, rtol: float = 1e-6) -> None:
    places = [(i, r["offset"], 32) for i, step in enumerate(bundle.steps) for r in step["results"]]
    with edgec.load(bundle.folder) as model:
        outputs, found = model.trace({"x": X}, places)
        product, result = (np.frombuffer(data, np.float32).reshape(2, 4) for data in found)
    np.testing.assert_allclose(product + np.tanh(product), result, rtol)
    np.testing.assert_array_equal(result, outputs["y/out"])


def test_benchmark(bundle: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with edgec.load(bundle.folder) as model:
        result = model.benchmark(runs=3, layers=True)
    assert len(result.runs) == 3 and [name for name, _ in result.layers] == ["mul", "act"]
    assert main(["bench", str(bundle.folder), "--runs", "2", "--layers"]) == 0
    said = capsys.readouterr().out
    assert "median" in said and "measured in between" not in said
    assert main(["bench", str(bundle.folder), "--roofline", str(tmp_path / "r.svg")]) == 1
    assert "runs on a GPU, whose peak is not measured" in capsys.readouterr().err
    assert main(["inspect", str(bundle.folder)]) == 0
    said = capsys.readouterr().out
    assert "arena       1,024 bytes" in said and "4 bytes of counters; here 192 bytes" in said


def test_programs_link_it(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{bundle.folder}"]
    subprocess.run(
        ["cc", *flags, "main.c", str(bundle.static_library), "-lm", "-ldl", "-pthread", "-o", "main"],
        cwd=tmp_path,
        check=True,
    )
    with_driver = {**os.environ, cuda_emulation.VARIABLE: str(emulated_driver())}
    done = subprocess.run(["./main"], cwd=tmp_path, env=with_driver, capture_output=True, text=True, check=True)
    assert done.stdout == "50\n"
    without = {**os.environ, cuda_emulation.VARIABLE: "./none.so"}
    done = subprocess.run(["./main"], cwd=tmp_path, env=without, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("there is no GPU here, or no driver for it: ./none.so: cannot open")


def test_its_sources_are_strict_c(bundle: Bundle) -> None:
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{bundle.folder}"]
    subprocess.run(["cc", *flags, bundle.folder / "src" / "tiny_model.c"], check=True)


@pytest.mark.skipif(not has_gpu(), reason="no GPU")
def test_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_emulation, "has_driver", lambda: True)
    images = (Image(75, "ptx", PTX.encode()), emulated_image(tmp_path))
    made = write_bundle(device_program(tmp_path, images), target(), tmp_path / "out")
    test_answers(made, rtol=1e-5)
    test_instances_do_not_meet(made, rtol=1e-5)
    test_trace_reads_the_memory_of_the_device(made, rtol=1e-5)
    with edgec.load(made.folder) as model:
        assert all(ms > 0 for _, ms in model.benchmark(runs=3, layers=True).layers)
    (tmp_path / "bad").mkdir()
    broken = (Image(75, "ptx", PTX.replace("mul.f32", "no.f32").encode()),)
    bad = write_bundle(device_program(tmp_path, broken), target(), tmp_path / "bad" / "out")
    with pytest.raises(EdgecError, match="cuModuleLoadData: CUDA_ERROR_INVALID_PTX"):
        edgec.load(bad.folder)
    later = write_bundle(device_program(tmp_path, (Image(999, "ptx", b""),)), target(), tmp_path / "bad" / "out")
    with pytest.raises(EdgecError, match="compiled for other GPUs than this one: no code for sm_"):
        edgec.load(later.folder)


# ---- Kernels that begin early


def early_launches(bundle: Bundle) -> int:
    """Launches of a run that may begin before the kernel before them has ended; the run is right."""
    count = ctypes.CDLL(str(emulated_driver())).edgec_emulated_early
    before = int(count())
    with edgec.load(bundle.folder) as model:
        np.testing.assert_allclose(model.run({"x": X})["y/out"], expected(X), rtol=1e-6)
    return int(count()) - before


def test_kernels_begin_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = emulated_image(tmp_path)
    made = {}
    for arch, kind in ((90, "cubin"), (89, "ptx")):
        program = device_program(tmp_path, (Image(arch, kind, code.data),))
        made[arch] = write_bundle(program, target(), tmp_path / f"out{arch}")
    monkeypatch.setenv(cuda_emulation.VARIABLE, str(emulated_driver()))
    monkeypatch.setenv("EDGEC_EMULATED_ARCH", "90")
    assert early_launches(made[90]) == 1
    assert early_launches(made[89]) == 0
    monkeypatch.setenv("EDGEC_CUDA_EARLY", "1")  # the kernel in front has two blocks
    assert early_launches(made[90]) == 0


# ---- Where it cannot run


def test_no_gpu_and_no_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_bundle(device_program(tmp_path, (Image(87, "cubin", b"code"),)), target(), tmp_path / "out")
    monkeypatch.setenv(cuda_emulation.VARIABLE, "/no/such/driver.so")
    with pytest.raises(
        EdgecError, match=r"out: there is no GPU here, or no driver for it: /no/such/driver\.so: cannot"
    ) as e:
        edgec.load(made.folder)
    assert "\n" not in str(e.value)
    monkeypatch.setenv(cuda_emulation.VARIABLE, str(emulated_driver()))
    with pytest.raises(EdgecError, match="compiled for other GPUs than this one: no code for sm_00"):
        edgec.load(made.folder)


def test_a_run_that_fails_says_where(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with edgec.load(bundle.folder) as model:
        monkeypatch.setenv("EDGEC_EMULATED_FAIL", "cuLaunchKernel=719")
        with pytest.raises(EdgecError, match="step mul: cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED"):
            model.run({"x": X})
        monkeypatch.delenv("EDGEC_EMULATED_FAIL")
        np.testing.assert_allclose(model.run({"x": X})["y/out"], expected(X), rtol=1e-6)


def test_a_kernel_that_reports_a_fault_fails_the_run(bundle: Bundle) -> None:
    with edgec.load(bundle.folder) as model:
        message = "CUDA_ERROR_LAUNCH_FAILED .719.: scale, block .0, 0, 0., thread 0: refuses 99"
        for _ in range(2):
            with pytest.raises(EdgecError, match=f"the GPU's driver reported an error: cuStreamSynchronize: {message}"):
                model.run({"x": np.full_like(X, 99)})
            np.testing.assert_allclose(model.run({"x": X})["y/out"], expected(X), rtol=1e-6)


def test_which_driver(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def emulates(*kinds: str) -> bool:
        return cuda_emulation.emulates({"device": {"images": [{"kind": kind} for kind in kinds]}})

    assert emulates("cubin", "emulated") and emulates("emulated") and not emulates("cubin", "ptx")
    assert not cuda_emulation.emulates({"device": None}) and not cuda_emulation.emulates({})
    monkeypatch.setattr(cuda_emulation, "has_driver", lambda: True)
    assert not emulates("cubin", "emulated") and emulates("emulated")
    monkeypatch.setenv(cuda_emulation.VARIABLE, "driver.so")
    assert not emulates("emulated")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("device", {"host_bytes": 1, "arena_bytes": 1}, "no device.zeros_bytes"),
        (
            "device",
            {"host_bytes": 1, "arena_bytes": 1, "zeros_bytes": 0, "images": [{}]},
            r"no device.images\[0\].module",
        ),
        ("steps", None, r"steps\[0\].launch.grid is not a list"),
    ],
)
def test_damaged_manifests(bundle: Bundle, tmp_path: Path, key: str, value: object, message: str) -> None:
    table = json.loads(json.dumps(bundle.manifest))
    table["steps"][0]["launch"]["grid"] = 1 if key == "steps" else [1, 1, 1]
    (tmp_path / "m.json").write_text(json.dumps(table if value is None else {**table, key: value}))
    with pytest.raises(EdgecError, match=f"damaged manifest: {message}"):
        read_bundle(tmp_path / "m.json")
