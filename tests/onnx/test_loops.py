"""Loop and Scan through the whole compiler, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgec import UnsupportedModel
from edgec.compiler.importer import import_model

from .control import I64, B, F, W, check, f32, graph, i64, model, node


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


@pytest.mark.parametrize(("end", "most"), [(3, None), (300, None), (300, 300), (300, 200)])
def test_a_condition_that_counts_bounds_a_loop(end: int, most: int | None, tmp_path: Path) -> None:
    """As TensorFlow's `while` becomes, with a number of turns beside it or without: weights and limit are carried from
    turn to turn as well, and the last of what turns stack is wanted."""
    turns = end if most is None else most
    body = graph(
        "body",
        [
            node("Add", ["t", "one"], ["t2"]),
            node("Less", ["t2", "end"], ["go"]),
            node("MatMul", ["v", "kernel"], ["p"]),
            node("Tanh", ["p"], ["v2"]),
            node("Identity", ["kernel"], ["kernel2"]),
            node("Identity", ["end"], ["end2"]),
            node("Neg", ["v2"], ["each"]),
        ],
        {"i": (I64, []), "c": (B, []), "t": (I64, []), "v": (F, [3, 4]), "kernel": (F, [4, 4]), "end": (I64, [])},
        {"go": (B, []), "t2": (I64, []), "v2": (F, [3, 4]), "kernel2": (F, [4, 4]), "end2": (I64, []),
         "each": (F, [3, 4])},
    )  # fmt: skip
    loop = node(
        "Loop",
        ["" if most is None else "most", "go0", "t0", "x", "calm", "end0"],
        ["t_", "v_", "w_", "end_", "all"],
        body=body,
    )
    weights = [numpy_helper.from_array(numpy_helper.to_array(W) / 4, "calm")]
    weights += [
        numpy_helper.from_array(np.int64(n), name)
        for n, name in ((0, "t0"), (1, "one"), (end, "end0"), (turns, "most"))
    ]
    weights += [numpy_helper.from_array(np.asarray([n]), name) for n, name in ((-1, "from"), (2**31 - 1, "to"))]
    outputs = {"v_": (F, [3, 4]), "t_": (I64, []), "w_": (F, [4, 4]), "all": (F, ["?", 3, 4]), "last": (F, ["?", 3, 4])}
    around = [node("Less", ["t0", "end0"], ["go0"]), loop, node("Slice", ["all", "from", "to"], ["last"])]
    proto = model(around, {"x": (F, [3, 4])}, outputs, weights)
    steps = check(proto, tmp_path, {"x": f32(3, 4)})
    assert any("back" in name for name in steps) == (turns > 3)
    if turns > 3:
        (made,) = (n for n in import_model(proto).nodes() if n.op == "Loop")
        assert made.attrs["carried"] == 2 and made.attrs["limit"] == turns  # the counter and v


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
