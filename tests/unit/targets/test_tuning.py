"""Measured kernels: what a database says, which figures count, what the tuner chooses to measure, and bad files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgec
import edgec.compiler.ops
from edgec.compiler import op as ops
from edgec.compiler import tunings
from edgec.compiler.cli import main
from edgec.compiler.driver import load_kernels
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.problems import signature
from edgec.compiler.registry import Choice, Problem, choices
from edgec.compiler.target import find_target
from edgec.compiler.tunings import Tunings, candidate, compiler, machine
from edgec.targets.tuner import Tuner, promising, tuner

DIGITS = str(Path(__file__).resolve().parents[3] / "examples" / "digits" / "digits.onnx")
Offers = list[Choice]


def problem(on: str = "host", outputs: int = 32) -> Problem:
    shapes = ((1, 16, 14, 14), (outputs, 16, 3, 3), (outputs,))
    x, w, b = (Value(Node("Input", (), (Type("f32", s),), {}, n)) for s, n in zip(shapes, "xwb", strict=True))
    y = ops.build("Relu", ops.build("Conv", x, w, b, pads=(1, 1, 1, 1)))
    return Problem(Graph("body", (x, w, b), (y,)), find_target(on), 1, frozenset({1, 2}))


def offers(*costs: float, layouts: str = "abcdefgh") -> Offers:
    return [
        Choice("row", (x,), (x,), (("tile", i),), us) for i, (us, x) in enumerate(zip(costs, layouts, strict=False))
    ]


def test_a_kernel_is_known_by_what_makes_its_time() -> None:
    text = signature(problem())
    assert text.startswith("Conv f32[1, 16, 14, 14] *f32[32, 16, 3, 3] *f32[32] -> f32[1, 32, 14, 14] {")
    assert text.endswith("with Relu") and "pads=(1, 1, 1, 1)" in text
    same, other = problem(), problem(outputs=40)
    assert signature(same) == text != signature(other)
    assert signature(replace(same, threads=2)) == f"{text} on 2 threads"
    assert signature(replace(same, cold=True)) == f"{text} cold"


def test_measured_times_take_the_place_of_modelled_ones() -> None:
    found, known = offers(10.0, 11.0, 12.0, 40.0, layouts="aabc"), Tunings()
    assert known.applied(problem(), found) == found
    known.record(problem(), {found[0]: 30.0, found[1]: 22.0})
    best, *others = known.applied(problem(), found)
    assert (best.config, best.cost_us, best.measured) == ((("tile", 1),), 22.0, True)
    by_tile = {c.config[0][1]: c for c in others}
    off = ((30 / 10) * (22 / 11)) ** 0.5
    assert by_tile[2].cost_us == pytest.approx(12 * off) and not by_tile[2].measured
    assert by_tile[3].cost_us == pytest.approx(40 * off)


def test_what_was_not_measured_does_not_pass_what_was() -> None:
    found, known = offers(10.0, 10.1, layouts="aa"), Tunings()
    known.record(problem(), {found[1]: 8.0})
    first, second = known.applied(problem(), found)
    assert first.measured and second.cost_us == first.cost_us == 8.0


def test_figures_count_for_this_cpu_or_for_a_named_target(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = offers(1.0)
    known, x86, host = Tunings(), problem("x86"), problem("host")
    for cpu, us in (("Zebra", 3.0), ("Aardvark", 2.0)):
        monkeypatch.setattr(tunings, "_cpu", lambda cpu=cpu: cpu)
        known.record(x86, {one: us})
    monkeypatch.setattr(tunings, "_cpu", lambda: "Mole")
    assert known.known(x86) == {candidate(one): 2.0}
    assert known.known(host) == {} == known.known(problem("x86-avx512")) == known.known(problem("x86", 40))
    known.record(host, {one: 5.0})
    assert known.known(host) == {candidate(one): 5.0}
    monkeypatch.setattr(tunings, "compiler", lambda: "another edgec")
    assert known.known(host) == {} == known.known(x86)


def test_databases_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name, outputs, us in (("a", 32, 1.0), ("b", 32, 2.0), ("c", 40, 3.0)):
        known = Tunings()
        known.record(problem(outputs=outputs), dict.fromkeys(offers(1.0), us))
        files.append(str(tmp_path / f"{name}.json"))
        known.write(files[-1])
    whole = str(tmp_path / "deep" / "whole.json")
    assert main(["tune", "--merge", *files, "-o", whole]) == 0
    rows = Tunings.read(whole).rows
    assert sorted(us for row in rows.values() for us in row.values()) == [2.0, 3.0]
    again = str(tmp_path / "again.json")
    assert main(["tune", "--merge", whole, "-o", again]) == 0
    assert Path(again).read_bytes() == Path(whole).read_bytes()
    capsys.readouterr()
    assert main(["tune", "--list", whole]) == 0
    said = capsys.readouterr().out
    assert f"2 kernels in {whole}" in said and f"measured on {machine(find_target('host'))} by {compiler()}" in said
    assert main(["tune", "--list", whole, "--json"]) == 0
    assert {row["us"] for row in json.loads(capsys.readouterr().out)} == {2.0, 3.0}


GOOD = {"format": tunings.FORMAT, "version": 1, "rows": [{"compiler": "c", "machine": "m", "kernel": "k", "us": {}}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "{", "not a database of measured kernels: "),
        (lambda t: [], "not a database of measured kernels; `edgec compile --tune` writes one"),
        (lambda t: {**t, "format": "other"}, "not a database of measured kernels; `edgec compile --tune` writes one"),
        (lambda t: {**t, "version": 2}, "is of version 2; this edgec reads version 1"),
        (lambda t: {**t, "rows": 1}, "damaged: no list of rows"),
        (lambda t: {**t, "rows": [1]}, "damaged: row 0 lacks compiler, machine, kernel or us"),
        (lambda t: {**t, "rows": [{"us": {}}]}, "damaged: row 0 lacks"),
        (lambda t: {**t, "rows": [{**t["rows"][0], "us": {"a": "x"}}]}, "damaged: row 0: 'a' takes 'x' us"),
        (lambda t: {**t, "rows": [{**t["rows"][0], "us": {"a": -1}}]}, "damaged: row 0: 'a' takes -1 us"),
    ],
)
def test_bad_databases(
    change: Callable[[Any], Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, path = change(json.loads(json.dumps(GOOD))), tmp_path / "db.json"
    path.write_text(made if isinstance(made, str) else json.dumps(made))
    for command in (
        ["tune", "--list", str(path)],
        ["compile", DIGITS, "--tune-db", str(path), "-o", str(tmp_path / "out")],
        ["kernels", "--op", "Relu", "--shape", "4", "--tune-db", str(path)],
    ):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert f"edgec: error: {path}: {message}" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune"], "one of the arguments --list --merge is required"),
        (["tune", "--merge", "a"], "--merge: give the file to write with -o"),
        (["tune", "--list", "no.json"], "no.json: cannot be read: No such file or directory"),
        (["tune", "--list", "no.json", "-o", "x"], "-o: only --merge writes a file"),
        (["compile", DIGITS, "--tune", "0"], "tune: 0.0 is not a number of seconds"),
        (["compile", DIGITS, "--tune", "nan"], "tune: nan is not a number of seconds"),
        (["compile", DIGITS, "--tune", "1", "--target", "no"], "unknown target 'no'"),
        (["compile", DIGITS, "--tune", "1", "--tune-db", "/dev/null/x"], "/dev/null/x: cannot write: "),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, *(["-o", str(tmp_path / "out")] if words[0] == "compile" else [])]) == 1
    assert message in capsys.readouterr().err


def test_a_database_that_is_still_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    assert main(["tune", "--list"]) == 1
    assert "tune.json: is not there yet: `edgec compile MODEL --tune SECONDS` measures" in capsys.readouterr().err


def test_kernels_of_another_machine_are_not_tuned(tmp_path: Path) -> None:
    foreign = "arm" if find_target("host").triple.startswith("x86") else "x86"
    with pytest.raises(EdgecError, match=f"--tune: kernels for {foreign} do not run here: .*bring its database"):
        edgec.compile(DIGITS, foreign, tmp_path / "out", tune=1.0, tune_db=tmp_path / "t.json")
    notes: list[str] = []
    several = replace(find_target("host"), name="both", levels=(find_target("host"), find_target(foreign)))
    tune = tuner(several, 1.0, Tunings(), lambda *_: None, notes.append)
    tune([(problem(foreign), offers(1.0), 1)])
    assert notes and notes[0].startswith(f"not tuned for {foreign}: they are for ")


def test_the_best_of_each_layout_comes_first() -> None:
    found = offers(1.0, 1.1, 1.2, 1.3, 3.5, layouts="aabac")
    assert [c.config[0][1] for c in promising(found)] == [0, 2, 1, 3]
    assert list(promising([])) == []


def test_the_tuner_measures_the_most_expensive_kernels_within_its_time() -> None:
    load_kernels()
    known = Tunings()
    small, large = problem(), problem(outputs=96)
    entries = [(p, choices(p), 1) for p in (small, large)]
    worker = Tuner(3.0, known, seconds_each=1.0)  # so slow that the second gets what is left
    worker(entries)
    assert known.known(large) and worker.measured >= 2 and all(us > 0.1 for us in known.known(large).values())
    before = dict(known.rows)
    Tuner(0.1, known)(entries)
    assert known.rows == before


def test_a_model_is_tuned_once_and_compiled_alike_ever_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = str(tmp_path / "db.json")
    assert main(["compile", DIGITS, "--tune", "3", "--tune-db", db, "-o", str(tmp_path / "first")]) == 0
    assert "tuned host: " in capsys.readouterr().err
    assert Tunings.read(db).rows
    content = Path(db).read_bytes()
    for out in ("second", "third"):
        assert main(["compile", DIGITS, "--tune-db", db, "-o", str(tmp_path / out)]) == 0
    assert Path(db).read_bytes() == content
    second, third = ({p.name: p.read_bytes() for p in (tmp_path / out).glob("*.*")} for out in ("second", "third"))
    assert second == third
    with edgec.load(tmp_path / "second") as model:
        assert any("us measured" in step["why"] for step in model.bundle.steps)


def test_kernels_shows_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--op", "Conv", "--target", "x86", "--shape", "1x16x14x14", "--shape", "32x16x3x3", "--shape", "32"]
    assert main(["kernels", *words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    known = Tunings()
    x, w, b = (Value(Node("Input", (), (Type("f32", s),))) for s in ((1, 16, 14, 14), (32, 16, 3, 3), (32,)))
    body = Graph("body", (x, w, b), (ops.build("Conv", x, w, b),))
    plain = Problem(body, find_target("x86"), 1, frozenset({1, 2}))
    slow = max(choices(plain), key=lambda c: c.cost_us)
    known.record(plain, {slow: 0.01, choices(plain)[0]: 5.0})
    known.write(tmp_path / "db.json")
    assert main(["kernels", *words, "--tune-db", str(tmp_path / "db.json"), "--json"]) == 0
    (picked,) = [row for row in json.loads(capsys.readouterr().out) if row["note"] == "picked"]
    assert picked["measured us"] == "0.01" and picked["kernel"] == slow.row
    assert "measured us" not in rows[0] and picked["tiles"] != next(r for r in rows if r["note"] == "picked")["tiles"]
