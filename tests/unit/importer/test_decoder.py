"""A layer of a decoder with weights of 4 bits, as onnxruntime-genai writes it, answers as in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec

ort = pytest.importorskip("onnxruntime")
WIDE, HEADS, GROUPS, SIZE, HIDDEN, WORDS, BLOCK, ROOM = 64, 4, 2, 16, 96, 50, 32, 12
OURS = "com.microsoft"


class Layer:
    """Nodes and constants of the model; `steps` words behind a past that fills part of a buffer of ROOM steps."""

    def __init__(self, steps: int) -> None:
        self.rng, self.steps = np.random.default_rng(3), steps
        self.nodes: list[Any] = []
        self.held: dict[str, Any] = {}

    def add(self, op: str, args: list[str], outputs: list[str], domain: str = OURS, **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, args, outputs, outputs[0], domain=domain, **attrs))
        return outputs[0]

    def const(self, name: str, array: Any) -> str:
        self.held[name] = array
        return name

    def product(self, x: str, rows: int, columns: int, name: str) -> str:
        blocks = rows // BLOCK
        codes = self.rng.integers(0, 256, (columns, blocks, BLOCK // 2)).astype("u1")
        scales = (0.02 * self.rng.random((columns, blocks)) + 0.01).astype("f4")
        args = [x, self.const(f"{name}.w", codes), self.const(f"{name}.s", scales)]
        return self.add("MatMulNBits", args, [name], K=rows, N=columns, bits=4, block_size=BLOCK)

    def model(self) -> onnx.ModelProto:
        table = self.rng.integers(0, 256, (WORDS, WIDE // 2)).astype("u1")
        scales = (0.1 * self.rng.random((WORDS, WIDE // BLOCK)) + 0.05).astype("f4")
        args = [self.const("table", table), "ids", self.const("table.s", scales)]
        x = self.add("GatherBlockQuantized", args, ["x"], bits=4, block_size=BLOCK)
        ones = self.const("ones", np.ones(WIDE, "f4"))
        normal = self.add("SimplifiedLayerNormalization", [x, ones], ["normal"], "", axis=-1, epsilon=1e-5)
        angles = np.arange(ROOM)[:, None] * 10.0 ** -np.arange(SIZE // 2)[None]
        turns = [self.const("cos", np.cos(angles).astype("f4")), self.const("sin", np.sin(angles).astype("f4"))]
        self.counted()
        q, k, v = (
            self.product(normal, WIDE, n * SIZE, name) for n, name in ((HEADS, "q"), (GROUPS, "k"), (GROUPS, "v"))
        )
        seen = self.add(
            "GroupQueryAttention", [q, k, v, "past_k", "past_v", "last", "total", *turns],
            ["seen", "present_k", "present_v"], num_heads=HEADS, kv_num_heads=GROUPS, do_rotary=1,
        )  # fmt: skip
        args = [x, self.product(seen, HEADS * SIZE, WIDE, "o"), ones]
        normal = self.add("SkipSimplifiedLayerNormalization", args, ["after", "", "", "stream"], epsilon=1e-5)
        gate, up = (self.product(normal, WIDE, HIDDEN, name) for name in ("gate", "up"))
        swish = self.add("Mul", [gate, self.add("Sigmoid", [gate], ["open"], "")], ["swish"], "")
        down = self.product(self.add("Mul", [swish, up], ["both"], ""), HIDDEN, WIDE, "down")
        last = self.add("SkipSimplifiedLayerNormalization", ["stream", down, ones], ["end"], epsilon=1e-5)
        self.product(last, WIDE, WORDS, "logits")
        return self.built()

    def counted(self) -> None:
        """How many keys count, and how many there are, by the mask."""
        axis, place = self.const("axis", np.asarray([1], "i8")), self.const("place", np.asarray(1, "i8"))
        many = self.add("ReduceSum", ["mask", axis], ["many"], "", keepdims=0)
        self.add("Cast", [self.add("Sub", [many, axis], ["less"], "")], ["last"], "", to=TensorProto.INT32)
        shape = self.add("Shape", ["mask"], ["shape"], "")
        self.add("Cast", [self.add("Gather", [shape, place], ["wide"], "")], ["total"], "", to=TensorProto.INT32)

    def built(self) -> onnx.ModelProto:
        cache = [1, GROUPS, ROOM, SIZE]
        ints = {"ids": [1, self.steps], "mask": [1, ROOM]}
        inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in ints.items()]
        inputs += [helper.make_tensor_value_info(n, 1, cache) for n in ("past_k", "past_v")]
        outputs = [helper.make_tensor_value_info("logits", 1, [1, self.steps, WORDS])]
        outputs += [helper.make_tensor_value_info(n, 1, cache) for n in ("present_k", "present_v")]
        held = [numpy_helper.from_array(a, n) for n, a in self.held.items()]
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, held)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(OURS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize(("steps", "counted"), [(1, 7), (3, 9), (1, ROOM)])
def test_a_layer_of_a_decoder(steps: int, counted: int, tmp_path: Path) -> None:
    proto = Layer(steps).model()
    onnx.save(proto, tmp_path / "m.onnx")
    rng = np.random.default_rng(4)
    past = {n: rng.standard_normal((1, GROUPS, ROOM, SIZE)).astype("f4") for n in ("past_k", "past_v")}
    mask = (np.arange(ROOM)[None] < counted).astype(np.int64)
    given = {"ids": rng.integers(0, WORDS, (1, steps)), "mask": mask, **past}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = dict(zip(("logits", "k", "v"), session.run(None, given), strict=True))
    bundle = edgec.compile(tmp_path / "m.onnx", out=tmp_path / "out")
    kernels = [step["kernel"].split()[0] for step in bundle.manifest["steps"]]
    assert kernels.count("matmul_few_bits") == 8
    assert [k for k in kernels if k.startswith("attention")] and kernels.count("tensor_scatter") == 2
    got = edgec.load(tmp_path / "out").run(given)
    np.testing.assert_allclose(got["logits"], want["logits"], rtol=1e-4, atol=1e-5 * np.abs(want["logits"]).max())
    for name in ("k", "v"):
        now, before = got[f"present_{name}"], past[f"past_{name}"]
        np.testing.assert_allclose(now[:, :, :counted], want[name][:, :, :counted], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(now[:, :, counted:], before[:, :, counted:])
