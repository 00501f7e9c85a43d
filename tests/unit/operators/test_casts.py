"""Casts between all element types, in compiled code: the interpreter's numbers, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.dtypes import DTYPES, dtype, integer_limits
from edgec.compiler.errors import IRError
from edgec.compiler.ir import Type
from edgec.compiler.narrow import FORMATS, POWERS, ROUND_MODES
from edgec.compiler.op import build, infer
from edgec.compiler.registry import MAX_ARGS
from tests.support.harness import chain, check, codes, every, execute, one, sample

STORAGE = [name for name, row in DTYPES.items() if row.is_storage]
WIDE = [name for name, row in DTYPES.items() if not row.is_storage]


def halves(name: str) -> Any:
    """Every number of a type of floats, the middles between them, and the neighbours of these in f32 and in f64."""
    x = every(name).astype(np.float64)
    x = np.unique(x[np.isfinite(x)])
    middle = np.concatenate([x, (x[1:] + x[:-1]) / 2])
    narrow = middle.astype(np.float32)
    off = [np.nextafter(middle, s) for s in (-np.inf, np.inf)] + [np.nextafter(narrow, np.float32(s)) for s in (-9, 9)]
    return np.concatenate([middle, *off])


def numbers(name: str, to: str) -> Any:
    """Numbers of type `name` to be cast: all there are, or many patterns, and all that are close to halves of `to`."""
    row, rng = dtype(name), np.random.default_rng(3)
    if row.bits <= 8:
        return every(name) if name != "bool" else np.asarray([False, True])
    if row.bits == 16:
        return np.arange(1 << 16, dtype=np.uint16).view(row.numpy)
    if row.is_whole:
        low, high = integer_limits(row)
        x = rng.integers(low, high, 4000, dtype=row.numpy, endpoint=True)
        return x >> rng.integers(0, row.bits - 2, x.size).astype(row.numpy)
    patterns = rng.integers(0, 1 << 63, 20000).astype(np.uint64)
    x = patterns.view(np.float64) if name == "f64" else patterns.view(np.float32)
    close = halves(to) if to in FORMATS else rng.uniform(-600, 600, 4000)
    return np.concatenate([x, close.astype(row.numpy), np.asarray([np.nan, np.inf, -np.inf, -0.0, 0.0], row.numpy)])


def fitting(x: Any, to: str) -> Any:
    """Without the floats that do not fit an integer type: what becomes of them is undefined in ONNX."""
    if not dtype(to).is_whole:
        return x
    low, high = integer_limits(dtype("i32" if dtype(to).bits < 32 else to))
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)
    return x[(wide > low) & (wide < high)]


def parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    """As many at a time as one kernel takes with up to three arrays each."""
    most = MAX_ARGS // 3
    return [items[k : k + most] for k in range(0, len(items), most)]


def cast_all(to: str, sources: list[str], tmp_path: Path, **attrs: Any) -> None:
    """Kernels that cast arrays of several types to one."""
    for some in parts(sources):
        arrays = []
        for name in some:
            x = numbers(name, to)
            arrays.append(x if dtype(name).is_whole or name == "bool" else fitting(x, to))
        kinds = [f"{name}[{x.size}]" for name, x in zip(some, arrays, strict=True)]
        p = chain(kinds, lambda *xs: tuple(build("Cast", x, to=to, **attrs) for x in xs))
        check(p, "generic_map", tmp_path, arrays)


@pytest.mark.parametrize("to", STORAGE)
def test_into_types_that_only_store(to: str, tmp_path: Path) -> None:
    cast_all(to, [name for name in DTYPES if name != to], tmp_path)


@pytest.mark.parametrize("to", list(FORMATS))
def test_without_saturation(to: str, tmp_path: Path) -> None:
    cast_all(to, ["f32", "f16", "bf16", "f64", "i32", "f8e5m2"], tmp_path, saturate=0)


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("mode", ROUND_MODES)
def test_powers_of_two_are_rounded_as_asked(mode: str, saturate: int, tmp_path: Path) -> None:
    cast_all(POWERS, ["f32", "f64", "bf16", "u64", "i64", "f4e2m1"], tmp_path, saturate=saturate, round_mode=mode)


@pytest.mark.parametrize("to", WIDE)
def test_out_of_types_that_only_store(to: str, tmp_path: Path) -> None:
    cast_all(to, STORAGE, tmp_path)


@pytest.mark.parametrize("to", ["f16", "bf16"])
def test_wide_numbers_round_once(to: str, tmp_path: Path) -> None:
    """f64 and integers do not pass through f32, where they would be rounded before."""
    step = 2.0**-10 if to == "f16" else 2.0**-7
    middle = 1 + step * (np.arange(40) + 0.5)
    x = np.concatenate([middle, np.nextafter(middle, 9), np.nextafter(middle, -9), middle * 2.0**-140])
    whole = (middle * (1 << 61)).astype(np.int64)[:, None] + np.asarray([-1, 0, 1])
    arrays = [x, whole.reshape(-1), whole.reshape(-1).astype(np.uint64), (middle * (1 << 29)).astype(np.int32) + 1]
    kinds = [f"{name}[{a.size}]" for name, a in zip(("f64", "i64", "u64", "i32"), arrays, strict=True)]
    p = chain(kinds, lambda *xs: tuple(build("Cast", v, to=to) for v in xs))
    for have, want in zip(execute(p, "generic_map", arrays, tmp_path), arrays, strict=True):
        exact = want.astype(np.float64) if want.dtype != np.float64 else want
        ulp = np.maximum(2.0 ** np.floor(np.log2(exact)) * step, 2.0**-133 if to == "bf16" else 2.0**-24)
        finite = np.isfinite(have.astype(np.float64))
        assert (np.abs(have.astype(np.float64) - exact) <= ulp / 2)[finite].all()
    check(p, "generic_map", tmp_path, arrays, 0.0)


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
def test_bits_are_kept(where: str, tmp_path: Path) -> None:
    """Every pair of types of equal width; a byte that is not zero is true."""
    for width in (2, 4, 6, 8, 16, 32, 64):
        names = [name for name, row in DTYPES.items() if row.bits == width]
        for pairs in parts([(a, b) for a in names for b in names if a != b]):
            check_bits(width, pairs, where, tmp_path)


def check_bits(width: int, pairs: list[tuple[str, str]], where: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 1 << width, 77, dtype=np.uint64) for _ in pairs]
    arrays = [x.astype(f"u{dtype(a).bytes}").view(dtype(a).numpy) for x, (a, _) in zip(arrays, pairs, strict=True)]
    arrays = [rng.random(77) < 0.5 if a == "bool" else x for x, (a, _) in zip(arrays, pairs, strict=True)]

    def make(*xs: Any) -> Any:
        return tuple(build("BitCast", x, to=to) for x, (_, to) in zip(xs, pairs, strict=True))

    p = chain([f"{a}[77]" for a, _ in pairs], make, where=where)
    for have, given, (source, to) in zip(execute(p, "generic_map", arrays, tmp_path), arrays, pairs, strict=True):
        if to == "bool":
            np.testing.assert_array_equal(have, given.view(np.uint8) != 0)
        else:
            assert (as_bits(have) == as_bits(given)).all(), (source, to)


def as_bits(array: Any) -> Any:
    array = codes(array)
    return array.view(f"u{array.dtype.itemsize}")


def test_bits_of_other_widths_are_refused() -> None:
    with pytest.raises(IRError, match="f32 has 32 bits and i64 64; expected as many"):
        infer("BitCast", [Type("f32", (2,))], {"to": "i64"})


MOVES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("Reshape", ["2, 12"], {"shape": (4, 6)}),
    ("Transpose", ["33, 20"], {"perm": (1, 0)}),
    ("Concat", ["2, 5", "2, 7"], {"axis": 1}),
    ("Split", ["2, 12"], {"axis": 1, "split": (4, 8)}),
    ("Slice", ["5, 40"], {"starts": (1, 38), "ends": (4, -1), "axes": (0, 1), "steps": (1, -3)}),
    ("Pad", ["3, 20"], {"pads": (1, 2, 1, 3), "value": -2.0}),
    ("Pad", ["3, 20"], {"pads": (1, 2, 1, 3), "mode": "reflect"}),
    ("Expand", ["1, 20"], {"shape": (3, 20)}),
    ("Tile", ["3, 5"], {"repeats": (2, 3)}),
    ("DepthToSpace", ["1, 8, 3, 5"], {"blocksize": 2}),
    ("SpaceToDepth", ["1, 2, 4, 6"], {"blocksize": 2}),
    ("Trilu", ["20, 20"], {"upper": 1}),
    ("Resize", ["1, 1, 4, 6"], {"sizes": (1, 1, 8, 9), "scales": (1.0, 1.0, 2.0, 1.5)}),
]


@pytest.mark.parametrize("op, shapes, attrs", MOVES, ids=lambda x: x if isinstance(x, str) else None)
def test_elements_are_moved_as_they_are(op: str, shapes: list[str], attrs: Any, tmp_path: Path) -> None:
    """All types that only store, several in a kernel."""
    n = len(shapes)

    def make(*xs: Any) -> Any:
        each = (build(op, *xs[k : k + n], **attrs).node.results for k in range(0, len(xs), n))
        return tuple(v for results in each for v in results)

    for names in parts(STORAGE):
        check(chain([f"{name}[{shape}]" for name in names for shape in shapes], make), "generic_map", tmp_path)


@pytest.mark.parametrize("name", STORAGE)
def test_elements_are_chosen_as_they_are(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = [f"{name}[30]", f"{name}[30]", "bool[30]", "i64[7]", "i32[4]"]

    def make(a: Any, b: Any, c: Any, i: Any, j: Any) -> Any:
        return build("Where", c, a, b), build("Gather", a, i), build("GatherElements", b, j)

    p = chain(kinds, make)
    a, b = (sample(rng, v.type) for v in p.body.inputs[:2])
    where = [rng.random(30) < 0.5, rng.integers(-30, 30, 7), rng.integers(-30, 30, 4).astype(np.int32)]
    check(p, "generic_map", tmp_path, [a, b, *where])


@pytest.mark.parametrize("name", [name for name in STORAGE if dtype(name).bits < 8])
def test_bits_above_an_element_do_not_count_and_are_written(name: str, tmp_path: Path) -> None:
    """Whatever lies there is ignored; results are extended to the byte, by the sign where there is one."""
    x = np.arange(256, dtype=np.uint8).view(dtype(name).numpy)
    copied, wide = execute(
        chain([f"{name}[256]"], lambda x: (build("Edgec.Layout", x, to=""), build("Cast", x, to="f32"))),
        "generic_map",
        [x],
        tmp_path,
    )
    lowest = (np.arange(256) & ((1 << dtype(name).bits) - 1)).astype(np.uint8)
    element = lowest.view(dtype(name).numpy)
    np.testing.assert_array_equal(
        copied.view(np.uint8), element.astype(np.int8).view(np.uint8) if name[0] == "i" else lowest
    )
    np.testing.assert_array_equal(wide, element.astype(np.float32))


@pytest.mark.parametrize("op", ["Add", "Relu", "Equal", "ReduceMax", "MatMul", "Clip", "Softmax", "BitwiseNot"])
@pytest.mark.parametrize("name", ["f8e5m2", "i4"])
def test_nothing_is_computed_with_them(op: str, name: str) -> None:
    count = 2 if op in ("Add", "Equal", "MatMul") else 1
    attrs = {"axes": (0,), "keepdims": 1} if op == "ReduceMax" else {}
    with pytest.raises(IRError, match=f"argument is {name}; expected one of "):
        infer(op, [Type(name, (2, 2))] * count, attrs)


def test_one_kernel_is_not_taken_for_another(tmp_path: Path) -> None:
    """Types that lie in memory alike differ in their kernels."""
    x = every("f8e4m3fn")
    for name in ("f8e4m3fn", "f8e4m3fnuz"):
        check(one("Cast", f"{name}[256]", to="f32"), "generic_map", tmp_path, [x.view(dtype(name).numpy)], 0.0)
