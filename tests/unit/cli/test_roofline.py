"""`edgec bench --layers` and its picture: shares of the measured peak, and a dot per step below the roofs."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgec.compiler.bundle import Bundle, write_bundle
from edgec.compiler.cli import main
from edgec.compiler.cli.bench import efficiency
from edgec.compiler.roofline import Dot, roofline
from tests.support.handmade import program, target

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(program(folder), target(), folder / "out")


def picture(*steps: Dot, peak: float = 100.0, read: float = 10.0) -> ElementTree.Element:
    return ElementTree.fromstring(roofline("a & b", steps, peak, read))


def test_a_dot_lies_at_its_intensity_and_rate() -> None:
    half = Dot("half <the> peak", 25_000_000, 1_000_000, 1.0)  # 50 operations per byte, 50 GFLOP/s
    assert (half.intensity, half.gflops) == (50.0, 50.0)
    svg = picture(half, Dot("slow", 1_000_000, 2_000_000, 1.0), Dot("copy", 0, 100, 2.0))
    dots = svg.findall(f"{SVG}circle")
    assert len(dots) == 2
    (x, y), (x2, y2) = ((float(d.attrib["cx"]), float(d.attrib["cy"])) for d in dots)
    assert x > x2 and y < y2
    roof = [tuple(map(float, p.split(","))) for p in svg.findall(f"{SVG}polyline")[0].attrib["points"].split()]
    assert len(roof) == 3 and roof[1][0] < x and roof[1][1] < y  # right of the ridge, below the peak
    title = dots[0].find(f"{SVG}title")
    assert title is not None and title.text is not None
    assert title.text.startswith("half <the> peak: 1.0000 ms, 25.0 % of the time, 50.0 GFLOP/s (50 % of the peak)")
    texts = [t.text or "" for t in svg.findall(f"{SVG}text")]
    assert "a & b" in texts and "peak 100 GFLOP/s" in texts and "memory 10.0 GB/s" in texts
    assert any("1 steps without multiply-adds are not shown (50 % of the time)" in t for t in texts)


@pytest.mark.parametrize("steps", [[], [Dot("copy", 0, 8, 1.0)], [Dot("never", 8, 8, 0.0)], [Dot("free", 8, 0, 1.0)]])
def test_odd_models_have_a_picture_too(steps: list[Dot]) -> None:
    assert picture(*steps).tag == f"{SVG}svg"
    assert picture(*steps, peak=0.0, read=0.0).tag == f"{SVG}svg"


def test_efficiency_is_weighted_by_time() -> None:
    rows = [
        {"ms": 3.0, "peak_share": 0.5, "macs": 1},
        {"ms": 1.0, "peak_share": 0.9, "macs": 1},
        {"ms": 4.0, "peak_share": 0.0, "macs": 0},
    ]
    assert efficiency(rows) == pytest.approx({"arithmetic_steps": 0.6, "all_steps": 0.3})
    assert efficiency([]) == {"arithmetic_steps": 0.0, "all_steps": 0.0}


def test_layers_are_shown_with_rates(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle.folder), "--runs", "3", "--layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "step kernel us % of time GFLOP/s % of peak GB/s".split()
    assert [line.split()[0] for line in lines[1:3]] == ["mul", "act"]
    assert "efficiency" in lines[-2] and lines[-1].startswith("median ")


def test_json_holds_what_the_table_shows(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    svg = tmp_path / "roof.svg"
    assert main(["bench", str(bundle.folder), "--runs", "3", "--json", "--roofline", str(svg)]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["peak_gflops"] > 0.1 and table["read_gbytes_per_s"] > 0.01 and table["level"] == "x86"
    mul, act = table["layers"]
    assert 0 < mul["peak_share"] < 1.2 and mul["gflops"] > 0 and mul["macs"] == 8
    assert act["peak_share"] == 0 and act["gbytes_per_s"] > 0
    assert set(table["efficiency"]) == {"arithmetic_steps", "all_steps"}
    assert ElementTree.parse(svg).getroot().tag == f"{SVG}svg"
    assert main(["bench", str(bundle.folder), "--runs", "1", "--roofline", str(svg / "x.svg")]) == 1
    assert "x.svg: cannot write: Not a directory" in capsys.readouterr().err
