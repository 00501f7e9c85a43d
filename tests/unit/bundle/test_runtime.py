"""The compiled model from Python: answers, checks of inputs, instances, threads, and every refusal."""

from __future__ import annotations

import ctypes
import json
import platform
import re
import shutil
import subprocess
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler import ports
from edgec.compiler.bundle import ABI, Bundle, write_bundle
from edgec.compiler.dtypes import DTYPES
from edgec.compiler.errors import EdgecError
from edgec.compiler.execution import abi
from edgec.compiler.execution.model import Model
from edgec.compiler.isa import isa_names
from tests.support.handmade import expected, program, target

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(program(folder), target(), folder / "out")


@pytest.fixture
def model(bundle: Bundle) -> edgec.Model:
    return edgec.load(bundle.folder)


def test_answers(model: edgec.Model) -> None:
    for scale in (1, 2, -3):
        np.testing.assert_allclose(model.run({"x": scale * X})["y/out"], expected(scale * X), rtol=1e-6)


def test_ports(model: edgec.Model) -> None:
    assert model.inputs == (ports.Port("x", "float32", (2, 4)),)
    assert [(p.name, p.dtype, p.shape) for p in model.outputs] == [("y/out", "float32", (2, 4))]
    assert model.steps == ("mul", "act") and model.threads == 2


