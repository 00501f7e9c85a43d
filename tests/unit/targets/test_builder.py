"""Kernels are built in a process of their own for the first model, and in this one's children for the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgec.compiler.driver import load_kernels
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Data, Graph, Node, Type, Value
from edgec.compiler.kernel_content import content
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.compiler.target import Target, find_target
from edgec.targets.build_jobs import Built, Job
from edgec.targets.builder import Builder, _kept, built
from edgec.targets.kernel_store import trim

ROOT = Path(__file__).resolve().parents[3]
TARGET = find_target("x86")
TWICE = """
import sys
import edgec
import edgec.targets.builder
edgec.compile({model!r}, out="first", name="digits")
assert "tvm" not in sys.modules, "the first model has brought TVM"
edgec.targets.builder._kept.clear()
edgec.compile({model!r}, out="second", name="digits")
assert "tvm" in sys.modules, "the second model has waited for another process"
"""


@pytest.fixture(autouse=True)
def nothing_is_built() -> None:
    _kept.clear()


def jobs(count: int = 3) -> list[Job]:
    load_kernels()
    made = []
    for i in range(count):
        x = Value(Node("Input", (), (Type("f32", (4, 10 + i)),), {}, "x"))
        problem = Problem(Graph("body", (x,), (Value(Node("Relu", (x,), (x.type,), {}, "y")),)), TARGET)
        made.append(Job(f"k{i}", problem, choices(problem)[0]))
    return made


def with_helper() -> Builder:
    """One that forks a helper, though TVM is here."""
    builder = Builder()
    builder._fork()
    return builder


def test_a_helper_builds_what_children_build(tmp_path: Path) -> None:
    """Byte for byte. PyTorch, which TVM imports where it is, is not touched by a helper."""
    (tmp_path / "torch.py").write_text("import os; open(f'imported{os.getpid()}', 'w').close(); raise ImportError")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    run = TWICE.format(model=str(ROOT / "examples/digits/digits.onnx"))
    process = subprocess.Popen([sys.executable, "-c", run], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    assert (process.communicate()[1], process.returncode) == ("", 0)
    first, second = ((tmp_path / folder / "libdigits.so").read_bytes() for folder in ("first", "second"))
    assert first == second
    assert {p.name for p in tmp_path.glob("imported*")} == {f"imported{process.pid}"}


def test_objects_come_with_their_numbers() -> None:
    given = jobs()
    with with_helper() as builder:
        for _ in range(2):  # one helper builds the levels of a target one after the other
            builder.start(given, TARGET)
            built = dict(builder.results())
            assert sorted(built) == [0, 1, 2]
            assert all(given[i].symbol.encode() in made.code and made.tasks >= 1 for i, made in built.items())


def test_what_a_process_has_built_it_does_not_build_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under other symbols and names of values; other targets and other code are built."""
    first, second = jobs(2), [replace(job, symbol=f"other{i}") for i, job in enumerate(jobs(3))]
    counts = []
    monkeypatch.setattr(
        "edgec.targets.builder.built", lambda wanted, *rest: counts.append(len(wanted)) or built(wanted, *rest)
    )
    with Builder(ahead=False) as builder:
        for given, target in ((first, TARGET), (second, TARGET), (second, TARGET), (first, find_target("x86-avx512"))):
            builder.start(given, target)
            results = dict(builder.results())
            assert all(given[i].symbol.encode() in made.code for i, made in results.items())
    assert counts == [2, 1, 2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store that is on, and empty."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGEC_KERNELS", raising=False)
    return tmp_path / "kernels"


def made(given: list[Job], target: Target = TARGET) -> tuple[dict[int, Built], int]:
    """What a process that has built nothing yet gets, and how many kernels it has built."""
    _kept.clear()
    with Builder(ahead=False, workers=1) as builder:
        builder.start(given, target)
        return dict(builder.results()), len(builder._missing)


def test_what_earlier_runs_have_built_is_not_built_again(store: Path) -> None:
    """The same bytes, under symbols of their own; a target counts by what kernels follow from."""
    first, count = made(jobs())
    assert (count, len(list(store.iterdir()))) == (3, 3)
    again, count = made([replace(job, symbol=f"k{i}") for i, job in enumerate(jobs())])
    assert (again, count) == (first, 0)
    assert made(jobs(), replace(TARGET, name="mine", pipeline="fuse, layout, plan"))[1] == 0
    assert made(jobs(), find_target("x86-avx512"))[1] == 3
    assert made(jobs(), replace(TARGET, cpu=replace(TARGET.cpu, vector_registers=8)))[1] == 3


