"""`optimize="size"`: less code, the same answers, on every CPU; targets that have no small kernels say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgec
from edgec.compiler.bundle.elf import stored_bytes
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import FOLDER, find_target
from edgec.compiler.target_flags import with_aim
from edgec.targets.build_jobs import Job, build_job
from edgec.targets.measure import with_layouts
from tests.support.emulated import needs_board
from tests.support.harness import chain, for_size
from tests.unit.kernels.test_bytes import depthwise

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits" / "digits.onnx"


@pytest.mark.firmware
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_small_kernels_take_less_flash_and_answer_alike(target: str, tmp_path: Path) -> None:
    needs_board()
    fast, small = (edgec.compile(str(DIGITS), target, tmp_path / aim, optimize=aim) for aim in ("speed", "size"))
    assert small.flash_bytes < fast.flash_bytes
    assert fast.code_bytes == edgec.compile(str(DIGITS), target, tmp_path / "usual").code_bytes
    assert main(["verify", str(DIGITS), "--bundle", str(tmp_path / "size")]) == 0


def test_code_of_this_machine_is_less_and_answers_alike(tmp_path: Path) -> None:
    fast, small = (edgec.compile(str(DIGITS), "host", tmp_path / aim, optimize=aim) for aim in ("speed", "size"))
    assert small.code_bytes < 0.8 * fast.code_bytes
    assert small.weights_bytes <= fast.weights_bytes
    assert fast.code_bytes == edgec.compile(str(DIGITS), "host", tmp_path / "usual").code_bytes
    assert (fast.manifest["optimize"], small.manifest["optimize"]) == ("speed", "size")
    assert main(["verify", str(DIGITS), "--bundle", str(tmp_path / "size")]) == 0


def _dense(where: str) -> Problem:
    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, pads=(1, 1, 1, 1), zero=7)
        return build("Edgec.Rescale", sums, m, zeros=(0,), to="u8", zero=0, low=0, high=100)

    return chain(["u8[1, 32, 14, 14]", "i8[64, 32, 3, 3]", "i32[64]", "f32[64, 1, 1]"], body, [], where)


def _floats(where: str, channels: int = 48) -> Problem:
    def body(x: Value, w: Value, b: Value) -> Value:
        group = 48 // channels
        return build("Relu", build("Conv", x, w, b, pads=(1, 1, 1, 1), group=group))

    return chain(["f32[1, 48, 14, 14]", f"f32[48, {channels}, 3, 3]", "f32[48]"], body, [], where)


KERNELS = {
    "conv_int8_amx": (_dense("x86-amx"), 0.4),
    "depthwise_int8_quads": (depthwise((1, 112, 9, 9), 3, "x86-avx512", pads=(1, 1, 1, 1), zero=9), 0.2),
    "depthwise_int8_pairs": (depthwise((1, 112, 9, 9), 3, "x86", pads=(1, 1, 1, 1), zero=9), 0.3),
    "depthwise_int8_smlal": (depthwise((1, 112, 9, 9), 3, "arm", kind="i8", pads=(1, 1, 1, 1), zero=9), 0.4),
    "conv_f32_depthwise": (_floats("arm", 1), 0.4),
    "conv_f32_tile": (_floats("x86-avx512"), 0.5),
}


@pytest.mark.parametrize("row", KERNELS)
def test_kernels_have_less_code_at_a_bounded_price(row: str) -> None:
    fast, share = KERNELS[row]
    small = for_size(fast)
    (quick, most), (slow, least) = _first(fast, row), _first(small, row)
    assert least <= share * most
    assert slow.cost_us <= 1.65 * quick.cost_us


def _first(p: Problem, row: str) -> tuple[Choice, int]:
    """The first offer of a row, and the bytes of its code."""
    assert (why := ROWS[row].accepts(p)) is True, why
    choice = ROWS[row].choices(p)[0]
    return choice, stored_bytes(build_job(Job("k", with_layouts(p, choice), choice), p.target).code)


def test_filters_are_not_written_four_times_as_large() -> None:
    p = replace(_floats("x86-avx512"), constants=frozenset({1}))
    assert ROWS["conv_f32_winograd"].accepts(p) is True
    assert "four times their room" in str(ROWS["conv_f32_winograd"].accepts(for_size(p)))


def test_every_level_of_a_target() -> None:
    several = with_aim(find_target("x86-multi"), "size")
    assert several.small and all(level.small for level in several.levels)


def test_a_device_has_none(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="optimize: cuda has no kernels made for size; they are for CPUs"):
        edgec.compile(str(DIGITS), "cuda", tmp_path / "out", optimize="size")


def test_descriptions_of_targets_too(tmp_path: Path) -> None:
    for name, suits in (("cortex-m4", True), ("x86", True), ("cuda", False)):
        path = tmp_path / f"{name}.toml"
        path.write_text("small = true\n" + (FOLDER / path.name).read_text())
        if suits:
            assert find_target(str(path)).small
        else:
            with pytest.raises(EdgecError, match=r"cuda.toml: small: kernels made for size are for CPUs"):
                find_target(str(path))


def test_other_words_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(DIGITS), "--optimize", "sized", "-o", str(tmp_path / "out")]) == 1
    assert "optimize: 'sized' is unknown; did you mean 'size'?" in capsys.readouterr().err
