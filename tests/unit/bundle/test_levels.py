"""Targets of several levels: one bundle, a program for each level, and the best that the CPU can run is opened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.bundle import Bundle, elf, read_bundle, write_bundle
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.program import Program, chained
from edgec.compiler.target import Target, find_target, read_target
from tests.support.handmade import expected, program, target

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
ABSENT = ("SVE",) if target().triple.startswith("x86") else ("AVX2",)  # no CPU of this kind has it


def two_levels(folder: Path) -> Program:
    """What no CPU runs first; its fallback adds 1 to the product, and needs a larger arena."""
    first = replace(program(folder), target="high", isa=ABSENT)
    second = program(folder, offset=1.0)
    return chained([first, replace(second, target="low", arena_bytes=512)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("levels")
    return write_bundle(two_levels(folder), target(), folder / "out")


def test_the_level_that_fits_is_opened_and_shown(bundle: Bundle) -> None:
    with edgec.load(bundle.folder) as model:
        assert model.level == "low"
        assert model.bundle.manifest["level"] == "low" and model.bundle.manifest["isa"] == []
        spoilt = X * np.arange(8, dtype=np.float32).reshape(2, 4) + 1
        np.testing.assert_allclose(model.run({"x": X})["y/out"], np.tanh(spoilt) + spoilt, rtol=1e-6)


def test_the_better_level_comes_first(tmp_path: Path) -> None:
    first, second = two_levels(tmp_path).levels
    both = write_bundle(chained([replace(first, isa=()), second]), target(), tmp_path / "out")
    with edgec.load(both.folder) as model:
        assert model.level == "high"
        np.testing.assert_allclose(model.run({"x": X})["y/out"], expected(X), rtol=1e-6)
    with edgec.load(both.folder, level="low") as model:
        assert model.level == "low"
        assert not np.allclose(model.run({"x": X})["y/out"], expected(X))


def test_a_level_can_be_asked_for(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec.load(bundle.folder, level="low").level == "low"
    with pytest.raises(EdgecError, match=f"level 'high': this CPU lacks {ABSENT[0]}"):
        edgec.load(bundle.folder, level="high")
    with pytest.raises(EdgecError, match="has no level 'hihg'; did you mean 'high'?"):
        edgec.load(bundle.folder, level="hihg")
    for command in ("run", "bench", "inspect"):
        assert main([command, str(bundle.folder), "--level", "low"]) == 0
    assert main(["inspect", str(bundle.folder), "--level", "lo"]) == 1
    assert "has no level 'lo'; did you mean 'low'?" in capsys.readouterr().err


def test_no_level_fits(tmp_path: Path) -> None:
    levels = [replace(level, isa=ABSENT) for level in two_levels(tmp_path).levels]
    bundle = write_bundle(chained(levels), target(), tmp_path / "out")
    with pytest.raises(EdgecError, match=f"lacks an instruction set that the model uses: {ABSENT[0]}"):
        edgec.load(bundle.folder)


def test_one_arena_one_header_one_copy_of_equal_weights(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.arena_bytes == bundle.at("low").arena_bytes == 512
    header = bundle.header.read_text()
    assert "for high, else low." in header and "#define TINY_ARENA_BYTES 512u" in header
    assert "#define TINY_STEPS 2 /* most of its levels" in header
    alone = write_bundle(program(tmp_path), target(), tmp_path / "out")
    assert bundle.weights_bytes == alone.weights_bytes


def test_manifest_and_report_hold_every_level(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_bundle(bundle.folder).levels == ["high", "low"]
    (row,) = bundle.manifest["fallbacks"]
    assert row["level"] == "low" and len(row["steps"]) == 2 and row["arena"]["map"] and row["inputs"]
    assert "<h2>Steps on low</h2>" in (bundle.folder / "report.html").read_text()
    capsys.readouterr()
    assert main(["inspect", str(bundle.folder)]) == 0
    said = capsys.readouterr().out
    assert f"level       high: 2 steps, 0 us modelled, needs {ABSENT[0]}" in said and "level       low: " in said


def test_symbols_of_the_levels_differ(bundle: Bundle) -> None:
    names = {s.name for s in elf.symbols(_member(bundle, 0)) if s.defined and s.is_global}
    others = {s.name for s in elf.symbols(_member(bundle, 1)) if s.defined and s.is_global}
    assert names == {"tiny_scale", "tiny_squash"} and others == {"tiny_scale_low", "tiny_squash_low"}


def _member(bundle: Bundle, index: int) -> bytes:
    """A kernel object of the static library."""
    data = bundle.static_library.read_bytes()
    at = data.index(f"tiny_kernel{index}.o/".encode())
    start = data.index(b"\x7fELF", at)
    return data[start:]


def test_a_damaged_fallback_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    for damage, message in (({"steps": 1}, r"fallbacks\[0\].steps is not a list"), ({"level": 2}, "level is not text")):
        table = json.loads(json.dumps(bundle.manifest))
        table["fallbacks"][0] |= damage
        (tmp_path / "tiny.json").write_text(json.dumps(table))
        with pytest.raises(EdgecError, match=f"damaged manifest: .*{message}"):
            read_bundle(tmp_path / "tiny.json")


# ---- Descriptions

MULTI = 'name = "both"\nsummary = "two"\nlevels = ["x86", "x86-avx512"]\n'


def test_a_target_names_its_levels() -> None:
    multi = find_target("x86-multi")
    assert [t.name for t in multi.levels] == ["x86", "x86-avx512"]
    assert [t.name for t in multi.programs] == ["x86-avx512", "x86"]
    assert multi.cpu == find_target("x86").cpu and multi.triple == find_target("x86").triple
    alone: Target = find_target("arm")
    assert alone.programs == (alone,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["x86", "x86-avx512"]', '"x86"', "expected the names of two or more targets, the least demanding first"),
        ('["x86", "x86-avx512"]', '["x86"]', "expected the names of two or more targets"),
        ('"x86",', '"x68",', "unknown target 'x68'; did you mean 'x86'?"),
        ('["x86", "x86-avx512"]', '["x86-avx512", "x86"]', "x86 does not need more than x86-avx512 before it"),
        ('"x86-avx512"]', '"arm"]', "arm and x86 do not fit into one library"),
        ('"x86-avx512"]', '"x86-multi"]', "x86-multi and x86 do not fit into one library"),
        ('summary = "two"\n', "", "has a name, a summary and levels, no more and no less"),
        ('summary = "two"\n', 'summary = "two"\nalign = 32\n', "has a name, a summary and levels, no more and no less"),
    ],
)
def test_levels_that_do_not_fit(old: str, new: str, message: str) -> None:
    with pytest.raises(EdgecError, match=message):
        read_target(MULTI.replace(old, new), "both.toml")


def test_kernels_are_explained_for_each_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--op", "Relu", "--target", "x86-multi", "--shape", "1x64", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["target"] for row in rows if row["note"] == "picked"} == {"x86", "x86-avx512"}
