"""What is wrong with a model or the flags is said in one line, before anything large is allocated."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model

FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Any = (("x", (1, 3)),),
    outputs: Any = (("y", None),),
    constants: Any = (),
    opset: int = 17,
    domains: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*d) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


RELU = helper.make_node("Relu", ["x"], ["y"])


def refused(source: Any, **options: Any) -> str:
    with pytest.raises(EdgecError) as caught:
        import_model(source, notice=lambda text: None, **options)
    text = str(caught.value)
    assert "\n" not in text and text
    return text


def test_files_that_are_no_models(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.onnx").endswith("no.onnx: no such file")
    assert "is not a file" in refused(tmp_path)
    content = model([RELU]).SerializeToString()
    for name, data in {"text": b"hello, world" * 9, "cut": content[:-20], "random": os.urandom(500)}.items():
        (tmp_path / name).write_bytes(data)
        assert "is not an ONNX model" in refused(tmp_path / name), name
    (tmp_path / "empty").write_bytes(b"")
    assert "is not an ONNX model, or is empty" in refused(str(tmp_path / "empty"))
    assert "is not an ONNX model" in refused(content[: len(content) // 2])


def test_every_truncation_is_refused_or_read() -> None:
    content = model([RELU], constants=[("w", np.ones(3, np.float32))]).SerializeToString()
    for n in range(0, len(content), 7):
        try:
            import_model(content[:n], notice=lambda text: None)
        except EdgecError as error:
            assert "\n" not in str(error)


def test_checker_failures_are_one_line() -> None:
    assert "Unrecognized attribute: slope" in refused(model([helper.make_node("Relu", ["x"], ["y"], slope=1.0)]))
    assert "has input size 2 not in range" in refused(model([helper.make_node("Relu", ["x", "x"], ["y"])]))


def test_cycle_is_named() -> None:
    first = helper.make_node("Add", ["x", "b"], ["a"], name="first")
    nodes = [first, helper.make_node("Relu", ["a"], ["b"], name="two")]
    assert "tiny: the graph is cyclic: " in refused(model(nodes, outputs=[("b", None)]))


def test_unsorted_nodes_are_sorted() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    assert [n.op for n in import_model(model(nodes)).nodes()] == ["Input", "Neg", "Relu"]


def test_missing_values_are_named() -> None:
    assert "'ghost'" in refused(model([helper.make_node("Add", ["x", "ghost"], ["y"])]))
    assert "Graph output 'z' is not an output of any node" in refused(model([RELU], outputs=[("z", None)]))


@pytest.mark.parametrize("opset", [1, 5])
def test_old_operator_sets_are_named(opset: int) -> None:
    assert f"is written for opset {opset}; expected 6 or later" in refused(model([RELU], opset=opset))


def test_operator_sets_to_come_are_refused() -> None:
    newest = onnx.defs.onnx_opset_version()
    said = refused(model([RELU], opset=newest + 1))
    assert f"is written for opset {newest + 1}; onnx {onnx.__version__}, which is installed, knows no later" in said


FLAGS: list[tuple[Any, dict[str, Any], str]] = [
    ((1, 3), {"shapes": {"xx": (1, 3)}}, r"--shape xx=...: the model has no input 'xx'; did you mean 'x'?"),
    ((1, 3), {"binds": {"z": 1}}, r"--bind z=...: the model has no input 'z'; known: x"),
    ((1, 3), {"shapes": {"x": (1, 3, 4)}}, "--shape x=1x3x4: has 3 dimensions; the input is 1x3"),
    ((1, 3), {"shapes": {"x": (1, 4)}}, "--shape x=1x4: dimension 1 is 4; the model fixes it: 1x3"),
    (("n", "height"), {"dims": {"hight": 4}}, "has no dimension 'hight'; did you mean 'height'?"),
    (("n", "height"), {"dims": {"height": 0}}, "a size is at least 1"),
    (("n", "h"), {}, "input 'x': dimension 'h' is open; give it with --shape x=NxN or --dim h=N"),
    (("n", None), {}, "input 'x': dimension 1 is open; give it with --shape x=NxN"),
    (("n", "?"), {}, "input 'x': dimension 1 is open; give it with --shape x=NxN"),
    (("n", "h", "w"), {}, "dimensions 'h', 'w' are open; give them with --shape x=NxNxN or --dim h=N --dim w=N"),
    (("n", 3, "h", None, None), {}, "dimensions 'h', 3, 4 are open; give them with --shape x=Nx3xNxNxN"),
    (("n", "h"), {"dims": {"h": 3}, "shapes": {"x": (1, 4)}}, "dimension 'h' is 4 here and 3 elsewhere"),
    (None, {}, "input 'x': has no shape in the model"),
    ((1, 3), {"binds": {"x": np.zeros(4)}}, "--bind x: has shape [4]; the input is [1, 3]"),
    ((1, 3), {"binds": {"x": "many"}}, "is not of type f32"),
]


@pytest.mark.parametrize(("shape", "options", "text"), FLAGS)
def test_flags_that_do_not_fit(shape: Any, options: dict[str, Any], text: str) -> None:
    source = model([RELU], inputs=[("x", shape)])
    assert text in refused(source, **options)


def test_all_open_inputs_are_named_at_once() -> None:
    inputs = [("x", ("n", "length")), ("mask", ("n", "length")), ("state", (2, None, 128)), ("any", None)]
    assert refused(model([RELU], inputs=inputs)) == (
        "input 'x': dimension 'length' is open; give it with --shape x=NxN or --dim length=N"
        " | input 'state': dimension 1 is open; give it with --shape state=2xNx128"
        " | input 'any': has no shape in the model; give it with --shape any=1x3x224x224, say"
    )


def test_sizes_that_are_not_known_may_differ() -> None:
    """Some exporters write a question mark for every size that they do not know."""
    graph = import_model(model([RELU], inputs=[("x", ("?", 3, "?", "?"))]), shapes={"x": (1, 3, 48, 192)})
    assert graph.inputs[0].shape == (1, 3, 48, 192)


def test_a_symbolic_batch_is_one_with_a_notice() -> None:
    told: list[str] = []
    graph = import_model(model([RELU], inputs=[("x", ("batch", 3))]), notice=told.append)
    assert graph.inputs[0].shape == (1, 3)
    assert told == ["input 'x': first dimension 'batch' is taken as 1; --shape or --dim changes it"]
    graph = import_model(model([RELU], inputs=[("x", ("batch", 3))]), dims={"batch": 5}, notice=told.append)
    assert graph.inputs[0].shape == (5, 3) and len(told) == 1


def test_all_unsupported_nodes_are_listed() -> None:
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["a"], name="words"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Magic", ["b"], ["c"], domain="com.acme"),
        helper.make_node("Reluu", ["c"], ["d"], name="typo"),
        helper.make_node("StringNormalizer", ["d"], ["y"]),
    ]
    with pytest.raises(UnsupportedModel) as caught:
        import_model(model(nodes, domains=[("com.acme", 1)]))
    assert [(e.node, e.op, e.opset) for e in caught.value.entries] == [
        ("words", "StringNormalizer", 17),
        ("c", "Magic", 1),  # of its own domain
        ("typo", "Reluu", 17),
        ("y", "StringNormalizer", 17),
    ]
    text = str(caught.value)
    assert text.startswith("tiny: 4 unsupported nodes: words, y: StringNormalizer (opset 17): ")
    for part in (
        "it works on strings; prepare text in your program",
        "domain 'com.acme'",
        "not an operator of ONNX; did you mean 'Relu'?",
    ):
        assert part in text
    assert "\n" not in text


def test_computed_shapes_are_refused_with_help() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "s"], ["y"], name="r"),
    ]
    text = refused(model(nodes, inputs=[("x", (2,))]))
    assert "r: Reshape (opset 17): its shape ('s') is computed while the model runs; expected a constant" in text


def test_element_types_without_a_name_here() -> None:
    source = model([RELU])
    source.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    assert "input 'x': element type STRING is not supported" in refused(source)


def test_shapes_that_contradict_name_the_node() -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"], name="sum")
    assert "tiny: node 'sum' (Add): shapes [1, 3] and [4] do not broadcast" in refused(
        model([node], constants=[("w", np.ones(4, np.float32))])
    )


def test_absurd_sizes_are_refused_before_they_are_allocated() -> None:
    assert "input 'x': f32[1, 1099511627776]" in refused(model([RELU], inputs=[("x", (1, 1 << 40))]))
    huge = [("s", np.asarray([1 << 31, 1 << 31, 1 << 31], np.int64))]
    for op in ("ConstantOfShape", "Expand", "Tile"):
        args = ["s"] if op == "ConstantOfShape" else ["t", "s"]
        source = model([helper.make_node(op, args, ["y"])], constants=[*huge, ("t", np.ones((1, 1, 1), np.float32))])
        assert f"({op}): f32[2147483648, 2147483648, 2147483648] would hold" in refused(source), op
    ends = [(n, np.asarray(v, np.int64)) for n, v in (("a", 0), ("b", 1 << 62), ("c", 1))]
    assert "(Range)" in refused(model([helper.make_node("Range", ["a", "b", "c"], ["y"])], constants=ends))
    pads = [("p", np.asarray([0, 0, 0, 1 << 60], np.int64))]
    assert "would hold" in refused(model([helper.make_node("Pad", ["x", "p"], ["y"])], constants=pads))


def test_large_foldable_constants_stay_computed() -> None:
    """64 MiB is the limit: a zero-filled 256 MiB tensor is not stored in the bundle."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["z"]), helper.make_node("Add", ["z", "x"], ["y"])]
    shape = [("s", np.asarray([1 << 26], np.int64))]
    graph = import_model(model(nodes, inputs=[("x", (1,))], constants=shape))
    assert [n.op for n in graph.nodes()] == ["Input", "Const", "Expand", "Add"]


