"""Memory regions of a board: how they are declared, what is put where, and what is said of what does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.memory.arena import Buffer
from edgec.compiler.memory.regions import Region, holding, read_regions
from edgec.compiler.memory.spread import spread
from edgec.compiler.target import FOLDER, find_target, read_target

BOARD = """
[[memory]]
name = "ITCM"
kind = "ram"
size = "4K"
cost = 0
holds = ["code"]

[[memory]]
name = "DTCM"
kind = "ram"
size = 2048
cost = 0.25
address = 0x20000000

[[memory]]
name = "SRAM"
kind = "ram"
size = "64K"

[[memory]]
name = "FLASH"
kind = "flash"
size = "64K"

[[memory]]
name = "QSPI"
kind = "flash"
size = "1M"
cost = 8
holds = ["weights"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


def test_a_board_is_read(tmp_path: Path) -> None:
    regions = read_regions(written(tmp_path, BOARD))
    assert [r.name for r in regions] == ["ITCM", "DTCM", "SRAM", "FLASH", "QSPI"]
    assert [r.size for r in regions] == [4096, 2048, 65536, 65536, 1 << 20]
    assert [r.address for r in regions] == [None, 0x20000000, None, None, None]
    assert [r.name for r in holding(regions, "arena")] == ["DTCM", "SRAM"]
    assert [r.name for r in holding(regions, "weights")] == ["FLASH", "QSPI"]
    assert [r.name for r in holding(regions, "code")] == ["ITCM", "FLASH"]


def test_a_target_declares_its_own() -> None:
    target = read_target((FOLDER / "cortex-m4.toml").read_text() + BOARD, "mine")
    assert target.ram == 2048 + 65536
    assert target.flash == 65536 + (1 << 20)
    assert find_target("cortex-m4").ram is None


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name = "DTCM"', 'nam = "DTCM"', "[[memory]] 2: unknown key 'nam'; did you mean 'name'?"),
        ('kind = "ram"\nsize = 2048\n', 'kind = "ram"\n', "[[memory]] 2: missing size"),
        ('name = "DTCM"', 'name = "D TCM"', "expected a word such as DTCM"),
        ('name = "DTCM"', 'name = "ITCM"', "'ITCM' is there twice"),
        ('kind = "flash"\nsize = "64K"', 'kind = "rom"\nsize = "64K"', "kind: 'rom'; expected ram or flash"),
        ("size = 2048", 'size = "2 pages"', "[[memory]] 2: size: '2 pages'; expected a size such as 128K or 1.5M"),
        ("size = 2048", "size = -1", "expected a size"),
        ("cost = 8", "cost = -8", "cost: -8; expected cycles per byte"),
        ("address = 0x20000000", "address = 0x2000000000", "expected a number such as 0x20000000"),
        ('holds = ["weights"]', 'holds = ["data"]', "expected some of arena, weights, code"),
        ('holds = ["weights"]', 'holds = ["arena"]', "an arena cannot lie in flash"),
        ('holds = ["code"]', 'holds = ["code"]\n[other]', "expected tables [[memory]] and nothing else, not 'other'"),
        ("[[memory]]", "[[memory", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, why: str, tmp_path: Path) -> None:
    text = BOARD.replace(old, new, 1)
    assert text != BOARD
    with pytest.raises(EdgecError) as error:
        read_regions(written(tmp_path, text))
    assert why in str(error.value)


def test_a_board_without_a_place_for_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="no region holds weights; a model needs arena, weights and code"):
        read_regions(written(tmp_path, BOARD.split('[[memory]]\nname = "FLASH"')[0]))
    with pytest.raises(EdgecError, match="cannot read"):
        read_regions(tmp_path / "none.toml")


ROOMS = (Region("fast", "ram", 256, 0.0, None, ("arena",)), Region("slow", "ram", 1024, 1.0, None, ("arena",)))


def test_what_is_read_most_lies_in_the_fast_region() -> None:
    buffers = [Buffer("a", 128, 0, 3), Buffer("b", 512, 0, 3), Buffer("c", 128, 1, 2), Buffer("d", 128, 0, 1)]
    found = spread(buffers, [1e3, 1e6, 1e6, 1e4], ROOMS, align=16)
    where = [next(b.region for b in reversed(found.banks) if b.start <= at) for at in found.offsets]
    assert [b.region for b in found.banks] == ["slow", "fast"]  # the larger first
    assert where == ["slow", "slow", "fast", "fast"]
    assert found.missing == 0
    assert found.bytes == sum(b.bytes for b in found.banks)


def test_buffers_in_one_region_share_it_over_time() -> None:
    buffers = [Buffer(f"b{i}", 256, i, i) for i in range(4)]
    found = spread(buffers, [1.0] * 4, ROOMS, align=16)
    assert [(b.region, b.bytes) for b in found.banks] == [("fast", 256)]


def test_what_is_missing_is_counted() -> None:
    buffers = [Buffer("a", 2048, 0, 1), Buffer("b", 900, 0, 1)]
    found = spread(buffers, [1.0, 1.0], ROOMS, align=16)
    assert found.missing == 2048
    assert found.left == (0,)
    assert spread(buffers, [], ROOMS[1:], align=16).missing == 2048 + 912 - 1024


