"""ConvInteger becomes a convolution of bytes, whatever its zero points: bit for bit, by the kernels made for bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.importer import import_model
from edgec.compiler.target import find_target
from tests.support.spelled_in_bytes import integers_of, nodes_of_bytes, steps_of_bytes

RNG = np.random.default_rng(12)


def convolution(x: Any, w: Any, x_zero: Any = None, w_zero: Any = None, known: bool = False, **attrs: Any) -> Any:
    """A ConvInteger of inputs `x` and `x_zero` (`known`: a constant) and constants; its feeds and what it gives."""
    values = {"x": x, "w": w, "x_zero": x_zero, "w_zero": w_zero}
    fixed = {"w", "w_zero"} | ({"x_zero"} if known else set())
    names = [name if values[name] is not None else "" for name in values]
    feeds = {name: values[name] for name in names if name and name not in fixed}
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()
    ]
    held = [numpy_helper.from_array(np.asarray(values[n]), n) for n in names if n in fixed]
    node = helper.make_node("ConvInteger", names, ["y"], **attrs)
    result = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    model = helper.make_model(
        helper.make_graph([node], "g", given, [result], held), opset_imports=[helper.make_opsetid("", 17)]
    )
    return import_model(model), feeds


def some(kind: Any, *shape: int, low: int | None = None, high: int | None = None) -> Any:
    limits = np.iinfo(kind)
    least, most = (limits.min if low is None else low), (limits.max if high is None else high)
    return RNG.integers(least, most, shape, endpoint=True).astype(kind)


U8, I8 = np.uint8, np.int8
X, W, ONE = some(U8, 2, 20, 9, 11), some(I8, 24, 20, 3, 3), some(U8, 1)[0]
SAME: dict[str, Any] = {"pads": [1, 1, 1, 1]}
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "a zero point that an input gives": ((X, W, ONE), {}),
    "one beside padding": ((X, W, ONE), SAME),
    "one in an array, more padding on one side, strides": (
        (X, W, some(U8, 1)),
        {"pads": [0, 1, 2, 1], "strides": [2, 2], "dilations": [1, 2]},
    ),
    "i8": ((some(I8, 1, 20, 9, 11), W, some(I8, 1)[0]), SAME),
    "no zero point": ((X, W), SAME),
    "a constant zero point": ((X, W, ONE, None, True), SAME),
    "1x1": ((X, some(I8, 24, 20, 1, 1), ONE), {}),
    "filters of u8 around 128": ((X, some(U8, 24, 20, 3, 3), ONE, U8(128)), SAME),
    "filters of u8 around 100": ((X, some(U8, 24, 20, 3, 3), ONE, U8(100)), SAME),
    "filters of u8 around 100, a constant zero point": ((X, some(U8, 24, 20, 3, 3), ONE, U8(100), True), SAME),
    "filters with zero points of their own": ((X, some(U8, 24, 20, 3, 3), ONE, some(U8, 24)), SAME),
    "a channel each": ((X, some(I8, 20, 1, 3, 3), ONE), {**SAME, "group": 20}),
    "a channel each, filters of u8": ((X, some(U8, 20, 1, 3, 3), ONE, U8(90)), {**SAME, "group": 20}),
    "groups": ((X, some(I8, 8, 5, 3, 3), ONE), {**SAME, "group": 4}),
    "one axis": ((some(U8, 1, 20, 40), some(I8, 24, 20, 3), ONE), {"pads": [1, 1]}),
}


@pytest.mark.parametrize("target", ["x86-avx512", "x86", "arm", "cortex-m55"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_becomes_a_convolution_of_bytes(case: Any, target: str) -> None:
    graph, feeds = convolution(*case[0], **case[1])
    nodes = nodes_of_bytes(graph, feeds, target)
    assert "Conv" not in nodes
    assert nodes["Edgec.ConvInteger"].args[0].type.dtype == find_target(target).bytes_held


def test_groups_of_several_filters_beyond_eight_bits_stay_wide() -> None:
    graph, _ = convolution(X, some(U8, 8, 5, 3, 3), ONE, U8(90), group=4)
    whole = integers_of(graph)
    assert any(node.op == "Conv" for node in whole.nodes())


@pytest.mark.parametrize("target", ["x86-avx512", "x86"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_of_bytes_give_its_bits(case: Any, target: str) -> None:
    graph, feeds = convolution(*case[0], **case[1])
    steps = steps_of_bytes(graph, feeds, target)
    if case[1].get("group", 1) == 1:
        assert any("int8" in step.row for step in steps)