def test_data_that_does_not_fit_its_shape() -> None:
    source = model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[("w", np.ones(3, np.float32))])
    source.graph.initializer[0].dims[0] = 1 << 50
    assert "w" in refused(source)


def wide(columns: int = 1 << 18) -> onnx.ModelProto:
    weights = np.ones((1, columns), np.float32)
    return model([helper.make_node("Add", ["x", "w"], ["y"])], inputs=[("x", (1, 1))], constants=[("w", weights)])


def test_the_checker_gets_no_copy_of_large_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, check = list[int](), onnx.checker.check_model

    def checked(given: onnx.ModelProto) -> None:
        sizes.append(given.ByteSize())
        check(given)

    monkeypatch.setattr(onnx.checker, "check_model", checked)
    graph = import_model(wide())
    assert sizes[0] < 1000 and graph.outputs[0].shape == (1, 1 << 18)


@pytest.mark.parametrize("dims", [(1, 1 << 19), (1, 1 << 17), (-1, -(1 << 18))])
def test_large_data_that_does_not_fit_its_shape(dims: tuple[int, int]) -> None:
    source = wide()
    source.graph.initializer[0].dims[:] = dims
    assert "w" in refused(source)


def external(folder: Path, location: str, **entries: int) -> Path:
    source = model([helper.make_node("Add", ["x", "w"], ["y"])], constants=[("w", np.ones(3, np.float32))])
    tensor = source.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "m.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def test_external_data_stays_in_the_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 12)
    (inner / "link").symlink_to(tmp_path / "secret")
    for location in ("../secret", "/etc/passwd", "", "link"):
        assert "lies outside the model's folder" in refused(external(inner, location)), location
    assert "'w.bin' is not there" in refused(external(inner, "w.bin"))
    (inner / "w.bin").write_bytes(np.asarray([1, 2, 3], np.float32).tobytes())
    assert "are beyond the end" in refused(external(inner, "w.bin", offset=4, length=12))
    assert "has no folder" in refused(external(inner, "w.bin").read_bytes())
    graph = import_model(external(inner, "w.bin", length=12))
    assert [n.op for n in graph.nodes()] == ["Input", "Const", "Add"]


