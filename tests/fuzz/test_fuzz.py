"""Random graphs through the whole compiler, and proof that the comparisons can fail and the shrinker shrinks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler import op as table
from edgec.compiler import toolchain as tools
from edgec.compiler.eir_file import read_eir
from edgec.compiler.importer.table import CONVERTERS
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import OPS, build, const, evaluate
from edgec.compiler.pipeline import Stage, find_pass
from edgec.compiler.program import Port, Program, Ref, Step, Stored
from edgec.compiler.target import find_target
from edgec.compiler.text import show
from edgec.compiler.verify import seeded_inputs
from edgec.targets import builder, scalar
from tests.fuzz import check, recipes
from tests.fuzz.check import Case, Failure, Report, examine
from tests.fuzz.generator import generate
from tests.fuzz.keep import keep, kept
from tests.fuzz.options import OPTIONAL, Options, drawn_options, read_options
from tests.fuzz.play import Stray, play
from tests.fuzz.shrink import shrink
from tests.fuzz.stable import bands, near
from tests.fuzz.worker import Worker

pytest.importorskip("onnxruntime")
recipes.load()

FEW, MANY = range(25), range(1000, 1500)
PLAIN = Options("x86")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as made:
        yield made


def run(worker: Worker, seed: int) -> None:
    drawn = generate(seed)
    failure = worker.examine(Case(drawn.graph, drawn.feeds, drawn_options(seed))).failure
    assert failure is None, f"python -m tests.fuzz --count 1 --seed {seed}: {failure.stage}: {failure.what}"


@pytest.mark.parametrize("seed", FEW)
def test_a_random_graph(worker: Worker, seed: int) -> None:
    run(worker, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", MANY)
def test_many_random_graphs(worker: Worker, seed: int) -> None:
    run(worker, seed)


# ---- Drawing


def test_every_operator_is_drawn_or_excused() -> None:
    assert recipes.missing() == [], "write a recipe (tests/fuzz/recipes/__init__.py says how), or an excuse"
    assert [name for name in recipes.EXCUSED if name not in OPS] == []
    assert [name for name in recipes.RECIPES if name[0].isupper() and name not in OPS] == []


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_a_recipe_draws_its_operator(name: str) -> None:
    ops = [node.op for node in generate(1, [name]).graph.nodes() if OPS[node.op].kind != "source"]
    assert name in ops if name in OPS else len(ops) > 1


def test_a_seed_is_one_graph() -> None:
    first, second = generate(7), generate(7)
    assert show(first.graph) == show(second.graph) != show(generate(8).graph)
    assert first.feeds.keys() == second.feeds.keys()
    assert all(np.array_equal(a, second.feeds[name], equal_nan=True) for name, a in first.feeds.items())


def test_options_read_back() -> None:
    for options in [drawn_options(seed) for seed in range(40)] + [Options("x86", 2, OPTIONAL, 7, True, True, True)]:
        assert read_options(str(options)) == options


# ---- Comparing


def inputs(*types: Type) -> list[Value]:
    return [Value(Node("Input", (), (t,), {}, f"x{k}")) for k, t in enumerate(types)]


def case(inputs: list[Value], *outputs: Value, options: Options = PLAIN) -> Case:
    graph = Graph("g", tuple(inputs), outputs, tuple(f"y{k}" for k in range(len(outputs))))
    return Case(graph, seeded_inputs(graph), options)


def chain() -> Case:
    """tanh(relu(x) + 1) * 2, and its sum."""
    (x,) = inputs(Type("f32", (3, 8)))
    y = build("Add", build("Relu", x, label="r"), const(np.ones((), np.float32)), label="a")
    y = build("Mul", build("Tanh", y, label="t"), const(np.full((), 2, np.float32)), label="m")
    return case([x], y, build("ReduceSum", y, axes=(1,), keepdims=0, label="s"))


def test_a_right_graph_passes() -> None:
    report = examine(replace(chain(), options=Options("x86", 2, (), 0, True, True, True)))
    assert report.failure is None
    assert report.counts["nodes compared with ONNX Runtime"] == 5 and report.counts["row generic_map"] == 1


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_kept", {})
    monkeypatch.setitem(scalar.SCALAR, "Tanh", lambda x: x)
    assert failure_of(chain(), "kernels").what.startswith("output 'y0' differs in 24 of 24 elements")


def test_a_wrong_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(graph: Graph, **_: Any) -> Graph:
        return graph.map(lambda n: build("Neg", *n.args, label=n.name) if n.op == "Tanh" else None)

    stage = Stage(replace(find_pass("fold"), fn=spoiled, takes_session=False), {})
    monkeypatch.setattr(check, "parse_pipeline", lambda *_: [stage])
    assert "differs in" in failure_of(replace(chain(), options=Options("x86", each_pass=True)), "pass fold").what


def test_a_wrong_meaning_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.OPS, "Tanh", replace(table.OPS["Tanh"], meaning=lambda x: x))
    assert "Tanh 't' of f32[3, 8]" in failure_of(chain(), "onnx runtime").what


def test_numbers_that_cancel_are_no_difference() -> None:
    x = Value(Node("Input", (), (Type("f32", (1, 2)),), {}, "x"))
    given = [np.log(np.asarray([[0.3, 0.7]], np.float32))]
    for op, off, wrong in (("ReduceLogSumExp", 5e-8, 1e-4), ("ReduceSum", 1e-4, 1e-3)):
        value = build(op, x, axes=(1,))
        (want,) = evaluate(value.node, given)
        assert not near(value, given).fault(want + np.float32(off))
        assert near(value, given).fault(want + np.float32(wrong))


def test_a_wrong_import_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, "Tanh", lambda c: c.arg())
    assert failure_of(replace(chain(), options=Options("x86", through_onnx=True)), "import")


def failure_of(case: Case, stage: str) -> Failure:
    failure = examine(case).failure
    assert failure is not None and failure.stage == stage, failure
    return failure


BODY = "for (int i = 4 * begin; i < 4 * end; i++) ((float *)args[1])[i] = ((float *)args[0])[i] + 1;"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (f"((float *)args[0])[0] = 1; {BODY}", "step k .* wrote byte"),
        (f"if (begin) return; {BODY}", "is another one in the second run"),
        (f"((float *)args[2])[0] = 1; {BODY}", "the weights were written over"),
    ],
)
def test_stray_kernels_are_found(code: str, words: str, tmp_path: Path) -> None:
    source = f"#include <stdint.h>\nvoid k(void *const *args, int32_t begin, int32_t end) {{ {code} }}"
    (tmp_path / "k.c").write_text(source)
    tools.toolchain(find_target("x86")).compile(["k.c"], tmp_path, ["-std=c11"])
    kind, x, y = Type("f32", (8,)), Ref("arena", 0), Ref("arena", 64)
    step = Step("k", "k", (x, y, Ref("weights", 0)), 2, results=(Stored("y", kind, y),))
    ports = Port("x", "f32", (8,), 32, x), Port("y", "f32", (8,), 32, y)
    objects = (("k.o", (tmp_path / "k.o").read_bytes()),)
    program = Program("p", "x86", ports[:1], ports[1:], (step,), bytes(64), objects, 128, 128, (), threads=2)
    with pytest.raises(Stray, match=words):
        for seed in range(9):
            play(program, {"x": np.zeros(8, np.float32)}, seed)


def test_what_hangs_on_rounding_is_left_out() -> None:
    """A sum that is 1 but for rounding, rounded down: neither 0 nor 1 is wrong."""
    (x,) = inputs(Type("f32", (1, 3)))
    total = build("ReduceSum", build("Mul", x, const(np.full((), 0.1, np.float32))), axes=(1,))
    made = case([x], build("Floor", total), total)
    found = bands(made.graph, {"x0": np.asarray([[2, 3, 5]], np.float32)}, runs=20)
    assert found["y0"].share == 0 and found["y1"].share == 1
    assert found["y0"].fault(np.zeros((1, 1), np.float32)) == ""
    assert found["y1"].fault(np.asarray([[1.001]], np.float32))
    assert found["y1"].fault(np.zeros(1, np.float32)) == "is float32[1]; expected float32[1, 1]"


# ---- Crashes, hangs, smaller cases


def test_a_process_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(case: Case, *, reference: bool) -> Report:
        if case.options.threads == 2:
            time.sleep(60)
        os.kill(os.getpid(), signal.SIGSEGV)
        return Report()

    monkeypatch.setattr("tests.fuzz.worker.examine", dead)
    with Worker(seconds=1) as worker:
        assert worker.examine(chain()).failure == Failure("crash", "the process died: SIGSEGV")
        slow = replace(chain(), options=Options("x86", threads=2))
        assert worker.examine(slow).failure == Failure("hang", "no answer after 1 s")
        assert worker.examine(chain()).failure == Failure("crash", "the process died: SIGSEGV")


def test_a_failing_case_shrinks(tmp_path: Path) -> None:
    """To the one operator that fails, on as few elements as it can."""

    def test(case: Case) -> Failure | None:
        guilty = [n for n in case.graph.nodes() if n.op == "Tanh" and n.types[0].size >= 2]
        return Failure("kernels", "wrong") if guilty else None

    start = replace(chain(), options=Options("x86", 2, ("fold",), 5, True, True, True))
    small, failure = shrink(start, Failure("kernels", "wrong"), test)
    assert [n.op for n in small.graph.nodes()] == ["Input", "Tanh"] and small.graph.outputs[0].type.size == 2
    assert small.options == PLAIN
    path = keep(small, failure, tmp_path, 3)
    lines = path.read_text().splitlines()
    assert lines[0] == "# compile: x86 threads=1" and lines[1].startswith("# feed: ")
    again = kept(read_eir(path), "x86", [lines[1].removeprefix("# feed: ")])
    assert show(again.graph) == show(small.graph)
    assert all(np.array_equal(a, again.feeds[name]) for name, a in small.feeds.items())