@pytest.mark.parametrize(
    "value",
    [X.tolist(), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]],
    ids=["list", "fortran", "strided"],
)
def test_inputs_that_mean_the_same(model: edgec.Model, value: object) -> None:
    np.testing.assert_allclose(model.run({"x": value})["y/out"], expected(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, "no value for input 'x'"),
        ({"X": X}, "the model has no input 'X'; "),
        ({"x": X, "y": X}, "the model has no input 'y'"),
        (
            {"x": X.astype("f8")},
            r"input 'x': element type float64, expected float32; convert it with \.astype\('float32'\)",
        ),
        ({"x": X[0]}, r"input 'x': shape \(4,\), expected \(2, 4\)"),
        ({"x": X.astype("i4").tolist()[0]}, r"input 'x': shape \(4,\), expected \(2, 4\)"),
    ],
)
def test_inputs_that_are_refused(model: edgec.Model, feed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(EdgecError, match=message):
        model.run(feed)


def test_outputs_are_the_callers_own(model: edgec.Model) -> None:
    first = model.run({"x": X})["y/out"]
    kept = first.copy()
    model.run({"x": 5 * X})
    np.testing.assert_array_equal(first, kept)


def test_instances_do_not_meet(bundle: Bundle) -> None:
    a, b = edgec.load(bundle.folder, threads=1), edgec.load(bundle.folder)
    results = [m.run({"x": s * X})["y/out"] for s in (1, 2) for m in (a, b)]
    for result, scale in zip(results, (1, 1, 2, 2), strict=True):
        np.testing.assert_allclose(result, expected(scale * X), rtol=1e-6)
    a.close()
    np.testing.assert_allclose(b.run({"x": X})["y/out"], expected(X), rtol=1e-6)


def test_threads(bundle: Bundle) -> None:
    assert [edgec.load(bundle.folder, threads=n).threads for n in (None, 1, 2, 9)] == [2, 1, 2, 2]
    with pytest.raises(EdgecError, match="threads must be 1 or more, got 0"):
        edgec.load(bundle.folder, threads=0)


def test_closed_model(bundle: Bundle) -> None:
    with edgec.load(bundle.folder) as model:
        kept = model.run({"x": X})["y/out"]
    with pytest.raises(EdgecError, match="the model is closed"):
        model.run({"x": X})
    np.testing.assert_allclose(kept, expected(X), rtol=1e-6)
    model.close()


def test_a_recompiled_bundle_is_seen_while_the_old_one_is_open(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = edgec.load(write_bundle(program(tmp_path), target(), out).folder)
    new = edgec.load(write_bundle(program(tmp_path, offset=1.0), target(), out).folder)
    assert not np.allclose(new.run({"x": X})["y/out"], old.run({"x": X})["y/out"])
    np.testing.assert_allclose(old.run({"x": X})["y/out"], expected(X), rtol=1e-6)


def test_benchmark(model: edgec.Model) -> None:
    result = model.benchmark(runs=5, layers=True)
    assert len(result.runs) == 5 and 0 < result.min <= result.median
    assert [name for name, _ in result.layers] == ["mul", "act"]
    with pytest.raises(EdgecError, match="runs must be 1 or more, got 0"):
        model.benchmark(runs=0)


def test_trace_reads_memory_between_steps(model: edgec.Model) -> None:
    outputs, (product,) = model.trace({"x": X}, [(0, 64, 32)])
    np.testing.assert_allclose(np.frombuffer(product, "f4").reshape(2, 4), X * np.arange(8).reshape(2, 4), rtol=1e-6)
    np.testing.assert_allclose(outputs["y/out"], expected(X), rtol=1e-6)
    np.testing.assert_allclose(model.run({"x": X})["y/out"], expected(X), rtol=1e-6)


def test_a_run_costs_microseconds(bundle: Bundle) -> None:
    model, best = edgec.load(bundle.folder, threads=1), 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            model.run({"x": X})
        best = min(best, (time.perf_counter() - start) / 100)
    assert best < 10e-6


def test_random_inputs_fit_their_types() -> None:
    every = [ports.Port(row.numpy.name, row.numpy.name, (3, 50)) for row in DTYPES.values()]
    arrays = ports.random_inputs([*every, ports.Port("s", "float32", ()), ports.Port("i", "int64", ())])
    assert all(arrays[p.name].dtype.name == p.dtype and arrays[p.name].shape == (3, 50) for p in every)
    assert arrays["int8"].min() < -100 and arrays["uint8"].max() > 200 and set(arrays["int64"].flat) == {0, 1}
    assert arrays["int4"].astype(int).min() == -8 and arrays["uint2"].astype(int).max() == 3
    assert not any(np.isnan(array.astype(np.float64)).any() for array in arrays.values())
    assert arrays["s"].shape == () == arrays["i"].shape


def test_arrays_from_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "text.npz").write_text("hello")
    np.testing.assert_array_equal(ports.read_arrays(tmp_path / "x.npz")["x"], X)
    np.testing.assert_array_equal(ports.read_arrays(tmp_path / "one.npy"), X)
    with pytest.raises(EdgecError, match=r"missing\.npz: cannot be read: No such file or directory"):
        ports.read_arrays(tmp_path / "missing.npz")
    with pytest.raises(EdgecError, match=r"text.npz: is no file of arrays; numpy.savez\(file, name=array\) makes one"):
        ports.read_arrays(tmp_path / "text.npz")


def test_broken_files_of_arrays(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=X)
    np.save(tmp_path / "one.npy", X)
    packed, one = (tmp_path / "whole.npz").read_bytes(), (tmp_path / "one.npy").read_bytes()
    (tmp_path / "packed.npz").write_bytes(packed[:80] + bytes(b ^ 0xFF for b in packed[80:110]) + packed[110:])
    (tmp_path / "short.npz").write_bytes(packed[:60])
    (tmp_path / "short.npy").write_bytes(one[:90])
    with zipfile.ZipFile(tmp_path / "bracket.npz", "w") as archive:
        archive.writestr("x.npy", one.replace(b"), }", b"(), ", 1))  # of its header
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    for name in ("packed.npz", "short.npz", "short.npy", "bracket.npz", "text.npz"):
        with pytest.raises(EdgecError, match=rf"{name}: is no file of arrays: \S"):
            ports.read_arrays(tmp_path / name)


# ---- Bundles that cannot run here


def test_arena_too_small(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Model._open
    monkeypatch.setattr(Model, "_open", lambda self, desc, arena_bytes: whole(self, desc, arena_bytes - 1))
    with pytest.raises(EdgecError, match="the arena is smaller than the model needs"):
        edgec.load(bundle.folder)


def test_missing_instruction_set(tmp_path: Path) -> None:
    foreign = "SVE" if target().triple.startswith(platform.machine()) else "AVX2"
    bundle = write_bundle(replace(program(tmp_path), isa=(foreign,)), target(), tmp_path / "out")
    with pytest.raises(EdgecError, match=f"lacks an instruction set that the model uses: {foreign}; .*--target host"):
        edgec.load(bundle.folder)


def test_wrong_abi(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(bundle.folder, folder)
    source = "static const ec_desc d = {.abi = 9};\nconst ec_desc *edgec_model(void) { return &d; }\n"
    (tmp_path / "m.c").write_text(f'#include "edgec/edgec.h"\n{source}')
    command = ["cc", "-shared", "-fPIC", f"-I{folder}", tmp_path / "m.c", "-o", folder / "libtiny.so"]
    subprocess.run(command, check=True)
    with pytest.raises(
        EdgecError, match=f"compiled for version 9 of the C ABI, this runtime has {ABI}: compile the model again"
    ):
        edgec.load(folder)


def test_not_a_bundles_library(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(bundle.folder, folder)
    (folder / "libtiny.so").write_text("not a library")
    with pytest.raises(EdgecError, match=r"libtiny\.so: is damaged or cut short"):
        edgec.load(folder)
    (folder / "libtiny.so").unlink()
    with pytest.raises(EdgecError, match=r"libtiny\.so is missing; compile the model again"):
        edgec.load(folder)


def test_another_architecture(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(bundle.folder, folder)
    table = json.loads((folder / "tiny.json").read_text())
    (folder / "tiny.json").write_text(json.dumps({**table, "triple": "riscv64-unknown-linux-gnu"}))
    with pytest.raises(
        EdgecError, match="compiled for riscv64-unknown-linux-gnu, this machine is .*edgec verify MODEL --bundle"
    ):
        edgec.load(folder)


def test_element_types_are_those_of_the_header() -> None:
    header = re.sub(r"/\*.*?\*/", "", (abi.ROOT / "include" / "edgec" / "edgec.h").read_text(), flags=re.S)
    text = re.search(r"enum \{\s*EC_F32 = 1,(.*?)\};", header, re.S)
    assert text is not None
    assert ["EC_F32", *(w.strip() for w in text[1].split(","))] == [row.c for row in DTYPES.values()]


def test_records_are_those_of_the_header() -> None:
    header = (abi.ROOT / "include" / "edgec" / "edgec.h").read_text()
    assert f"#define EC_ABI {ABI} " in header
    for name, record in (
        ("ref", abi.Ref),
        ("step", abi.Step),
        ("io", abi.Io),
        ("desc", abi.Desc),
    ):
        text = re.search(rf"typedef struct ec_{name} {{(.*?)}} ec_{name};", header, re.S)
        assert text is not None
        body = re.sub(r"/\*.*?\*/", "", text[1], flags=re.S)
        fields = [
            w.strip(" *")
            for line in body.split(";")
            for w in re.sub(r"^.*?(?=[*\w]+(,|$))", "", line.strip()).split(",")
            if w.strip()
        ]
        assert fields == [f[0] for f in record._fields_]
    assert ctypes.sizeof(abi.Ref) == 8
    assert isa_names(0b11) == ["AVX2", "FMA"]