def test_deep_graphs_do_not_exhaust_the_stack() -> None:
    count = sys.getrecursionlimit() * 3
    nodes = [helper.make_node("Neg", [f"v{k}" if k else "x"], [f"v{k + 1}"]) for k in range(count)]
    graph = import_model(model(nodes, outputs=[(f"v{count}", None)]))
    assert sum(1 for _ in graph.nodes()) == count + 1


def test_randomness_and_training() -> None:
    def one(op: str, args: str, results: str = "y", opset: int = 17, constants: Any = (), **attrs: Any) -> str:
        node = helper.make_node(op, args.split(), results.split(), **attrs)
        outputs = [(name, None) for name in results.split()]
        return refused(model([node], [("x", (2, 3))], outputs, constants, opset))

    for op in ("Bernoulli", "RandomNormalLike", "RandomUniformLike", "Multinomial"):
        assert "it draws random numbers, and ONNX does not say which" in one(op, "x")
    for op in ("RandomNormal", "RandomUniform"):
        assert f"y: {op} (opset 17): it draws random numbers" in one(op, "", shape=[2])
    assert "it drops values at random" in one("Dropout", "x", opset=6)
    training = [("ratio", np.float32(0.5)), ("on", np.bool_(True))]
    assert "it drops values at random in training mode" in one("Dropout", "x ratio on", constants=training)
    four = [(name, np.ones(3, np.float32)) for name in "sbmv"]
    assert "has in training mode only" in one("BatchNormalization", "x s b m v", "y mean var", constants=four)
    assert "it is in training mode" in one("BatchNormalization", "x s b m v", opset=6, constants=four)
