"""Tables of embeddings in 8 bits, and values whose channels are not what a layer sums over."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.op import const_array
from tests.support.float_models import Array, Net, canonical, data, quantized

IDS = np.arange(64, dtype=np.int64).reshape(8, 8) * 7 % 300


def words(size: int = 300, *, tied: bool = False) -> onnx.ModelProto:
    """A table's rows, and a layer; `tied`: the table is a layer's weights too."""
    net = Net()
    table = net.constant(net.random.normal(size=(size, 32)) * np.geomspace(0.1, 10, size)[:, None])
    a = net.node("Gather", table, "ids")
    b = net.node("Add", net.node("MatMul", a, net.drawn(32, 16, scale=0.2)), net.drawn(16))
    ends = [b, net.node("MatMul", a, net.node("Transpose", table, perm=[1, 0]))] if tied else [b]
    model = net.model(*ends)
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 8]))
    return model


def answers(graph: Graph) -> Array:
    return np.concatenate([interpret(graph, {"ids": ids[None]})["y"] for ids in IDS])


def looked_up(graph: Graph) -> list[str]:
    return [n.args[0].type.dtype for n in graph.nodes() if n.op == "Gather"]


def test_rows_of_a_table_are_bytes_with_a_scale_each() -> None:
    graph, _, session = quantized(words(), {"ids": IDS})
    assert looked_up(graph) == ["i8", "f32"]
    table, scale = (const_array(n.args[0]) for n in graph.nodes() if n.op == "Gather")
    assert table.shape == (300, 32) and scale.shape == (300, 1)
    assert (np.abs(table).max(axis=1) == 127).all()
    assert any("1 table of embeddings in int8" in note for note in session.notes)


def test_answers_stay_near_and_the_report_counts_the_table(capsys: Any) -> None:
    graph, report, _ = quantized(words(), {"ids": IDS})
    real, rough = answers(canonical(words())).astype(np.float64), answers(graph)
    found = 10 * np.log10(np.square(real).sum() / np.square(real - rough).sum())
    assert found > 35
    assert report.output_sqnr is not None and abs(report.output_sqnr - found) < 0.1


def test_a_small_table_and_one_that_is_read_otherwise_stay() -> None:
    assert looked_up(quantized(words(64), {"ids": IDS % 64})[0]) == ["f32"]


def test_channels_along_another_axis_than_a_layer_sums_over() -> None:
    """A convolution's two channels lie before the axis that a product sums over: no factor passes."""
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 2))
    graph, _, _ = quantized(net.model(net.node("MatMul", a, net.drawn(12, 5))), data())
    assert [n.op for n in graph.nodes() if n.op in ("Conv", "MatMul")] == ["Conv", "MatMul"]