def model(folder: Path, channels: int = 16) -> Path:
    """Two convolutions on images of 24 x 24."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((channels, 3, 3, 3)).astype(np.float32),
        "v": rng.standard_normal((8, channels, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["z"], pads=[1] * 4, strides=[2, 2]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3, 24, 24])],
        [helper.make_tensor_value_info("z", kind, [1, 8, 12, 12])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path = folder / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def sized(folder: Path, **sizes: str) -> Path:
    """The board with other sizes of regions; those of size "" are not there."""
    kept = [part for part in BOARD.split("[[memory]]")[1:] if sizes.get(part.split('"')[1]) != ""]
    for k, part in enumerate(kept):
        if size := sizes.get(part.split('"')[1]):
            kept[k] = re.sub("size = .*", f'size = "{size}"', part)
    return written(folder, "".join(f"[[memory]]{part}" for part in kept))


def test_a_model_lies_in_several_regions_and_answers_as_in_one(tmp_path: Path) -> None:
    board = sized(tmp_path, ITCM="", DTCM="20K", SRAM="64K", FLASH="512K")
    one = edgec.compile(model(tmp_path), "x86", tmp_path / "one", name="two")
    two = edgec.compile(model(tmp_path), "x86", tmp_path / "two", memory=board)
    x = {"x": np.random.default_rng(1).standard_normal((1, 3, 24, 24)).astype(np.float32)}
    wants, got = (edgec.load(bundle.folder).run(x)["z"] for bundle in (one, two))
    np.testing.assert_array_equal(got, wants)
    rows = {row["region"]: row for row in two.manifest["memory"]}
    assert rows["DTCM"]["arena"] and rows["SRAM"]["arena"]
    assert rows["DTCM"]["arena"] + rows["SRAM"]["arena"] == two.arena_bytes
    assert rows["FLASH"]["weights"] + rows["QSPI"]["weights"] == two.weights_bytes
    assert rows["FLASH"]["code"] == two.code_bytes
    header, script = two.header.read_text(), (two.folder / "two.ld").read_text()
    assert "#define TWO_ARENA_SECTION" in header
    assert "model.banks[0]: " in header
    assert "INSERT BEFORE .text;" in script
    assert "MEMORY" not in script  # some regions have no address: the board's own script declares them
    assert not (one.folder / "two.ld").exists()


def test_hot_weights_and_kernels_come_first(tmp_path: Path) -> None:
    """Where flash is short, what each pixel reads stays in the cheap one."""
    board = sized(tmp_path, SRAM="200K", FLASH="24K")
    bundle = edgec.compile(model(tmp_path, 64), "cortex-m4", tmp_path / "out", memory=board)
    rows = {row["region"]: row for row in bundle.manifest["memory"]}
    assert rows["ITCM"]["kernels"]
    assert rows["QSPI"]["weights"] > rows["FLASH"]["weights"] > 0
    assert " AT> FLASH" in (bundle.folder / "two.ld").read_text()


def test_what_does_not_fit_says_what_is_missing_and_what_would_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = sized(tmp_path, SRAM="4K")
    arguments = ["compile", str(model(tmp_path)), "--target", "cortex-m4", "-o", str(tmp_path / "out")]
    assert main([*arguments, "--memory", str(board)]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert "K more than fits into DTCM 2K, SRAM 4K" in line
    assert "most at step" in line
    assert "what helps: --quantize int8" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        (
            {"FLASH": "12K", "QSPI": "2K"},
            "memory: weights and code of two take .* more than fits into .*QSPI 2K; largest",
        ),
        ({"FLASH": "2K"}, "more than fits into ITCM 4K, FLASH 2K, QSPI 1M"),
    ],
)
def test_flash_that_is_too_small_is_refused(sizes: dict[str, str], why: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match=why) as error:
        edgec.compile(model(tmp_path, 64), "cortex-m4", tmp_path / "out", memory=sized(tmp_path, SRAM="200K", **sizes))
    assert "what helps: --quantize int8" in str(error.value)


def test_limits_name_what_is_large(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match=r"ram .* is .* above max_ram 1K; most at step \d: .*; what helps"):
        edgec.compile(model(tmp_path), "cortex-m4", tmp_path / "out", max_ram="1K")
    with pytest.raises(EdgecError, match=r"flash .* above max_flash 1K; weights .*, code .*; what helps"):
        edgec.compile(model(tmp_path), "cortex-m4", tmp_path / "out", max_flash="1K")


def test_regions_are_for_one_worker_of_one_cpu(tmp_path: Path) -> None:
    board = sized(tmp_path, ITCM="", DTCM="20K", SRAM="64K", FLASH="512K")
    with pytest.raises(EdgecError, match="2 workers; an arena in several regions is for one"):
        edgec.compile(model(tmp_path), "x86", tmp_path / "out", threads=2, memory=board)
    with pytest.raises(EdgecError, match="memory: x86-multi has no regions to choose from"):
        edgec.compile(model(tmp_path), "x86-multi", tmp_path / "out", memory=board)
