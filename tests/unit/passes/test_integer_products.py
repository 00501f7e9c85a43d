"""MatMulInteger becomes a product of bytes, whatever its zero points: bit for bit, by the kernels made for bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.importer import import_model
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.target import find_target
from tests.support.spelled_in_bytes import integers_of, nodes_of_bytes, steps_of_bytes

RNG = np.random.default_rng(11)
K, N = 37, 21


def product(
    a: Any, weights: Any, a_zero: Any = None, b_zero: Any = None, known: bool = False, computed: bool = False
) -> tuple[Graph, Any]:
    """A MatMulInteger of inputs `a` and `a_zero` (`known`: a constant) and constants (`computed`: of inputs), and its
    feeds."""
    values = {"a": a, "b": weights, "a_zero": a_zero, "b_zero": b_zero}
    fixed = (set() if computed else {"b", "b_zero"}) | ({"a_zero", "b_zero"} if known else set())
    names = [name if values[name] is not None else "" for name in values]
    feeds = {name: values[name] for name in names if name and name not in fixed}
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()
    ]
    result = helper.make_tensor_value_info("y", TensorProto.INT32, np.matmul(a, weights).shape)
    held = [numpy_helper.from_array(values[n], n) for n in names if n in fixed]
    nodes = [helper.make_node("MatMulInteger", names, ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, [result], held), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.checker.check_model(model)
    return import_model(model), feeds


def integers(low: int, high: int, shape: tuple[int, ...], kind: Any) -> Any:
    return RNG.integers(low, high, shape, endpoint=True).astype(kind)


def u8(*shape: int) -> Any:
    return integers(0, 255, shape, np.uint8)


def i8(*shape: int) -> Any:
    return integers(-128, 127, shape, np.int8)


CASES = {
    "a zero point that an input gives": (u8(5, K), i8(K, N), u8()),
    "one per row": (u8(2, 5, K), i8(K, N), u8(2, 5, 1)),
    "one in an array": (u8(5, K), i8(K, N), u8(1)),
    "i8": (i8(3, 5, K), i8(K, N), i8()),
    "no zero point": (u8(5, K), i8(K, N)),
    "no zero point of i8": (i8(5, K), i8(K, N)),
    "a constant zero point": (u8(5, K), i8(K, N), u8(), None, True),
    "a constant one of i8": (i8(5, K), i8(K, N), i8(), None, True),
    "weights of u8 around 128": (u8(5, K), u8(K, N), u8(), np.uint8(128)),
    "weights of u8 around 3": (u8(5, K), u8(K, N), u8(), np.uint8(3)),
    "weights of u8 around 0, rows with zero points": (u8(2, 5, K), u8(K, N), u8(2, 5, 1)),
    "weights of i8 around -100, i8": (i8(5, K), i8(K, N), i8(), np.int8(-100)),
    "weights beyond i8, a constant zero point": (u8(5, K), u8(K, N), u8(), u8(N), True),
    "weights with a zero point per column": (u8(5, K), integers(100, 150, (K, N), np.uint8), u8(), u8(N) // 8 + 110),
}


@pytest.mark.parametrize("target", ["x86-avx512", "x86", "arm", "cortex-m55"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_becomes_a_product_of_bytes(case: Any, target: str) -> None:
    graph, feeds = product(*case)
    nodes = nodes_of_bytes(graph, feeds, target)
    assert "MatMul" not in nodes
    assert nodes["Edgec.MatMulInteger"].args[0].type.dtype == find_target(target).bytes_held


def test_weights_that_reach_over_more_than_eight_bits_stay_wide() -> None:
    a, b = (
        Value(Node("Input", (), (Type(kind, shape),), {}, name))
        for name, kind, shape in (("a", "u8", (5, K)), ("z", "i32", ()))
    )
    wide = const(integers(-200, 200, (K, N), np.int32))
    graph = Graph("g", (a, b), (build("MatMul", build("Sub", build("Cast", a, to="i32"), b), wide),), ("y",))
    assert any(node.op == "MatMul" for node in integers_of(graph).nodes())


@pytest.mark.parametrize("target", ["x86-avx512", "x86"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_of_bytes_give_its_bits(case: Any, target: str) -> None:
    graph, feeds = product(*case)
    steps = steps_of_bytes(graph, feeds, target)
    assert any(step.row == "matmul_int8_packed" for step in steps)


COMPUTED = {
    "u8": (u8(2, 5, K), u8(2, K, N)),
    "u8 with zero points": (u8(2, 5, K), u8(2, K, N), u8(), u8()),
    "one for all products": (u8(2, 3, 5, K), i8(3, K, N), u8(), i8()),
    "i8 with zero points": (i8(5, K), i8(K, N), i8(), i8(1)),
    "a zero point on the left": (u8(5, K), u8(K, N), u8(1)),
    "one on the right": (i8(5, K), u8(K, N), None, u8()),
    "one per row": (u8(2, 5, K), u8(2, K, N), u8(2, 5, 1), u8()),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("case", COMPUTED.values(), ids=COMPUTED)
def test_two_computed_operands_become_a_product_of_bytes(case: Any, known: bool) -> None:
    case = (*case, *(None,) * (4 - len(case)))
    graph, feeds = product(*case, known, computed=True)
    nodes = nodes_of_bytes(graph, feeds, "x86-avx512")
    assert "MatMul" not in nodes and nodes["Edgec.MatMulInteger"].args[0].type.dtype == "u8"
    assert any(step.row == "matmul_int8_dynamic" for step in steps_of_bytes(graph, feeds, "x86-avx512"))


@pytest.mark.parametrize("target", ["x86", "arm", "cortex-m55"])
def test_two_computed_operands_stay_wide_without_a_kernel_for_them(target: str) -> None:
    graph, feeds = product(*COMPUTED["u8 with zero points"], computed=True)
    assert "MatMul" in nodes_of_bytes(graph, feeds, target)


def test_a_product_with_itself_stays_wide() -> None:
    x = Value(Node("Input", (), (Type("u8", (K, K)),), {}, "x"))
    wide = build("Cast", x, to="i32")
    graph = Graph("g", (x,), (build("MatMul", wide, wide),), ("y",))
    assert "MatMul" in nodes_of_bytes(graph, {"x": u8(K, K)}, "x86-avx512")
