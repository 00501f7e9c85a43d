"""Whatever is wrong with a bundle or its folder: one line on stderr, exit code 1, and the old one stays whole."""

from __future__ import annotations

import _ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

import edgec
from tests.support.bad_input import Capture, refused, save, tensor


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "'': is not the name of a folder"),
        ("n\0l", "'n\\x00l': is not the name of a folder"),
        ("n" * 201, "the name is longer than 200 bytes"),
        ("tiny.onnx", "tiny.onnx is not a folder"),
        ("tiny.onnx/below", "tiny.onnx is not a folder"),
        ("/dev/full", "/dev/full is not a folder"),
    ],
)
def test_folders_that_cannot_be_written(here: Path, capsys: Capture, out: str, message: str) -> None:
    before = sorted(here.rglob("*"))
    assert message in refused(capsys, "compile", "tiny.onnx", "-o", out)
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(here: Path, capsys: Capture) -> None:
    Path("locked").mkdir(mode=0o555)
    assert "no permission to write in" in refused(capsys, "compile", "tiny.onnx", "-o", "locked/out")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_interrupted_compile_leaves_the_old_bundle(here: Path, stop: type[BaseException]) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "link":
            raise stop

    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(stop):
        edgec.compile("tiny.onnx", out="good", dims={"n": 2}, progress=progress)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


Change = Callable[[dict[str, Any]], object]
DAMAGE: list[tuple[Change, str]] = [
    (lambda t: t.update(schema=99, edgec="9.9"), "written by edgec 9.9 (manifest schema 99); this edgec reads up to"),
    (lambda t: t.pop("outputs"), "damaged manifest: no outputs"),
    (lambda t: t.update(inputs=3), "damaged manifest: inputs is not a list"),
    (lambda t: t["inputs"][0].pop("dtype"), "damaged manifest: no inputs[0].dtype"),
    (lambda t: t["steps"][1].update(macs="many"), "damaged manifest: steps[1].macs is not a whole number"),
    (lambda t: t.update(arena={}), "damaged manifest: no arena.bytes"),
    (lambda t: t["arena"]["map"].append(1), "damaged manifest: arena.map[3] is not a table"),
    (lambda t: t.update(name="../tiny"), "damaged manifest: name is '../tiny'"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGE)
def test_damaged_manifest(here: Path, capsys: Capture, change: Change, message: str) -> None:
    table = json.loads(Path("good/tiny.json").read_text())
    change(table)
    Path("good/tiny.json").write_text(json.dumps(table))
    for words in (["run", "good"], ["inspect", "good"], ["verify", "tiny.onnx", "--bundle", "good"]):
        assert f"good/tiny.json: {message}" in refused(capsys, *words)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\0", b"[" * 100_000])
def test_manifest_that_is_none(here: Path, capsys: Capture, content: bytes) -> None:
    Path("good/tiny.json").write_bytes(content)
    assert "good/tiny.json: not a bundle's manifest" in refused(capsys, "run", "good")


def test_a_model_is_no_bundle(here: Path, capsys: Capture) -> None:
    hint = "not a bundle's manifest; expected the folder that `edgec compile` wrote"
    assert hint in refused(capsys, "run", "tiny.onnx")
    assert "good: is not a file; expected an ONNX model" in refused(capsys, "compile", "good")


def test_verify_with_another_model(here: Path, capsys: Capture) -> None:
    save("other.onnx", [helper.make_node("Relu", ["z"], ["y"])], [tensor("z")])
    said = refused(capsys, "verify", "other.onnx", "--bundle", "good")
    assert said == "the bundle's input 'x' is none of the ONNX model's: is it the model of this bundle?"


@pytest.mark.parametrize("size", [0, 30, 600, 5000])
def test_library_cut_short_is_not_opened(here: Path, capsys: Capture, size: int) -> None:
    """The loader of the system would die of it."""
    os.truncate("good/libtiny.so", size)
    assert "libtiny.so: is damaged or cut short; compile the model again" in refused(capsys, "run", "good")


def test_library_of_something_else(here: Path, capsys: Capture) -> None:
    Path("good/libtiny.so").write_bytes(Path(_ctypes.__file__).read_bytes())
    said = refused(capsys, "run", "good")
    assert said.startswith("good/libtiny.so: is no bundle's library for this machine: ") and "/bundle.so" not in said


def test_a_bundle_without_its_library_is_no_firmware(here: Path, capsys: Capture) -> None:
    Path("good/libtiny.so").unlink()
    said = refused(capsys, "package", "good", "--as", "zephyr", "-o", "out")
    assert "good: is for x86, which has an operating system" in said
