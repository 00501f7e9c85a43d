"""What LLVM makes of int8 kernels for AArch64: instructions and registers of their loops."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.rescale.bounds import UNKNOWN, Reach
from edgec.targets import built_for, codegen_llvm
from tests.support.emulated import laid
from tests.support.harness import chain, target
from tests.unit.arm.test_int8 import conv

pytestmark = pytest.mark.arm


BOUNDED = Reach(1e6, 1e4)


def assembly(problem: Problem, row: str, where: str = "cortex-a78", within: Reach = BOUNDED) -> tuple[Choice, str]:
    """Of a kernel whose constants bound the sums."""
    problem = replace(problem, target=target(where), reach=within)
    choice = ROWS[row].choices(problem)[0]
    with built_for.core(problem.target.cpu):
        made = ROWS[row].emit(replace(problem, reach=UNKNOWN), choice, "kern")  # as code generation has it
    return choice, codegen_llvm.build([("kern", made.function)], problem.target).inspect_source("asm")


def copies(code: str) -> list[str]:
    return re.findall(r"\bmov\s+v\d+\.16b, v.*", code)


@pytest.mark.parametrize("inputs", [24, 32])
def test_tiles_of_few_blocks_of_inputs_copy_few_registers(inputs: int) -> None:
    """A block or two written out before what follows were mixed with it: 20 sums and more do not fit beside that."""
    problem = conv("sdot", f"1, {inputs}, 56, 55", f"96, {inputs}, 1, 1", "rectified", zero=-128)
    choice, code = assembly(problem, "conv_int8_sdot")
    assert (choice.get("mt"), choice.get("nv"), choice.get("fl")) == (5, 4, 3)
    assert len(re.findall(r"\bsdot\b", code)) >= inputs * 5 and len(copies(code)) <= 5, copies(code)


@pytest.mark.parametrize("stride", [1, 2])
def test_sliding_columns_copy_few_registers(stride: int) -> None:
    """What products are reduced by is read for each row of outputs."""
    given = {"group": 96, "pads": (1, 1, 1, 1), "strides": (stride, stride), "zero": -128}
    problem = conv("sdot", "1, 96, 56, 56", "96, 1, 3, 3", "rectified", **given)
    choice, code = assembly(problem, "depthwise_int8_slide")
    assert choice.get("fl") == 3 and code.count("fmla") >= 12
    assert len(copies(code)) <= 5, copies(code)


@pytest.mark.parametrize("where", ["cortex-a78", "rpi5"])
def test_a_function_of_floats_behind_sums_reads_its_numbers(where: str) -> None:
    """x sigmoid(x) of each pixel: what products are added to is loaded, not copied from registers."""

    def body(a: Value, b: Value, bias: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", a, b, bias, zero=-128)
        x = build("Mul", build("Cast", sums, to="f32"), m)
        return build("Mul", x, build("Sigmoid", x))

    problem = chain(["i8[1, 32, 28, 28]", "i8[48, 32, 1, 1]", "i32[48]", "f32[48, 1, 1]"], body, (), where)
    _, code = assembly(problem, "conv_int8_sdot", where)
    assert len(re.findall(r"\bfrecpe\b", code)) >= 4
    assert len(copies(code)) + len(re.findall(r"\bfmov\s+v", code)) <= 6, copies(code)


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_of_sliding_columns_are_not_kept_on_the_stack(stride: int) -> None:
    """Cortex-A76 loads vectors in less work where offsets are short; columns share the addresses of what they read."""
    given = {"group": 96, "pads": (1, 1, 1, 1), "strides": (stride, stride), "zero": -128}
    problem = conv("sdot", "1, 96, 56, 56", "96, 1, 3, 3", "once", **given)
    problem = laid(problem, ROWS["depthwise_int8_slide"].choices(problem)[0])
    _, code = assembly(problem, "depthwise_int8_slide")
    turn = max(re.split(r"\n\.LBB\w+:", code), key=lambda block: block.count("\tsdot"))
    assert len(re.findall(r"\badd\s+x", turn)) <= 24
    assert turn.count("\tsdot") >= 36 and len(re.findall(r"\bld[rp]\s+q.*\[sp", turn)) <= 6 * stride


FLOATS = {
    "conv_int8_sdot": {"x": "1, 32, 16, 16", "w": "48, 32, 1, 1"},
    "depthwise_int8_slide": {"x": "1, 32, 16, 16", "w": "32, 1, 3, 3", "group": 32, "pads": (1, 1, 1, 1)},
    "depthwise_int8_sdot": {"x": "1, 32, 16, 16", "w": "32, 1, 5, 5", "group": 32, "pads": (2, 2, 2, 2)},
}


@pytest.mark.parametrize("row", FLOATS)
def test_floats_are_stored_as_vectors(row: str) -> None:
    """They lie in blocks of four channels: those of several blocks at once were stored one by one."""
    problem = replace(conv("sdot", then="real", **FLOATS[row]), target=target("cortex-a78"))
    choice = ROWS[row].choices(problem)[0]
    problem = laid(problem, choice)
    assert problem.body.outputs[0].type.layout == "NCHW4c"
    _, code = assembly(problem, row)
    assert re.search(r"\bst[rp]\s+q", code)
    assert not re.search(r"\bst1\s+{ v\d+\.s }|\bstr\s+s", code)


def test_bytes_of_floats_are_rounded_and_limited_by_what_narrows() -> None:
    """One multiply-add for each product by 1 / scale; no limits of floats, no test for NaN."""

    def body(x: Value) -> Value:
        return build("QuantizeLinear", x, const(np.float32(0.0078431377)), const(np.int8(-128)))

    _, code = assembly(chain(["f32[1, 3, 64, 64]"], body, (), "rpi5"), "image_int8")
    assert code.count("fcvtns") >= code.count("fmla") >= 3 and code.count("sqxtn") >= 3
    assert not re.search(r"\bf(max|min|cmeq|cmge|sub)\b", code)
