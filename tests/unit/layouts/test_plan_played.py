"""Random graphs, laid out and planned, then played in an arena of bytes: every step reads what it should.

Kernels run as their bodies mean. Each is run in two orders of tasks: half of the result is written, and the other half
computed again from what memory then holds, so that a result that lies over an argument which is read elsewhere shows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler import registry
from edgec.compiler.dtypes import dtype
from edgec.compiler.interpret import interpret, run
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.layout import pack, unpack
from edgec.compiler.op import OPS, body_of, build, const, const_array, is_const
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.registry import Choice, Emitted, Problem, Row
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.compiler.verify import seeded_inputs
from edgec.passes.plan_check import span

H = 4


def _emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    raise AssertionError("no code is generated here")


def _blocked(problem: Problem) -> list[Choice]:
    want = tuple(
        "NCHW8c" if len(v.shape) == 4 and v not in problem.anchor.args[1:] else "" for v in problem.body.inputs
    )
    return [Choice("fast", want, ("NCHW8c",), (), 1.0, scratch_bytes=100)]


def _any(problem: Problem) -> list[Choice]:
    layouts = ["", "NCHW8c"] if all(len(v.shape) == 4 for v in problem.body.outputs) else [""]
    return [Choice("slow", (None,) * len(problem.body.inputs), (x,) * len(problem.body.outputs)) for x in layouts]


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    heavy = Row(
        "fast", frozenset(), lambda p: OPS[p.anchor.op].kind == "contract" or "is for contractions", _blocked, _emit
    )
    slow = Row("slow", frozenset(), lambda p: True, _any, _emit)
    monkeypatch.setattr(registry, "ROWS", {"fast": heavy, "slow": slow})
    yield


def random_graph(rng: random.Random, steps: int = 14) -> Graph:
    """Values of 8, 16 or 24 channels over one or two images, some seen as other shapes."""
    inputs = [Value(Node("Input", (), (Type("f32", (n, 8, H, H)),), {}, f"x{i}")) for i, n in enumerate((1, 2))]
    pool = [*inputs, const(np.arange(8 * H * H, dtype=np.float32).reshape(1, 8, H, H), "k")]

    def of_shape(shape: tuple[int, ...]) -> Value:
        return rng.choice([v for v in pool if v.shape == shape])

    for _ in range(steps):
        x = rng.choice(pool[-6:])
        axis = rng.choice([a for a, n in enumerate(x.shape) if n > 1 or a == 1])
        kind = rng.choice("neg pool conv add sub_first concat twice split slice view view2 transpose".split())
        if kind == "neg":
            pool.append(build("Neg", x))
        elif kind == "pool" and len(x.shape) == 4:
            pool.append(build("MaxPool", x, kernel_shape=(1, 1)))
        elif kind == "conv" and len(x.shape) == 4:
            weight = const(np.eye(8, x.shape[1], dtype=np.float32).reshape(8, x.shape[1], 1, 1))
            ones = {"dilations": (1, 1), "pads": (0,) * 4, "strides": (1, 1)}
            pool.append(build("Conv", x, weight, const(np.zeros(8, np.float32)), group=1, **ones))
        elif kind == "add":
            pool.append(build("Add", x, of_shape(x.shape)))
        elif kind == "sub_first":
            ends = {"starts": (0,), "ends": (1,), "axes": (axis,), "steps": (1,)}
            pool.append(build("Sub", x, build("Slice", x, **ends)))
        elif kind == "concat" and x.shape[axis] <= 16:
            pool.append(build("Concat", x, of_shape(x.shape), axis=axis))
        elif kind == "twice" and x.shape[axis] <= 8:
            pool.append(build("Concat", x, build("Reshape", x, shape=x.shape), axis=axis))
        elif kind == "split" and x.shape[axis] % 2 == 0:
            half = x.shape[axis] // 2
            pool += build("Split", x, axis=axis, split=(half, half)).node.results
        elif kind == "slice" and x.shape[axis] > 8:
            pool.append(build("Slice", x, starts=(8,), ends=(x.shape[axis],), axes=(axis,), steps=(1,)))
        elif kind == "view" and x.type.size % (H * H) == 0:
            pool.append(build("Reshape", x, shape=(1, x.type.size // (H * H), H, H)))
        elif kind == "view2" and x.type.size % H == 0:
            pool.append(build("Reshape", x, shape=(x.type.size // H, H)))
        elif kind == "transpose" and x.shape[-1] == x.shape[-2]:
            perm = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
            pool.append(build("Sub", x, build("Transpose", build("Reshape", x, shape=x.shape), perm=perm)))
    made = [v for v in pool if v.node.op not in ("Input", "Const")]
    outputs = dict.fromkeys([made[-1], *rng.sample(made, min(2, len(made)))])
    named = Graph("g", tuple(inputs), tuple(outputs), tuple(f"y{i}" for i in range(len(outputs))))
    return named


class Memory:
    """An arena; values are read and written through their types."""

    def __init__(self, size: int) -> None:
        self.bytes = np.zeros(size, np.uint8)

    def get(self, value: Value) -> Array:
        source = value
        while source.node.op == "Edgec.View":
            source = source.node.args[0]
        if is_const(source):
            return const_array(source).reshape(value.shape)
        low, high = span(value)
        raw = self.bytes[low:high].view(dtype(value.type.dtype).numpy)
        return unpack(raw.copy(), value.type.layout, value.shape)

    def put(self, value: Value, array: Array, part: slice) -> None:
        """Store the elements whose flat logical indices lie in `part`."""
        low, high = span(value)
        chosen = np.zeros(array.size, bool)
        chosen[part] = True
        raw = self.bytes[low:high].view(dtype(value.type.dtype).numpy)
        new = pack(np.asarray(array, raw.dtype), value.type.layout).reshape(-1)
        mask = pack(chosen.reshape(array.shape), value.type.layout).reshape(-1)
        raw[mask] = new[mask]


def play(g: Graph, feeds: dict[str, Array], size: int, backwards: bool) -> dict[str, Array]:
    memory = Memory(size)
    for value in g.inputs:
        memory.put(value, feeds[value.node.name], slice(None))
    for node in g.nodes():
        if node.op != "Edgec.Kernel":
            continue
        if scratch := node.attrs.get("scratch"):
            at = node.attrs["scratch_at"]
            assert isinstance(scratch, int) and isinstance(at, int)
            memory.bytes[at : at + 2 * -(-scratch // 64) * 64] = 255  # two workers
        half = [v.type.size // 2 for v in node.results]
        parts = [[slice(0, n) for n in half], [slice(n, None) for n in half]]
        for part in reversed(parts) if backwards else parts:
            results = run(body_of(node), [memory.get(a) for a in node.args])
            for value, array, where in zip(node.results, results, part, strict=True):
                memory.put(value, array, where)
    return {name: memory.get(value) for name, value in g.results}


@pytest.mark.parametrize("seed", range(60))
def test_a_planned_graph_computes_what_it_meant(seed: int) -> None:
    graph = random_graph(random.Random(seed))
    session = Session(target=find_target("x86"), settings={"threads": 2}, verify=2)
    planned = run_pipeline(graph, "fuse, layout, plan", session)
    assert session.arena is not None
    feeds = seeded_inputs(graph)
    want = interpret(graph, feeds)
    for backwards in (False, True):
        got = play(planned, feeds, session.arena.bytes, backwards)
        for name in want:
            np.testing.assert_array_equal(got[name], want[name], err_msg=name)
