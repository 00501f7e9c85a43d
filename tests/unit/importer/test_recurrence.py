"""How RNN, GRU and LSTM are written: one product for all steps, states and biases where they belong, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph
from edgec.compiler.op import is_const

RNG = np.random.default_rng(3)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def model(
    op: str,
    *,
    steps: int = 4,
    batch: int = 2,
    hidden: int = 5,
    kind: int = TensorProto.FLOAT,
    opset: int = 22,
    read: tuple[int, ...] = (0, 1),
    given: tuple[str, ...] = (),
    shapes: dict[str, tuple[int, ...]] | None = None,
    constant: bool = True,
    **attrs: Any,
) -> onnx.ModelProto:
    """One node; `given`: optional arguments; `read`: results that are read; weights are inputs unless `constant`."""
    d, wide, inputs = 2 if attrs.get("direction") == "bidirectional" else 1, GATES[op] * hidden, 3
    by_batch = attrs.get("layout", 0)
    state = (batch, d, hidden) if by_batch else (d, batch, hidden)
    sizes: dict[str, tuple[int, ...]] = {
        "X": (batch, steps, inputs) if by_batch else (steps, batch, inputs),
        "W": (d, wide, inputs),
        "R": (d, wide, hidden),
        "B": (d, 2 * wide),
        "lengths": (batch,),
        "h": state,
        "c": state,
        "P": (d, 3 * hidden),
    }
    sizes |= shapes or {}
    names = [name if k < 3 or name in given else "" for k, name in enumerate(sizes)]
    while not names[-1]:
        names.pop()
    infos, weights = [], []
    for name in filter(None, names):
        element = TensorProto.INT32 if name == "lengths" else kind
        if constant and name in ("W", "R", "B", "P"):
            array = RNG.uniform(-0.5, 0.5, sizes[name]).astype(helper.tensor_dtype_to_np_dtype(kind))
            weights.append(onnx.numpy_helper.from_array(array, name))
        else:
            infos.append(helper.make_tensor_value_info(name, element, sizes[name]))
    results = [("Y", "Y_h", "Y_c")[k] if k in read else f"unread{k}" for k in range(max(read) + 1)]
    node = helper.make_node(op, names, results, **attrs)
    outputs = [helper.make_tensor_value_info(results[k], kind, None) for k in read]
    graph = helper.make_graph([node], "recurrent", infos, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def ops(g: Graph) -> list[str]:
    return [n.op for n in g.nodes() if n.op not in ("Input", "Const")]


def feed(g: Graph) -> list[Any]:
    kinds = {"f32": np.float32, "f16": np.float16, "f64": np.float64, "i32": np.int32}
    return [RNG.uniform(-1, 1, v.shape).astype(kinds[v.type.dtype]) for v in g.inputs]


def test_all_steps_and_directions_are_one_product() -> None:
    g = import_model(model("LSTM", given=("B", "h", "c", "P"), direction="bidirectional", read=(0, 1, 2)))
    assert ops(g) == ["Reshape", "MatMul", "Add", "Reshape", "Edgec.LSTM"]
    (product,) = (n for n in g.nodes() if n.op == "MatMul")
    assert product.types[0].shape == (8, 2 * 4 * 5) and is_const(product.args[1])
    recurrent = g.outputs[0].node
    assert recurrent.attrs["reverse"] == (0, 1) and recurrent.attrs["peepholes"] == 1
    assert recurrent.args[1].shape == (2, 5, 4, 5) and is_const(recurrent.args[1])


def test_products_that_change_nothing_are_left_out() -> None:
    """As nodes have them whose products come before: the exporter writes such."""
    written = model("RNN", given=("B",), hidden=3)
    (weights,) = (w for w in written.graph.initializer if w.name == "W")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32)[None], "W"))
    g = import_model(written)
    assert ops(g) == ["Reshape", "Add", "Reshape", "Edgec.RNN"]
    weights.CopyFrom(onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32)[None, ::-1], "W"))
    assert "MatMul" in ops(import_model(written))


def test_results_that_nobody_reads_are_not_made() -> None:
    g = import_model(model("GRU", read=(1,)))
    assert g.outputs[0].node.attrs["sequence"] == 0 and [v.shape for v in g.outputs] == [(1, 2, 5)]
    g = import_model(model("RNN", read=(0,)))
    assert [v.shape for v in g.outputs] == [(4, 1, 2, 5)]


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_batches_may_come_first(op: str) -> None:
    read = (0, 1, 2) if op == "LSTM" else (0, 1)
    given = ("B", "h", *(["c"] if op == "LSTM" else []))
    settings: dict[str, Any] = {"given": given, "read": read, "direction": "bidirectional", "constant": False}
    steps_first, batch_first = (import_model(model(op, layout=k, **settings)) for k in (0, 1))
    arrays = feed(steps_first)
    pairs = zip(arrays, steps_first.inputs, strict=True)
    turned = [a.transpose(1, 0, 2) if v.name in ("X", "h", "c") else a for a, v in pairs]
    for k, (want, got) in enumerate(zip(run(steps_first, arrays), run(batch_first, turned), strict=True)):
        np.testing.assert_allclose(got, want.transpose((2, 0, 1, 3) if k == 0 else (1, 0, 2)), rtol=1e-6)


def test_directions_with_different_activations_are_operators_of_their_own() -> None:
    functions = ["Sigmoid", "Tanh", "HardSigmoid", "Relu"]
    settings: dict[str, Any] = {"direction": "bidirectional", "given": ("B", "h", "lengths"), "constant": False}
    g = import_model(model("GRU", activations=functions, activation_alpha=[0.25], activation_beta=[0.5], **settings))
    assert ops(g).count("Edgec.GRU") == 2 and ops(g).count("Concat") == 2
    one, two = (n for n in g.nodes() if n.op == "Edgec.GRU")
    assert (one.attrs["alpha"], two.attrs["alpha"]) == ((0.0, 0.0), (0.25, 0.0))
    assert (one.attrs["reverse"], two.attrs["reverse"]) == ((0,), (1,))


def test_the_reset_gate_meets_the_bias_only_where_it_follows_the_product() -> None:
    for linear, zero in ((0, True), (1, False)):
        g = import_model(model("GRU", given=("B",), linear_before_reset=linear))
        (recurrent,) = (n for n in g.nodes() if n.op == "Edgec.GRU")
        assert bool(np.all(recurrent.args[3].node.attrs["data"].array == 0)) is zero


def test_half_precision_is_computed_in_f32_with_weights_as_they_are() -> None:
    g = import_model(model("LSTM", kind=TensorProto.FLOAT16, given=("B", "h", "c"), read=(0, 1, 2)))
    (recurrent,) = (n for n in g.nodes() if n.op == "Edgec.LSTM")
    assert [t.dtype for t in recurrent.types] == ["f32"] * 3
    assert [a.type.dtype for a in recurrent.args] == ["f32", "f16", "f32", "f32"]
    assert [v.type.dtype for v in g.outputs] == ["f16"] * 3
    same = import_model(model("LSTM", kind=TensorProto.DOUBLE))
    assert [v.type.dtype for v in same.outputs] == ["f64"] * 2


def test_the_limit_holds_for_the_argument_of_every_activation() -> None:
    """ONNX Runtime leaves the cell as it is before its last activation; the text makes no such exception."""
    g = import_model(model("LSTM", clip=0.1, activations=["Affine", "Affine", "Affine"], given=("B",), read=(0, 2)))
    every, cell = run(g, [RNG.uniform(5, 9, g.inputs[0].shape).astype(np.float32)])
    assert np.abs(every).max() <= 0.1 * 0.1 + 1e-7
    assert np.abs(cell).max() <= 0.1


def test_parameters_that_are_not_given() -> None:
    """Those of the operators of the same names; ONNX Runtime takes zero for some."""
    for function, alpha, beta in (("ThresholdedRelu", 1.0, 0.0), ("HardSigmoid", 0.2, 0.5), ("LeakyRelu", 0.01, 0.0)):
        g = import_model(model("RNN", activations=[function]))
        assert (g.outputs[0].node.attrs["alpha"], g.outputs[0].node.attrs["beta"]) == ((alpha,), (beta,))


def test_no_steps_leave_zeros() -> None:
    g = import_model(model("LSTM", steps=0, given=("h", "c"), read=(0, 1, 2)))
    every, h, c = run(g, feed(g))
    assert every.shape == (0, 1, 2, 5) and not h.any() and not c.any()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"direction": "sideways"}, "direction 'sideways' is unknown; expected one of forward, reverse, bidirectional"),
        ({"hidden_size": 6}, r"hidden_size is 6; R is f32\[1, 15, 5\]"),
        ({"given": ("B",), "shapes": {"B": (1, 29)}}, r"B is f32\[1, 29\]; expected shape \[1, 30\]"),
        ({"given": ("h",), "shapes": {"h": (1, 1, 5)}}, r"initial_h is .*; expected shape \[1, 2, 5\]"),
        ({"given": ("lengths",), "shapes": {"lengths": (3,)}}, r"sequence_lens is .*; expected shape \[2\]"),
        ({"shapes": {"X": (4, 3)}}, r"X is f32\[4, 3\]; expected three axes"),
        ({"activations": ["Tanh"]}, "has 1 activations; expected 2"),
        ({"clip": -1.0}, "clip is -1.0; expected a limit"),
    ],
)
def test_what_does_not_fit_is_said(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(EdgecError, match=text):
        import_model(model("GRU", **settings))


def test_an_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="its activation 'Sine' is unknown; expected one of Relu, Tanh"):
        import_model(model("RNN", activations=["Sine"]))
