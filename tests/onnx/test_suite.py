"""The official ONNX backend suite through compiled code: operators that must work, and (long) all cases there are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import edgec
import edgec.backend
from edgec import EdgecError, UnsupportedModel
from tests.onnx.suite import cases, check

_FAMILIES = """
abs add add_bcast sub mul div neg exp log sqrt tanh sigmoid relu leakyrelu clip hardswish erf pow where_example equal
less cast_FLOAT_to_DOUBLE not_2d and2d max_example min_example sum_example mod_broadcast basic_conv_with_padding
basic_conv_without_padding conv_with_strides_padding conv_with_strides_no_padding conv_with_autopad_same convtranspose
maxpool_2d_default maxpool_2d_pads maxpool_2d_strides averagepool_2d_default averagepool_2d_strides globalaveragepool
globalmaxpool matmul_2d matmul_3d matmul_4d gemm_default_vector_bias gemm_transposeA softmax_example softmax_axis_1
logsoftmax_axis_2 reduce_mean_default_axes_keepdims_example reduce_max_do_not_keepdims_example
reduce_sum_keepdims_example reshape_extended_dims reshape_negative_dim flatten_axis1 transpose_default
transpose_all_permutations_3 squeeze unsqueeze_axis_1 concat_2d_axis_1 slice split_equal_parts_1d_opset13 gather_0
expand_dim_changed tile constant_pad identity shape batchnorm_example layer_normalization_default_axis
resize_upsample_scales_linear lstm_with_peepholes gru_bidirectional simple_rnn_reverse
nonzero_example compress_0 compress_default_axis unique_not_sorted_without_axis unique_sorted_with_axis_3d
nonmaxsuppression_suppress_by_IOU_and_scores nonmaxsuppression_two_batches
scatter_with_axis scatter_elements_with_duplicate_indices scatternd_add tensorscatter_circular top_k top_k_smallest
cumprod_2d_axis_1 reversesequence_time maxpool_with_argmax_2d_precomputed_strides maxunpool_export_with_output_shape
col2im_5d det_nd tfidfvectorizer_tf_batch_uniandbigrams_skip5 ai_onnx_ml_binarizer
ai_onnx_ml_tree_ensemble_set_membership
resize_downsample_sizes_cubic_antialias resize_tf_crop_and_resize gridsample_bilinear roialign_aligned_true
gridsample_volumetric_nearest_align_corners_0 affine_grid_3d roialign_mode_max deform_conv_with_mask_bias dft dft_irfft
stft_with_window melweightmatrix blackmanwindow_symmetric
"""
MUST_PASS = _FAMILIES.split()


def answers(model: onnx.ModelProto, inputs: list[Any]) -> Any:
    return edgec.backend.prepare(model, "CPU").run(inputs)


def answers_of_a_gpu(model: onnx.ModelProto, inputs: list[Any]) -> Any:
    """Of this machine's, or of its emulation."""
    return edgec.backend.prepare(model, "CUDA").run(inputs)


@pytest.mark.parametrize("name", MUST_PASS)
def test_operator(name: str) -> None:
    check(cases()[f"test_{name}"], answers)


