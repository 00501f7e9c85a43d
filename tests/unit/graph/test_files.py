"""Files at the user's places: whole or not at all, links and devices left as they are, never over what is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.files import check_file, check_other, replaced, whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    old = tmp_path / "f"
    old.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole(old) as new:
        new.write_bytes(b"half of")
        raise KeyboardInterrupt
    assert old.read_bytes() == b"old" and list(tmp_path.iterdir()) == [old]
    replaced(old, b"new")
    assert old.read_bytes() == b"new" and list(tmp_path.iterdir()) == [old]


def test_links_and_devices_stay(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    replaced(link, b"text")
    assert link.is_symlink() and (tmp_path / "file").read_bytes() == b"text"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    replaced(tmp_path / "pipe", b"text")
    assert os.read(reader, 9) == b"text" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    replaced("/dev/null", b"text")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "Is a directory"), ("file/f", "Not a directory"), ("file/no/f", "Not a directory")],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    for write in (check_file, lambda path: replaced(path, b"")):
        with pytest.raises(EdgecError, match=f"{tmp_path / name}: cannot write: {message}"):
            write(tmp_path / name)
    with pytest.raises(EdgecError, match="is not the name of a file"):
        replaced("n\0l", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folders_are_made_when_the_file_is_written(tmp_path: Path) -> None:
    check_file(tmp_path / "a" / "b" / "f")
    assert not (tmp_path / "a").exists()
    replaced(tmp_path / "a" / "b" / "f", b"text")
    assert (tmp_path / "a" / "b" / "f").read_bytes() == b"text"


def test_a_graph_to_a_device_leaves_nothing_beside_it() -> None:
    assert main(["opt", "examples/digits/digits.onnx", "-o", "/dev/null"]) == 0
    assert not Path("/dev/null.npz").exists() and not Path("/dev/null").is_file()


def test_nothing_takes_the_place_of_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(Path("examples/digits/digits.onnx").read_bytes())
    (tmp_path / "again.onnx").symlink_to(model)
    check_other(tmp_path / "other", model)
    for words in (["quantize", "--calib", "none.npz"], ["opt", "--passes", "fold"]):
        assert main([*words, str(model), "-o", str(tmp_path / "again.onnx")]) == 1
        assert "again.onnx: cannot write: the result would take the place of what is read" in capsys.readouterr().err
    assert model.read_bytes() == Path("examples/digits/digits.onnx").read_bytes()
