"""If through the whole compiler, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

import edgec
from edgec import UnsupportedModel
from edgec.compiler.importer import import_model

from .control import I64, B, F, W, check, f32, graph, model, node


def test_a_branch_runs_where_its_condition_holds(tmp_path: Path) -> None:
    then = graph("then", [node("MatMul", ["x", "w"], ["t1"]), node("Relu", ["t1"], ["t"])], {}, {"t": (F, [3, 4])})
    other = graph("other", [node("Identity", ["x"], ["e"])], {}, {"e": (F, [3, 4])})
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        node("Add", ["y", "y"], ["o"]),
    ]
    proto = model(nodes, {"x": (F, [3, 4])}, {"o": (F, [3, 4])}, [W, helper.make_tensor("zero", F, [], [0.0])])
    x = abs(f32(3, 4))
    check(proto, tmp_path, {"x": x}, {"x": -x})
    with edgec.load(tmp_path / "b") as compiled:
        steps = [s for s in compiled.bundle.steps if s["kernel"] == "branch"]
        assert len(steps) == 2 and all(s["jump"] > 0 for s in steps)
        assert not next(s for s in compiled.bundle.steps if s["name"] == "t1")["results"]


def test_names_of_a_branch_hide_outer_ones_and_end_with_it(tmp_path: Path) -> None:
    then = graph("then", [node("Relu", ["x"], ["t"])], {}, {"t": (F, [4])})
    other = graph("other", [node("Neg", ["x"], ["t"])], {}, {"t": (F, [4])})
    nodes = [
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        node("Sigmoid", ["y"], ["t"]),
        node("Add", ["t", "y"], ["o"]),
    ]
    proto = model(nodes, {"x": (F, [4]), "c": (B, [])}, {"o": (F, [4])})
    check(proto, tmp_path, *({"x": f32(4), "c": np.asarray(c)} for c in (True, False)))


def test_members_of_a_sequence_have_names_of_their_own() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", F, [2])
    proto = model([node("Neg", ["s.0"], ["y"])], {"s.0": (F, [2])}, {"y": (F, [2])})
    proto.graph.input.append(sequence)
    with pytest.raises(edgec.EdgecError, match=r"input 's': its member 's.0' has the name of another input"):
        import_model(proto, shapes={"s": [(2,)]})


def test_branches_that_differ_along_one_axis_give_as_much_as_the_one_that_runs(tmp_path: Path) -> None:
    then = graph("then", [node("Identity", ["x"], ["t"])], {}, {"t": (F, [2])})
    other = graph("other", [node("Concat", ["x", "x"], ["e"], axis=0)], {}, {"e": (F, [4])})
    proto = model(
        [node("If", ["c"], ["z"], then_branch=then, else_branch=other), node("Neg", ["z"], ["y"])],
        {"x": (F, [2]), "c": (B, [])},
        {"y": (F, ["?"]), "z": (F, ["?"])},
    )
    check(proto, tmp_path, *({"x": f32(2), "c": np.asarray(flag)} for flag in (True, False)))


def test_a_branch_may_give_what_it_found(tmp_path: Path) -> None:
    then = graph("then", [node("NonZero", ["x"], ["n"]), node("Transpose", ["n"], ["t"])], {}, {"t": (I64, ["?", 2])})
    other = graph("other", [node("Identity", ["none"], ["e"])], {}, {"e": (I64, [0, 2])})
    other.initializer.append(numpy_helper.from_array(np.empty((0, 2), np.int64), "none"))
    nodes = [
        node("If", ["c"], ["p"], then_branch=then, else_branch=other),
        node("GatherND", ["x", "p"], ["v"]),
        node("Size", ["v"], ["size"]),
    ]
    proto = model(nodes, {"x": (F, [3, 4]), "c": (B, [])}, {"p": (I64, ["?", 2]), "v": (F, ["?"]), "size": (I64, [])})
    x = np.maximum(f32(3, 4), 0)
    check(proto, tmp_path, *({"x": x, "c": np.asarray(flag)} for flag in (True, False, True)))


@pytest.mark.parametrize(
    ("size", "said"), [([], "; .*--bind c=VALUE decides: of a branch not taken nothing is read$"), ([2], " axes$")]
)
def test_a_wrong_branch_names_the_input_that_decides(size: list[int], said: str) -> None:
    """Where that is one number: no user binds an array."""
    then = graph("then", [node("LSTM", ["x", "w", "r"], ["t"], hidden_size=1)], {}, {"t": (F, [1])})
    then.initializer.append(numpy_helper.from_array(np.zeros((1, 4, 1), np.float32), "w"))
    then.initializer.append(numpy_helper.from_array(np.zeros((1, 4, 1), np.float32), "r"))
    other = graph("other", [node("Neg", ["x"], ["e"])], {}, {"e": (F, [1])})
    nodes = [
        node("ReduceMax", ["c"], ["m"], keepdims=0),
        node("Cast", ["m"], ["b"], to=B),
        node("If", ["b"], ["y"], then_branch=then, else_branch=other),
    ]
    proto = model(nodes, {"x": (F, [1]), "c": (I64, size)}, {"y": (F, [1])})
    with pytest.raises(edgec.EdgecError, match=f"expected three{said if size else ' axes' + said}"):
        import_model(proto)
    assert import_model(proto, binds={"c": np.zeros(size, np.int64)}).outputs[0].shape == (1,)


def test_branches_of_different_ranks_are_refused() -> None:
    then = graph("then", [node("Identity", ["x"], ["t"])], {}, {"t": (F, [2])})
    other = graph("other", [node("Unsqueeze", ["x", "axes"], ["e"])], {}, {"e": (F, [1, 2])})
    other.initializer.append(numpy_helper.from_array(np.asarray([0], np.int64), "axes"))
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    proto = model(nodes, {"x": (F, [2]), "c": (B, [])}, {"y": (F, ["?"])})
    with pytest.raises(UnsupportedModel, match=r"its branches give f32\[2\] and f32\[1, 2\]"):
        import_model(proto)
    assert import_model(proto, binds={"c": False}).outputs[0].shape == (1, 2)