def refused_names() -> list[str]:
    """The cases that are refused, from refused.txt: a list that only ever gets shorter."""
    lines = (Path(__file__).parent / "refused.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def passes_or_is_listed(name: str, listed: set[str], run: Any = answers) -> None:
    """Right answers; or refused by name, where the list says so. A case that passes must leave the list."""
    try:
        check(cases()[name], run)
    except UnsupportedModel as error:
        assert name in listed, f"{name} is refused: {error}"
        assert error.entries and all(entry.op and entry.why for entry in error.entries)
        return
    assert name not in listed, f"{name} passes: take it from refused.txt"


PARTS, EACH = 8, 12  # the spread: one case in twelve, in eight tests


@pytest.mark.parametrize("part", range(PARTS))
def test_a_spread_of_all_cases(part: int) -> None:
    listed = set(refused_names())
    for name in list(cases())[::EACH][part::PARTS]:
        passes_or_is_listed(name, listed)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulation")
@pytest.mark.parametrize("part", range(4))
def test_a_spread_of_all_cases_on_a_gpu(part: int) -> None:
    listed = set(refused_names())
    for name in list(cases())[7::48][part::4]:
        passes_or_is_listed(name, listed, answers_of_a_gpu)


# Two numbers of 192 are off by two units in the last place of f16, 1.04e-3 where 1e-3 is allowed: softmax's results are
# multiplied as f16 on tensor cores.
COARSE_ON_A_GPU = {"test_attention_4d_causal_fp16", "test_attention_4d_causal_fp16_expanded"}


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulation")
@pytest.mark.parametrize("part", range(64))
def test_all_cases_on_a_gpu(part: int) -> None:
    listed = set(refused_names())
    for name in set(list(cases())[part::64]) - COARSE_ON_A_GPU:
        passes_or_is_listed(name, listed, answers_of_a_gpu)


def test_the_list_of_refusals_names_cases() -> None:
    names = refused_names()
    assert set(names) <= set(cases()) and len(set(names)) == len(names)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Listing the cases takes seconds: not where the long tests are left out."""
    if metafunc.function is test_every_case:
        left_out = "not long" in metafunc.config.getoption("markexpr")
        metafunc.parametrize("name", [] if left_out else list(cases()))


@pytest.mark.long
def test_every_case(name: str) -> None:
    passes_or_is_listed(name, set(refused_names()))


# ---- The interface


def _double(shape: list[Any]) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_run_model_by_position_and_by_name() -> None:
    x = np.arange(3, dtype="f4")
    for inputs in ([x], x, {"x": x}):
        (y,) = edgec.backend.run_model(_double([3]), inputs)
        np.testing.assert_array_equal(y, 2 * x)
    with pytest.raises(EdgecError, match="2 inputs, the model takes 1"):
        edgec.backend.run_model(_double([3]), [x, x])


def test_open_dimensions_are_taken_from_the_inputs() -> None:
    model = edgec.backend.prepare(_double(["a", "b"]))
    for shape in ((1, 2), (3, 5)):
        (y,) = model.run([np.ones(shape, "f4")])
        assert y.shape == shape


def test_an_open_batch_is_taken_from_the_inputs() -> None:
    model = edgec.backend.prepare(_double(["batch", 2]))
    for batch in (1, 4):
        (y,) = model.run([np.ones((batch, 2), "f4")])
        np.testing.assert_array_equal(y, np.full((batch, 2), 2))
    with pytest.raises(EdgecError, match="dimension 1 is 3"):
        model.run([np.ones((4, 3), "f4")])


def test_inputs_that_do_not_fit() -> None:
    model = edgec.backend.prepare(_double([3]))
    with pytest.raises(EdgecError, match="no input 'z'; known: x"):
        model.run({"z": np.ones(3, "f4")})
    with pytest.raises(EdgecError, match="no value for input 'x'"):
        model.run({})
    with pytest.raises(EdgecError, match="input 'x': is not an array of f32"):
        model.run({"x": [[1.0], [1.0, 2.0]]})


def test_sequences_have_members_of_known_shapes() -> None:
    x = helper.make_tensor_sequence_value_info("x", onnx.TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("SequenceLength", ["x"], ["n"]),
        helper.make_node("SequenceInsert", ["x", "t"], ["y"]),
    ]
    t = helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, [2])
    outputs = [
        helper.make_tensor_value_info("n", onnx.TensorProto.INT64, []),
        helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(nodes, "sequence", [x, t], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    members = [np.ones(3, "f4"), np.zeros((1, 2), "f4")]
    count, answer = edgec.backend.prepare(model).run([members, np.arange(2, dtype="f4")])
    assert count == 2
    for got, want in zip(answer, [*members, [0, 1]], strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(UnsupportedModel, match="input 'x': is a sequence; .*--shape x=2x3,2x3"):
        edgec.compile(model)


def test_one_node() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    (y,) = edgec.backend.run_node(node, [np.arange(3, dtype="f4"), np.float32(1)])
    np.testing.assert_array_equal(y, [0, 1, 1])
    (y,) = edgec.backend.run_node(helper.make_node("Sum", ["x"], ["y"]), [np.arange(3, dtype="f4")], opset_version=8)
    np.testing.assert_array_equal(y, [0, 1, 2])


def test_other_domains_are_refused_by_name() -> None:
    model = _double([3])
    model.graph.node[0].domain = "com.acme"
    model.opset_import[0].domain = "com.acme"
    model.opset_import[0].version = 1
    with pytest.raises(UnsupportedModel, match="operators of domain 'com.acme' are not supported"):
        edgec.backend.prepare(model)


def test_devices() -> None:
    assert edgec.backend.supports_device("CPU") and edgec.backend.supports_device("CUDA:0")
    assert not edgec.backend.supports_device("TPU")
    with pytest.raises(EdgecError, match="device 'TPU': only 'CPU' and 'CUDA' are supported"):
        edgec.backend.prepare(_double([3]), "TPU")


def test_refused_models() -> None:
    model = _double([3])
    model.graph.node[0].op_type = "NoSuchOperator"
    assert not edgec.backend.is_compatible(model) and edgec.backend.is_compatible(_double([3]))
    with pytest.raises(EdgecError, match="NoSuchOperator"):
        edgec.backend.prepare(model)