@pytest.mark.parametrize("damage", [b"", b"edgec kernel 1\n", b"something else that is longer than a digest" * 9])
def test_damaged_kernels_are_built_again(store: Path, damage: bytes) -> None:
    first, _ = made(jobs())
    for path in store.iterdir():
        path.write_bytes(damage)
    assert made(jobs()) == (first, 3)
    assert made(jobs()) == (first, 0)


def test_one_changed_byte_is_damage(store: Path) -> None:
    first, _ = made(jobs(1))
    (path,) = store.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert made(jobs(1)) == (first, 1)


def test_a_store_can_be_switched_off(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_KERNELS", "off")
    assert [made(jobs())[1] for _ in range(2)] == [3, 3]
    assert not store.exists()


def test_a_folder_that_cannot_be_written_keeps_nothing(store: Path) -> None:
    store.write_text("a file")
    assert [made(jobs())[1] for _ in range(2)] == [3, 3]


def test_kernels_of_plugins_are_not_stored(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs(1)
    row = ROWS[job.choice.row]
    monkeypatch.setitem(ROWS, row.name, replace(row, emit=lambda *args: row.emit(*args)))
    assert [made([job])[1] for _ in range(2)] == [1, 1]


def test_kernels_that_nobody_uses_go_first(tmp_path: Path) -> None:
    for age in range(8):
        (tmp_path / f"{age}").write_bytes(bytes(10))
        os.utime(tmp_path / f"{age}", (1000 - age, 1000 - age))
    trim(tmp_path, 80)
    assert len(list(tmp_path.iterdir())) == 8
    trim(tmp_path, 79)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "3", "4"}


def test_arrays_within_attributes_count() -> None:
    x = Value(Node("Input", (), (Type("f32", (4,)),), {}, "x"))
    bodies = [
        Graph("body", (x,), (Value(Node("Relu", (x,), (x.type,), {"data": (Data([i]),)}, "y")),)) for i in range(2)
    ]
    assert content(bodies[0]) != content(bodies[1])


def test_a_kernel_that_cannot_be_built_is_named() -> None:
    broken = [replace(job, choice=Choice("no_such_row", ("",), ("",))) for job in jobs()]
    with with_helper() as builder:
        builder.start(broken, TARGET)
        with pytest.raises(RuntimeError, match="kernel no_such_row for Relu 'y': KeyError"):
            list(builder.results())


def test_a_long_body_reaches_the_helper() -> None:
    """Its nodes hang from each other, deeper than Python recurses."""
    load_kernels()
    x = Value(Node("Input", (), (Type("f32", (8,)),), {}, "x"))
    y = x
    for i in range(1500):
        y = Value(Node("Neg", (y,), (x.type,), {}, f"n{i}"))
    problem = Problem(Graph("body", (x,), (y,)), TARGET)
    with with_helper() as builder:
        builder.start([Job("k", problem, Choice("no_such_row", ("",), ("",)))], TARGET)
        with pytest.raises(RuntimeError, match="KeyError: 'no_such_row'"):
            list(builder.results())


def test_a_dead_helper_is_an_error() -> None:
    with with_helper() as builder:
        os.kill(builder._helper, signal.SIGKILL)
        builder.start(jobs(), TARGET)
        with pytest.raises(RuntimeError, match="the process that builds kernels died"):
            list(builder.results())


def test_the_helper_ends_with_the_context() -> None:
    with with_helper() as builder:
        process = builder._helper
        builder.start(jobs(), TARGET)  # and nobody reads what it says
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("helper", [False, True])
def test_a_kernel_that_llvm_does_not_end_is_an_error_that_names_it(
    helper: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(job: Job, target: object) -> None:
        while True:
            pass

    monkeypatch.setattr("edgec.targets.builder.build_job", endless)
    monkeypatch.setattr("edgec.targets.builder._SECONDS", 0.3)
    with with_helper() if helper else Builder(ahead=False, workers=2) as builder:
        builder.start(jobs(1), TARGET)
        with pytest.raises(EdgecError, match=r"kernel generic_map.* for Relu 'y': LLVM was busy with it for"):
            list(builder.results())
