"""Kernels for a core that has no FPU give the interpreter's bits with integers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.bundle.elf import symbols
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem
from edgec.targets import built_for
from edgec.targets.codegen_llvm import object_bytes
from tests.support.harness import chain, check, one, target
from tests.support.integers import FULL, numbers

PLAIN = replace(target("x86"), cpu=replace(target("x86").cpu, vector_bits=32, isa=frozenset(), fpu=False))


def same_bits(p: Problem, row: str, folder: Path) -> None:
    p = replace(p, target=PLAIN)
    check(p, row, folder, numbers([v.type for v in p.body.inputs]))


@pytest.mark.parametrize("to", ["u8", "i8"])
def test_sums_become_bytes(to: str, tmp_path: Path) -> None:
    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, pads=(1, 1, 1, 1), strides=(1, 2), zero=-5)
        return build("Edgec.Rescale", sums, m, zeros=(0,), to=to, zero=7, low=0 if to == "u8" else -90, high=101)

    same_bits(chain(["i8[1, 5, 9, 9]", "i8[6, 5, 3, 3]", "i32[6]", "f32[6, 1, 1]"], body), "generic_contract", tmp_path)


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_terms_are_added_in_f32(terms: int, tmp_path: Path) -> None:
    def body(*args: Value) -> Value:
        return build("Edgec.Rescale", *args, zeros=(3, -100, 0)[:terms], **FULL)

    kinds = ["i32[4000]", "i8[4000]", "u8[4000]"][:terms] + ["f32[4000]"] * terms
    same_bits(chain(kinds, body), "generic_map", tmp_path)


def test_a_rescaling_of_a_rescaling(tmp_path: Path) -> None:
    def body(a: Value, m: Value, r: Value, n: Value, o: Value) -> Value:
        inner = build("Edgec.Rescale", a, m, zeros=(0,), to="i8", zero=-8, low=-128, high=99)
        return build("Edgec.Rescale", inner, r, n, o, zeros=(-8, 4), **FULL)

    kinds = ["i32[3000]", "f32[3000]", "u8[3000]", "f32[3000]", "f32[3000]"]
    same_bits(chain(kinds, body), "generic_map", tmp_path)


@pytest.mark.parametrize("to", ["u8", "i8"])
def test_softmax(to: str, tmp_path: Path) -> None:
    zero = -128 if to == "i8" else 0
    p = one("Edgec.SoftmaxInteger", f"{to}[6, 11]", "i32[256]", axis=1, to=to, zero=zero, multiplier=256.0)
    rng = np.random.default_rng(0)
    low, high = (0, 255) if to == "u8" else (-128, 127)
    x = rng.integers(low, high, (6, 11), endpoint=True).astype(np.uint8 if to == "u8" else np.int8)
    table = np.round(np.exp(-np.arange(256) * 0.05) * 2**20).astype(np.int32)
    check(replace(p, target=PLAIN), "softmax_int8", tmp_path, [x, table])


@pytest.mark.parametrize(("to", "zero"), [("u8", 0), ("u8", 255), ("i8", -128), ("i8", 11), ("i16", -3000), ("u16", 9)])
@pytest.mark.parametrize("scale", [0.25, 0.0077, 3e-20, 1.9999999])
def test_real_numbers_become_integers(to: str, zero: int, scale: float, tmp_path: Path) -> None:
    """Halves go to even numbers, what is too large becomes the limit, NaN zero."""
    stored = {"u8": np.uint8, "i8": np.int8, "i16": np.int16, "u16": np.uint16}[to]
    p = chain(
        ["f32[4000]"], lambda x: build("QuantizeLinear", x, const(np.float32(scale)), const(np.array(zero, stored)))
    )
    rng = np.random.default_rng(1)
    steps = np.concatenate([rng.normal(0, 80, 1500), rng.integers(-300, 300, 2000) + 0.5, rng.normal(0, 70000, 500)])
    x = (steps * scale).astype(np.float32)
    x[:3500] = (x[:3500].view(np.int32) + rng.integers(-2, 3, 3500)).astype(np.int32).view(np.float32)
    x[:8] = [np.inf, -np.inf, np.nan, -0.0, 0.0, 1e-42, 3e38, -3e38]
    check(replace(p, target=PLAIN), "generic_map", tmp_path, [x])


def test_an_object_needs_no_function_of_floats(tmp_path: Path) -> None:
    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        return build("Edgec.Rescale", build("Edgec.MatMulInteger", x, w, b), m, zeros=(0,), **FULL)

    p = chain(["i8[2, 30]", "i8[30, 7]", "i32[7]", "f32[7]"], body, where="cortex-m0plus")
    row = ROWS["generic_contract"]
    with built_for.core(p.target.cpu):
        function = row.emit(p, row.choices(p)[0], "kern").function
    found = symbols(object_bytes([("kern", function)], p.target))
    needed = {s.name for s in found if not s.defined and s.name and not s.name.startswith("__aeabi_unwind")}
    assert needed <= {"ec_requantize", "memcpy", "memset"}
