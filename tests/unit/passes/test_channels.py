"""Channels that must go together, and graphs without some of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.compiler.compress.channels.cut import refits_of, removed, without
from edgec.compiler.compress.channels.groups import coupled
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const, const_array
from edgec.compiler.verify import verify

RNG = np.random.default_rng(11)
Made = Callable[[Value], Value]


def _random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _input(*shape: int, name: str = "x") -> Value:
    return Value(Node("Input", (), (Type("f32", shape),), {}, name))


def _conv(x: Value, out: int, kernel: int = 1, label: str = "", **attrs: object) -> Value:
    w = const(_random(out, x.shape[1] // int(str(attrs.get("group", 1))), kernel, kernel))
    pads = (kernel // 2,) * 4
    return build("Conv", x, w, const(_random(out)), label=label, pads=pads, **attrs)  # type: ignore[arg-type]


def _dense(x: Value, out: int, label: str = "") -> Value:
    return build("Add", build("MatMul", x, const(_random(x.shape[-1], out)), label=label), const(_random(out)))


def _widths(graph: Graph) -> list[int]:
    return sorted(f.width for f in coupled(graph).families())


def _silenced(graph: Graph, numbers: np.ndarray) -> Graph:
    """The graph with zeros where removed channels are made and read: what removing them must equal."""
    known = coupled(graph)

    def change(old: Node) -> dict[int, np.ndarray]:
        found = {}
        for place, slices in known.params.get(old, {}).items():
            array = const_array(old.args[place]).copy()
            for axis, labels in slices:
                np.moveaxis(array, axis, 0)[numbers[labels]] = 0
            found[place] = array
        return found

    new: dict[Value, Value] = {}
    for node in graph.nodes():
        args = [new[a] for a in node.args]
        for place, array in change(node).items():
            args[place] = const(array)
        made = Node(node.op, tuple(args), node.types, node.attrs, node.name) if node.args else node
        new.update(zip(node.results, made.results, strict=True))
    return graph.with_values(graph.inputs, tuple(new[v] for v in graph.outputs))


def _check(build_graph: Made, x: Value, widths: list[int], *, same: bool = True) -> None:
    """Half of each family goes: the result is valid, keeps its interface, and answers as if the rest were zero."""
    graph = Graph("g", (x,), (build_graph(x),))
    known = coupled(graph)
    families = known.families()
    assert sorted(f.width for f in families) == widths
    gone = removed(known, [c for f in families for c in f.classes[1 : 1 + f.width // 2]])
    cut = without(known, gone)
    verify(cut.graph, 2)
    assert [v.shape for v in cut.graph.outputs] == [v.shape for v in graph.outputs]
    feed = [_random(*x.shape)]
    got = run(cut.graph, feed)[0]
    if same:
        want = run(_silenced(graph, gone), feed)[0]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    for refit in refits_of(known, cut, gone):
        axis = -1 if refit.node.op == "MatMul" else 1
        kept = refit.aim.shape[axis] if refit.kept is None else len(refit.kept)
        assert kept == refit.node.types[0].shape[axis]


def _residual(x: Value) -> Value:
    a = _conv(x, 8)
    b = build("Add", a, _conv(build("Relu", _conv(a, 6)), 8))
    return _conv(build("Relu", b), 3)


def _concatenated(x: Value) -> Value:
    return _conv(build("Concat", _conv(x, 4), build("Relu", _conv(x, 6)), axis=1), 3)


def _split(x: Value) -> Value:
    y = _conv(x, 10)
    parts = build("Split", y, axis=1, split=(4, 6)).node.results
    return build("Add", _conv(parts[0], 3), _conv(build("Tanh", parts[1]), 3))


def _sliced(x: Value) -> Value:
    y = _conv(x, 8)
    even = build("Slice", y, starts=(0,), ends=(8,), axes=(1,), steps=(2,))
    odd = build("Slice", y, starts=(7,), ends=(-1,), axes=(1,), steps=(-2,))
    return build("Add", _conv(even, 3), _conv(odd, 3))


def _depthwise(x: Value) -> Value:
    y = _conv(build("Relu", _conv(x, 8)), 16, 3, group=8)
    return _conv(y, 3)


def _grouped(x: Value) -> Value:
    return _conv(_conv(_conv(x, 8), 12, 3, group=2), 3)


def _transposed_convolution(x: Value) -> Value:
    def up(y: Value, out: int, group: int = 1) -> Value:
        w = const(_random(y.shape[1], out // group, 2, 2))
        return build("ConvTranspose", y, w, const(_random(out)), strides=(2, 2), group=group)

    return up(up(up(_conv(x, 8), 6), 6, 6), 2)


def _flattened(x: Value) -> Value:
    y = build("MaxPool", _conv(x, 6), kernel_shape=(2, 2), strides=(2, 2))
    return _dense(build("Reshape", y, shape=(1, y.type.size)), 5)


def _flattened_last(x: Value) -> Value:
    y = build("Transpose", _conv(x, 6), perm=(0, 2, 3, 1))
    return _dense(build("Reshape", y, shape=(1, y.type.size)), 5)


def _perceptron(x: Value) -> Value:
    y = build("Reshape", x, shape=(1, x.type.size))
    return _dense(build("Gelu", _dense(build("Relu", _dense(y, 16)), 12)), 4)


def _broadcast(x: Value) -> Value:
    y = build("Mul", _conv(x, 8), const(_random(8, 1, 1)))
    y = build("PRelu", build("Sub", y, const(_random(1, 8, 1, 1))), const(_random(8, 1, 1)))
    return _conv(build("Div", y, const(np.float32([2.0]))), 3)


def _excited(x: Value) -> Value:
    y = _conv(x, 8)
    pooled = build("ReduceMean", y, axes=(2, 3), keepdims=1)
    gate = build("Sigmoid", _conv(build("Relu", _conv(pooled, 4)), 8))
    return _conv(build("Mul", y, gate), 3)


def _spatial(x: Value) -> Value:
    y = build("Pad", _conv(x, 8), pads=(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
    y = build("AveragePool", y, kernel_shape=(2, 2))
    n, c, h, w = y.shape
    y = build("Resize", y, sizes=(n, c, 2 * h, 2 * w), scales=(1.0, 1.0, 2.0, 2.0), mode="nearest")
    return _conv(y, 3)


def _padded_channels(x: Value) -> Value:
    y = _conv(x, 4)
    wide = build("Pad", y, pads=(0, 1, 0, 0, 0, 3, 0, 0), mode="constant")
    return _conv(build("Add", wide, _conv(build("Relu", y), 8)), 3)


def _shuffled(x: Value) -> Value:
    y = _conv(x, 12)
    n, c, h, w = y.shape
    y = build("Reshape", y, shape=(n, 2, 6, h, w))
    y = build("Reshape", build("Transpose", y, perm=(0, 2, 1, 3, 4)), shape=(n, c, h, w))
    return _conv(y, 3)


def _gathered(x: Value) -> Value:
    y = build("Gather", _conv(x, 6), const(np.asarray([5, 0, -2, 0], np.int64)), axis=1)
    return _conv(y, 3)


def _blocks(x: Value) -> Value:
    y = build("DepthToSpace", _conv(x, 16), blocksize=2, mode="CRD")
    y = build("DepthToSpace", _conv(y, 16), blocksize=2, mode="DCR")
    return _conv(build("SpaceToDepth", y, blocksize=2), 3)


def _constants_joined(x: Value) -> Value:
    y = _conv(x, 6)
    border = const(_random(1, 6, 1, y.shape[3]))
    return _conv(build("Concat", border, y, axis=2), 3)


def _normalized(x: Value) -> Value:
    y = build("InstanceNormalization", _conv(x, 8), const(_random(8)), const(_random(8)))
    return _conv(y, 3)


CASES: dict[str, tuple[Made, list[int]]] = {
    "residual sum": (_residual, [6, 8]),
    "concat": (_concatenated, [4, 6]),
    "split": (_split, [4, 6]),
    "slices by two": (_sliced, [4]),
    "depthwise": (_depthwise, [8]),
    "grouped": (_grouped, [4, 6]),
    "transposed convolution": (_transposed_convolution, [6, 8]),
    "flatten": (_flattened, [6]),
    "flatten, channels last": (_flattened_last, [6]),
    "perceptron": (_perceptron, [12, 16]),
    "constants per channel": (_broadcast, [8]),
    "squeeze and excite": (_excited, [4, 8]),
    "spatial operators": (_spatial, [8]),
    "padded channels": (_padded_channels, [4, 4]),
    "channel shuffle": (_shuffled, [6]),
    "gathered": (_gathered, [1, 2, 3]),
    "depth and space": (_blocks, [4, 4]),
    "constants joined": (_constants_joined, [6]),
    "instance normalization": (_normalized, [8]),
}


@pytest.mark.parametrize("case", CASES)
def test_half_of_the_channels_go(case: str) -> None:
    make, widths = CASES[case]
    _check(make, _input(1, 3, 6, 6), widths)


def test_layer_normalization_loses_parameters_with_its_channels() -> None:
    def make(x: Value) -> Value:
        y = build("LayerNormalization", _dense(x, 8), const(_random(8)), const(_random(8)))
        return _dense(y, 4)

    _check(make, _input(1, 5, 6), [8], same=False)


def test_attention_loses_the_same_part_of_each_head() -> None:
    def heads(x: Value, perm: tuple[int, ...]) -> Value:
        return build("Transpose", build("Reshape", _dense(x, 12), shape=(1, 5, 3, 4)), perm=perm)

    def make(x: Value) -> Value:
        scores = build("MatMul", heads(x, (0, 2, 1, 3)), heads(x, (0, 2, 3, 1)))
        mixed = build("MatMul", build("Softmax", scores, axis=-1), heads(x, (0, 2, 1, 3)))
        y = build("Reshape", build("Transpose", mixed, perm=(0, 2, 1, 3)), shape=(1, 5, 12))
        return _dense(y, 6)

    _check(make, _input(1, 5, 6), [4, 4])


PINNED: dict[str, tuple[Made, str]] = {
    "softmax": (lambda x: _conv(build("Softmax", _conv(x, 8), axis=1), 3), "Softmax .* works along them"),
    "mean": (lambda x: build("ReduceMean", _conv(x, 8), axes=(1,)), "ReduceMean .* works along them"),
    "input added": (lambda x: _conv(build("Add", _conv(x, 3), x), 2), "combines them with values whose channels stay"),
    "output": (lambda x: _conv(x, 8), "it is the output"),
    "unknown": (lambda x: build("Trilu", _conv(x, 8)), "Trilu .* needs them all"),
    "quantized": (
        lambda x: build("QuantizeLinear", _conv(x, 8), const(np.float32(0.1)), const(np.uint8(3))),
        "is quantized",
    ),
}


@pytest.mark.parametrize("case", PINNED)
def test_channels_stay_for_a_reason(case: str) -> None:
    make, reason = PINNED[case]
    x = _input(1, 3, 6, 6)
    known = coupled(Graph("g", (x,), (make(x),)))
    assert not known.families()
    first = next(iter(known.layers.values()))
    assert first.outputs is not None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(known.why(first.outputs))


def test_a_weight_that_two_layers_share_is_cut_for_each() -> None:
    x = _input(1, 4, 6, 6)
    w, b = const(_random(4, 4, 1, 1)), const(_random(4))
    y = build("Conv", build("Relu", build("Conv", x, w, b)), w, b)
    graph = Graph("g", (x,), (y,))
    known = coupled(graph)
    (family,) = known.families()
    cut = without(known, removed(known, family.classes[:1]))
    shapes = [n.args[1].shape for n in cut.graph.nodes() if n.op == "Conv"]
    assert shapes == [(3, 4, 1, 1), (4, 3, 1, 1)]


def test_nothing_removed_is_the_same_graph() -> None:
    x = _input(1, 3, 6, 6)
    graph = Graph("g", (x,), (_residual(x),))
    known = coupled(graph)
    assert set(without(known, removed(known, [])).graph.nodes()) == set(graph.nodes())
