"""If, Loop and Scan through the whole compiler, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec import UnsupportedModel
from edgec.compiler.driver import load_kernels
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

F, I64, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
Array = npt.NDArray[Any]
RNG = np.random.default_rng(5)
W = helper.make_tensor("w", F, [4, 4], RNG.standard_normal(16).astype("f4"))


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype("f4")


def i64(value: int) -> Array:
    return np.asarray(value, np.int64)


def graph(name: str, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: Any = ()) -> Any:
    """Types are (element type, shape)."""
    sides = [[helper.make_tensor_value_info(n, *t) for n, t in side.items()] for side in (inputs, outputs)]
    return helper.make_graph(nodes, name, sides[0], sides[1], list(weights))


def model(*args: Any) -> onnx.ModelProto:
    made = helper.make_model(graph("g", *args), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def check(proto: onnx.ModelProto, folder: Path, *feeds: dict[str, Array], threads: int = 1) -> tuple[str, ...]:
    """Compiled code and the interpreter answer like ONNX Runtime; the names of the steps."""
    ort = pytest.importorskip("onnxruntime")
    reference = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    imported = import_model(proto)
    load_kernels()
    run_pipeline(imported, find_target("host").pipeline, Session(target=find_target("host"), verify=3))
    edgec.compile(proto, target="host", out=folder / "b", threads=threads)
    with edgec.load(folder / "b") as compiled:
        for feed in feeds:
            want = reference.run(None, feed)
            for got in (compiled.run(feed), interpret(imported, feed)):
                for name, expected in zip((o.name for o in proto.graph.output), want, strict=True):
                    assert got[name].shape == expected.shape
                    np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-5)
        return compiled.steps


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


def test_a_loop_whose_turns_are_counted_at_run_time(tmp_path: Path) -> None:
    body = graph(
        "body",
        [
            node("MatMul", ["v", "w"], ["v1"]),
            node("Tanh", ["v1"], ["v2"]),
            node("Add", ["v2", "x"], ["v3"]),
            node("ReduceMax", ["v3"], ["m"], keepdims=0),
            node("Less", ["m", "most"], ["go"]),
        ],
        {"i": (I64, []), "c": (B, []), "v": (F, [3, 4])},
        {"go": (B, []), "v3": (F, [3, 4])},
    )
    inputs = {"x": (F, [3, 4]), "n": (I64, [])}
    weights = [W, helper.make_tensor("most", F, [], [2.5])]
    proto = model([node("Loop", ["n", "", "x"], ["y"], body=body)], inputs, {"y": (F, [3, 4])}, weights)
    steps = check(proto, tmp_path, *({"x": f32(3, 4), "n": i64(n)} for n in (0, 1, 5, 100, -3)))
    assert len(steps) < 20


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("length", [3, 300])
def test_a_scan_of_few_turns_is_written_out_and_one_of_many_is_a_loop(
    length: int, direction: int, tmp_path: Path
) -> None:
    body = graph(
        "body",
        [
            node("MatMul", ["a", "w"], ["h1"]),
            node("Add", ["h1", "xi"], ["h2"]),
            node("Tanh", ["h2"], ["h3"]),
            node("Identity", ["h3"], ["o"]),
        ],
        {"a": (F, [1, 4]), "xi": (F, [1, 4])},
        {"h3": (F, [1, 4]), "o": (F, [1, 4])},
    )
    ways = {"scan_input_directions": [direction], "scan_output_directions": [direction], "scan_output_axes": [1]}
    scan = node("Scan", ["h0", "xs"], ["h", "ys"], body=body, num_scan_inputs=1, **ways)
    outputs = {"h": (F, [1, 4]), "ys": (F, [1, length, 4])}
    proto = model([scan], {"h0": (F, [1, 4]), "xs": (F, [length, 1, 4])}, outputs, [W])
    steps = check(proto, tmp_path, {"h0": f32(1, 4), "xs": f32(length, 1, 4)}, threads=2)
    assert any("back" in name for name in steps) == (length == 300)


def test_loops_and_branches_within_each_other_and_values_that_change_places(tmp_path: Path) -> None:
    inner = graph(
        "inner",
        [node("Add", ["q", "p"], ["q2"]), node("Identity", ["ci"], ["co"])],
        {"j": (I64, []), "ci": (B, []), "q": (F, [2])},
        {"co": (B, []), "q2": (F, [2])},
    )
    then = graph("then", [node("Mul", ["sum", "two"], ["r"])], {}, {"r": (F, [2])})
    other = graph("other", [node("Sub", ["sum", "two"], ["d"])], {}, {"d": (F, [2])})
    body = graph(
        "body",
        [
            node("Loop", ["k", "", "q0"], ["sum"], body=inner),
            node("Mod", ["i", "parts"], ["part"]),
            node("Cast", ["part"], ["odd"], to=B),
            node("If", ["odd"], ["next"], then_branch=then, else_branch=other),
            node("Identity", ["c"], ["go"]),
            node("Identity", ["p"], ["turned"]),
        ],
        {"i": (I64, []), "c": (B, []), "p": (F, [2]), "q0": (F, [2])},
        {"go": (B, []), "next": (F, [2]), "turned": (F, [2])},
    )
    weights = [helper.make_tensor("two", F, [], [2.0]), helper.make_tensor("parts", I64, [], [2])]
    inputs = {"a": (F, [2]), "b": (F, [2]), "n": (I64, []), "k": (I64, [])}
    outputs = {"y": (F, [2]), "z": (F, [2])}
    proto = model([node("Loop", ["n", "", "a", "b"], ["y", "z"], body=body)], inputs, outputs, weights)
    counts = ((0, 0), (1, 2), (3, 0), (3, 3))
    check(proto, tmp_path, *({"a": f32(2), "b": f32(2), "n": i64(n), "k": i64(k)} for n, k in counts))


def test_results_of_a_turn_that_are_other_forms_of_its_state(tmp_path: Path) -> None:
    """A delay line: each value becomes the one before it, in another shape, or times one; the condition is carried."""
    one, axes, flat = "one", helper.make_tensor("axes", I64, [1], [0]), helper.make_tensor("flat", I64, [1], [4])
    body = graph(
        "body",
        [
            node("Add", ["a", "x"], ["a2"]),
            node("Unsqueeze", ["a", "axes"], ["b2"]),
            node("Reshape", ["b", "flat"], ["c2"]),
            node("Mul", ["c", one], ["d2"]),
            node("Squeeze", ["f"], ["go"]),
            node("ReduceMax", ["a2"], ["m"], keepdims=1),
            node("Less", ["m", "most"], ["f2"]),
            node("Unsqueeze", ["d", "axes"], ["old"]),
        ],
        {
            "i": (I64, []), "k": (B, []), "a": (F, [4]), "b": (F, [1, 4]), "c": (F, [4]), "d": (F, [4]), "f": (B, [1]),
        },
        {
            "go": (B, []), "a2": (F, [4]), "b2": (F, [1, 4]), "c2": (F, [4]), "d2": (F, [4]), "f2": (B, [1]),
            "old": (F, [1, 4]),
        },
    )  # fmt: skip
    start = [node("Reshape", ["x", "row"], ["b0"]), node("Less", ["x0", "most"], ["f0"])]
    loop = node("Loop", ["n", "", "x", "b0", "x", "x", "f0"], ["a_", "b_", "c_", "d_", "f_", "s_"], body=body)
    weights = [
        axes, flat, helper.make_tensor("one", F, [], [1.0]), helper.make_tensor("row", I64, [2], [1, 4]),
        helper.make_tensor("most", F, [1], [40.0]), helper.make_tensor("n", I64, [], [60]),
    ]  # fmt: skip
    outputs = {"a_": (F, [4]), "b_": (F, [1, 4]), "c_": (F, [4]), "d_": (F, [4]), "s_": (F, ["turns", 1, 4])}
    proto = model([*start, loop], {"x": (F, [4]), "x0": (F, [1])}, outputs, weights)
    x = np.asarray([1.0, 0.5, 2.0, -1.0], "f4")
    check(proto, tmp_path, {"x": x, "x0": x[:1]}, {"x": x / 4, "x0": x[:1]}, {"x": x, "x0": x[:1] + 50}, threads=2)


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


def test_what_does_not_depend_on_the_turn_is_computed_once(tmp_path: Path) -> None:
    body = graph(
        "body",
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["v", "m"], ["v2"]), node("Identity", ["c"], ["go"])],
        {"i": (I64, []), "c": (B, []), "v": (F, [3, 4])},
        {"go": (B, []), "v2": (F, [3, 4])},
    )
    loop = node("Loop", ["n", "", "x"], ["y"], body=body)
    proto = model([loop], {"x": (F, [3, 4]), "n": (I64, [])}, {"y": (F, [3, 4])}, [W])
    steps = check(proto, tmp_path, {"x": f32(3, 4), "n": i64(7)})
    assert steps.index("m") < next(k for k, name in enumerate(steps) if "turn" in name)


def test_carried_sequences_need_a_number_of_turns() -> None:
    body = graph(
        "body",
        [node("SequenceInsert", ["s", "x"], ["s2"]), node("Identity", ["c"], ["go"])],
        {"i": (I64, []), "c": (B, [])},
        {"go": (B, [])},
    )
    body.input.append(helper.make_tensor_sequence_value_info("s", F, [2]))
    body.output.append(helper.make_tensor_sequence_value_info("s2", F, [2]))
    nodes = [
        node("SequenceEmpty", [], ["none"]),
        node("Loop", ["n", "", "none"], ["all"], body=body),
        node("ConcatFromSequence", ["all"], ["y"], axis=0),
    ]
    proto = model(nodes, {"x": (F, [2]), "n": (I64, [])}, {"y": (F, ["?"])})
    with pytest.raises(UnsupportedModel, match="carries a sequence"):
        import_model(proto)
    bound = import_model(proto, binds={"n": 3})
    assert bound.outputs[0].shape == (6,)


def test_refusals_name_loop_and_reason() -> None:
    body = graph(
        "body",
        [node("Concat", ["v", "v"], ["v2"], axis=0), node("Identity", ["c"], ["go"])],
        {"i": (I64, []), "c": (B, []), "v": (F, ["?"])},
        {"go": (B, []), "v2": (F, ["?"])},
    )
    loop = node("Loop", ["n", "", "x"], ["y"], body=body, name="grow")
    proto = model([loop], {"x": (F, [2]), "n": (I64, [])}, {"y": (F, ["?"])})
    with pytest.raises(UnsupportedModel, match=r"grow: Loop .*'x' is f32\[2\] at first and f32\[4\] after a turn"):
        import_model(proto)
    assert import_model(proto, binds={"n": 3}).outputs[0].shape == (16,)
    stack = graph(
        "body",
        [node("Identity", ["x"], ["o"]), node("Identity", ["c"], ["go"])],
        {"i": (I64, []), "c": (B, [])},
        {"go": (B, []), "o": (F, [2])},
    )
    proto = model([node("Loop", ["n", ""], ["y"], body=stack)], {"x": (F, [2]), "n": (I64, [])}, {"y": (F, ["?", 2])})
    with pytest.raises(UnsupportedModel, match="nothing bounds their number"):
        import_model(proto)


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


def test_a_loop_stacks_a_result_for_each_turn_that_it_takes(tmp_path: Path) -> None:
    body = graph(
        "body",
        [
            node("Mul", ["v", "two"], ["w"]),
            node("ReduceMax", ["w"], ["m"], keepdims=0),
            node("Less", ["m", "end"], ["go"]),
        ],
        {"i": (I64, []), "c": (B, []), "v": (F, [3])},
        {"go": (B, []), "w": (F, [3]), "w2": (F, [3])},
        [helper.make_tensor("two", F, [], [2.0])],
    )
    body.node.append(node("Neg", ["w"], ["w2"]))
    loop = node("Loop", ["most", ""], ["last", "all"], body=body)
    loop.input.append("x")
    proto = model(
        [loop, node("ReduceSum", ["all", "axes"], ["sum"], keepdims=0)],
        {"x": (F, [3]), "end": (F, [])},
        {"last": (F, [3]), "all": (F, ["?", 3]), "sum": (F, [3])},
        [numpy_helper.from_array(np.int64(2000), "most"), numpy_helper.from_array(np.asarray([0], np.int64), "axes")],
    )
    x = np.asarray([1, -2, 0.5], np.float32)
    check(proto, tmp_path, *({"x": x, "end": np.asarray(end, np.float32)} for end in (1.0, 5.0, 900.0)))


def test_a_loop_over_what_was_found(tmp_path: Path) -> None:
    body = graph(
        "body",
        [
            node("Gather", ["p", "i"], ["row"], axis=0),
            node("GatherND", ["x", "row"], ["v"]),
            node("Add", ["s", "v"], ["s2"]),
            node("Identity", ["c"], ["go"]),
            node("Neg", ["v"], ["out"]),
        ],
        {"i": (I64, []), "c": (B, []), "s": (F, [])},
        {"go": (B, []), "s2": (F, []), "out": (F, [])},
    )
    nodes = [
        node("NonZero", ["x"], ["n"]),
        node("Transpose", ["n"], ["p"]),
        node("Shape", ["p"], ["shape"], start=0, end=1),
        node("Squeeze", ["shape"], ["turns"]),
        node("Loop", ["turns", "", "zero"], ["sum", "each"], body=body),
    ]
    zero = helper.make_tensor("zero", F, [], [0.0])
    proto = model(nodes, {"x": (F, [3, 4])}, {"sum": (F, []), "each": (F, ["?"])}, [zero])
    check(proto, tmp_path, {"x": np.maximum(f32(3, 4), 0)}, {"x": 0 * f32(3, 4)}, {"x": abs(f32(3, 4)) + 1})


def test_branches_of_different_ranks_are_refused() -> None:
    then = graph("then", [node("Identity", ["x"], ["t"])], {}, {"t": (F, [2])})
    other = graph("other", [node("Unsqueeze", ["x", "axes"], ["e"])], {}, {"e": (F, [1, 2])})
    other.initializer.append(numpy_helper.from_array(np.asarray([0], np.int64), "axes"))
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    proto = model(nodes, {"x": (F, [2]), "c": (B, [])}, {"y": (F, ["?"])})
    with pytest.raises(UnsupportedModel, match=r"its branches give f32\[2\] and f32\[1, 2\]"):
        import_model(proto)
    assert import_model(proto, binds={"c": False}).outputs[0].shape == (1, 2)
