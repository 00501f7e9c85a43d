"""What language models are exported with answers as in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgec.compiler.errors import UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.unit.importer.test_fused import I32, RNG, f32, model, same

ort = pytest.importorskip("onnxruntime")
I64 = np.int64
OFF = 1e-5


def tables(places: int, half: int) -> list[Any]:
    angles = np.arange(places)[:, None] * 10.0 ** -np.arange(half)[None]
    return [np.cos(angles).astype("f4"), np.sin(angles).astype("f4")]


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("position", [np.asarray([3], I64), np.asarray([[1, 2, 3], [4, 0, 2]], I64)])
def test_rotations(position: Any, interleaved: int) -> None:
    same("RotaryEmbedding", [f32(2, 3, 16), position, *tables(9, 4)], feeds=2, off=OFF, interleaved=interleaved)
    same("RotaryEmbedding", [f32(2, 2, 3, 8), position, *tables(9, 4)], feeds=2, off=OFF, interleaved=interleaved)


def test_rotation_of_a_part_of_each_head() -> None:
    args = [f32(1, 3, 16), np.asarray([[0, 5, 7]], I64), *tables(9, 2)]
    same("RotaryEmbedding", args, feeds=2, off=OFF, num_heads=2, rotary_embedding_dim=4)


def grouped(
    steps: int, room: int, counts: list[int], total: int, packed: bool = False, bias: bool = False, **attrs: Any
) -> None:
    """Four heads of queries, two of keys and values; what counts of present keys and values is compared."""
    batch, size = len(counts), 16
    q, k, v = f32(batch, steps, 4 * size), f32(batch, steps, 2 * size), f32(batch, steps, 2 * size)
    qkv = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
    past = [f32(batch, 2, room, size), f32(batch, 2, room, size)]
    args = [*qkv, *past, np.asarray(counts, I32) - 1, np.asarray([total], I32)]
    args += tables(total, size // 2) if attrs.get("do_rotary") else [None, None]
    args += [None, f32(1, 4, steps, total)] if bias else []
    names = ("y", "k", "v")
    proto, given = model("GroupQueryAttention", args, names, 4 if packed else 6, num_heads=4, kv_num_heads=2, **attrs)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = dict(zip(names, session.run(None, given), strict=True))
    got = interpret(import_model(proto), given)
    np.testing.assert_allclose(got["y"], want["y"], rtol=OFF, atol=OFF)
    for name in ("k", "v"):
        assert got[name].shape == want[name].shape
        for i, n in enumerate(counts):
            np.testing.assert_allclose(got[name][i, :, :n], want[name][i, :, :n], rtol=OFF, atol=OFF)


@pytest.mark.parametrize("rotary", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}])
@pytest.mark.parametrize("packed", [False, True])
def test_grouped_queries(packed: bool, rotary: dict[str, int]) -> None:
    """A prompt; one more word, behind a past that just grows and in a buffer with room; some more words."""
    grouped(5, 0, [5], 5, packed, **rotary)
    grouped(1, 6, [7], 7, packed, **rotary)
    grouped(1, 9, [4, 7], 9, packed, **rotary)
    grouped(3, 9, [6], 9, packed, **rotary)


def test_grouped_queries_otherwise() -> None:
    grouped(4, 0, [4], 4, local_window_size=2)
    grouped(1, 9, [8], 9, local_window_size=3, softcap=2.0)
    grouped(3, 5, [8], 8, scale=0.2, bias=True)
    grouped(3, 9, [6], 9, causal=0)


def test_how_many_keys_there_are_must_be_known() -> None:
    args = [f32(1, 1, 32), f32(1, 1, 16), f32(1, 1, 16), f32(1, 2, 8, 8), f32(1, 2, 8, 8), np.asarray([4], I32)]
    proto, _ = model("GroupQueryAttention", [*args, np.asarray([9], I32)], feeds=7, num_heads=4, kv_num_heads=2)
    with pytest.raises(UnsupportedModel, match=r"its total_sequence_length \('a6'\) is computed.*--bind"):
        import_model(proto)


def test_attention_with_a_past() -> None:
    args = [f32(2, 3, 12), f32(12, 24), f32(24), None, f32(2, 2, 2, 4, 4)]
    same("Attention", args, ("y", "present"), num_heads=2, unidirectional=1, off=OFF)
    lengths = np.asarray([[1] * 7, [0, 1, 1, 1, 1, 1, 0]], I32)
    same("Attention", [*args[:3], lengths, args[4]], ("y", "present"), num_heads=2, off=OFF)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_attention_of_three_tensors_with_a_past(one_by_one: bool) -> None:
    past = [f32(2, 2, 4, 6), f32(2, 2, 4, 6)]
    args = [f32(2, 3, 12), f32(2, 3, 12), f32(2, 3, 12), f32(36) if one_by_one else None, None, f32(1, 2, 3, 7), *past]
    same("MultiHeadAttention", args, ("y", "k", "v"), 3, num_heads=2, off=OFF)


def test_attention_to_keys_that_are_split_already() -> None:
    same("MultiHeadAttention", [f32(2, 3, 12), f32(2, 2, 5, 6), f32(2, 2, 5, 6)], feeds=3, num_heads=2, off=OFF)


@pytest.mark.parametrize("columns", [False, True])
def test_attention_of_bytes(columns: bool) -> None:
    x, w = RNG.integers(0, 256, (2, 5, 12)).astype("u1"), RNG.integers(-128, 128, (12, 24)).astype("i1")
    scale = (0.01 * RNG.random(24) + 0.001).astype("f4") if columns else np.float32(0.01)
    mask = np.asarray([5, 3], I32)
    zeros = [np.uint8(130), np.zeros(24, "i1") if columns else np.int8(0)]
    same("QAttention", [x, w, f32(24), np.float32(0.02), scale, mask, *zeros], num_heads=2, off=OFF)


def test_normalization_without_a_mean() -> None:
    """ONNX Runtime has it in ONNX's own domain."""
    x, scale = f32(2, 3, 8), f32(8)
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "s"], ["y"], "it", axis=-1, epsilon=1e-4)
    ends = [helper.make_tensor_value_info(n, 1, x.shape) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(scale, "s")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(interpret(import_model(proto), {"x": x})["y"], session.run(None, {"x": x})[0], rtol=OFF)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_rows_of_a_table_of_few_bits(bits: int, zeros: bool) -> None:
    table, ids = RNG.integers(0, 256, (9, 48 * bits // 8)).astype("u1"), RNG.integers(0, 9, (2, 3)).astype(I64)
    zero = [RNG.integers(0, 256, (9, -(-3 * bits // 8))).astype("u1")] if zeros else []
    proto, _ = model("GatherBlockQuantized", [ids, table, f32(9, 3), *zero], bits=bits, block_size=16)
    names = proto.graph.node[0].input
    names[0], names[1] = names[1], names[0]
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    got = interpret(import_model(proto), {"a0": ids})["y"]
    np.testing.assert_allclose(got, session.run(None, {"a0": ids})[0], rtol=1e-6)
