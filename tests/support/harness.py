"""Building one kernel, running it through its C ABI and comparing it with the operator table's numpy meaning."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import edgec.compiler.ops
import edgec.targets.kernels
from edgec.compiler.dtypes import dtype, of_numpy
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.layout import pack, physical_shape, unpack
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem
from edgec.compiler.target import Target, read_target, target_files

_count = itertools.count()
CANARY = 0x7F
PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
TARGETS = ("x86-avx512", "x86")
RUNTIME = Path(edgec.compiler.ops.__file__).resolve().parents[2] / "runtime"


def target(name: str = "x86-avx512") -> Target:
    return read_target(target_files()[name].read_text(), name)


def tensor(text: str, name: str = "x") -> Value:
    """`f32[1, 3, 8, 8]@NCHW16c`, an input."""
    kind, rest = text.split("[")
    shape, _, layout = rest.partition("]")
    t = Type(kind, tuple(int(n) for n in shape.split(",") if n.strip()), layout.lstrip("@"))
    return Value(Node("Input", (), (t,), {}, name))


def problem(
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    layouts: Sequence[str] = (),
    where: str = "x86-avx512",
    threads: int = 1,
) -> Problem:
    """A body; `layouts` are those of its outputs."""
    ends = []
    for k, v in enumerate(outputs):
        text = layouts[k] if k < len(layouts) else ""
        types = tuple(replace(t, layout=text) if i == v.index else t for i, t in enumerate(v.node.types))
        ends.append(Value(replace(v.node, types=types), v.index) if text else v)
    return Problem(Graph("body", tuple(inputs), tuple(ends)), target(where), threads)


def emitted(p: Problem, row: str, folder: Path) -> tuple[Any, int]:
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import object_bytes

    accepted = ROWS[row].accepts(p)
    assert accepted is True, accepted
    with built_for.core(p.target.cpu):
        result = ROWS[row].emit(p, ROWS[row].choices(p)[0], "kern")
    name = f"k{next(_count)}"  # a path is loaded once
    (folder / f"{name}.o").write_bytes(object_bytes([("kern", result.function)], p.target))
    runtime = [] if p.target.cpu.fpu else ["-I", f"{RUNTIME}/include", f"{RUNTIME}/src/requantize.c"]
    subprocess.run(["cc", "-shared", "-o", f"{name}.so", f"{name}.o", *runtime, "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / f"{name}.so")).kern, result.tasks


class Fenced:
    """A copy of an array between two pages that nobody may touch: a stray read or write there ends the process.

    `at_end`: the copy ends where the second page starts, else it starts where the first one ends. What is left of its
    own pages holds canaries.
    """

    def __init__(self, array: Any, at_end: bool) -> None:
        room = -(-array.nbytes // PAGE) * PAGE
        self.memory = mmap.mmap(-1, room + 2 * PAGE)
        self.raw = np.frombuffer(self.memory, np.uint8)[PAGE : PAGE + room]
        self.raw[:] = CANARY
        self.start = room - array.nbytes if at_end else 0
        self.view = self.raw[self.start : self.start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.view[...] = array
        self.pointer = self.raw.ctypes.data + self.start
        for page in (self.raw.ctypes.data - PAGE, self.raw.ctypes.data + room):
            assert LIBC.mprotect(ctypes.c_void_p(page), PAGE, 0) == 0

    @property
    def whole(self) -> bool:
        """Whether the canaries are untouched."""
        end = self.start + self.view.nbytes
        return bool((self.raw[: self.start] == CANARY).all() and (self.raw[end:] == CANARY).all())


def execute(p: Problem, row: str, arrays: Sequence[Any], folder: Path) -> list[Any]:
    """Outputs of the kernel, run twice: with its buffers at the start and at the end of fenced memory.

    Scratch is full of NaN.
    """
    kern, tasks = emitted(p, row, folder)
    results = []
    for at_end in (False, True):
        every = [Fenced(pack(np.asarray(a), v.type.layout), at_end) for a, v in zip(arrays, p.body.inputs, strict=True)]
        for v in p.body.outputs:
            every.append(Fenced(np.full(physical_shape(v.type), 77, dtype(v.type.dtype).numpy), at_end))
        every.append(Fenced(np.full(max(64, ROWS[row].choices(p)[0].scratch_bytes), 0xFF, np.uint8), at_end))
        pointers = (ctypes.c_void_p * len(every))(*(b.pointer for b in every))
        half = tasks // 2
        kern(pointers, 0, half)
        kern(pointers, half, tasks)
        assert all(b.whole for b in every), "wrote outside a buffer"
        ends = every[len(p.body.inputs) : -1]
        results.append([unpack(b.view, v.type.layout, v.shape) for b, v in zip(ends, p.body.outputs, strict=True)])
    for first, second in zip(*results, strict=True):
        assert first.tobytes() == second.tobytes(), "depends on where its buffers lie"
    return results[0]


def check(p: Problem, row: str, folder: Path, arrays: Sequence[Any] | None = None, tolerance: float = 1e-5) -> None:
    """The kernel computes what the interpreter does."""
    rng = np.random.default_rng(1)
    given = [sample(rng, v.type) for v in p.body.inputs] if arrays is None else [np.asarray(a) for a in arrays]
    got = execute(p, row, given, folder)
    for have, want in zip(got, run(p.body, given), strict=True):
        compare(have, want, tolerance)


def compare(have: Any, want: Any, tolerance: float) -> None:
    assert have.shape == want.shape and have.dtype == want.dtype, (have.dtype, want.dtype)
    if dtype(of_numpy(want.dtype)).is_storage:  # bit for bit
        np.testing.assert_array_equal(codes(have), codes(want))
        return
    if want.dtype.kind not in "fV":
        np.testing.assert_array_equal(have, want)
        return
    wide = want.astype(np.float64)
    rough = {2: 1e-2, 4: tolerance, 8: 1e-12}[want.dtype.itemsize]
    scale = np.max(np.abs(wide[np.isfinite(wide)]), initial=0.0) + 1e-30
    np.testing.assert_allclose(have.astype(np.float64), wide, rtol=rough, atol=rough * scale)


def codes(array: Any) -> Any:
    """The bits that count of elements that only store numbers; other arrays as they are."""
    row = dtype(of_numpy(array.dtype))
    return array.view(np.uint8) & ((1 << row.bits) - 1) if row.is_storage else array


def every(name: str) -> Any:
    """All elements of a type of 8 bits or fewer."""
    row = dtype(name)
    return np.arange(1 << row.bits, dtype=np.uint8).view(row.numpy)


def sample(rng: Any, t: Type) -> Any:
    """Random numbers that suit an element type."""
    kind = dtype(t.dtype).numpy
    if t.dtype == "bool":
        return rng.random(t.shape) < 0.5
    if dtype(t.dtype).is_storage:
        return rng.integers(0, 1 << dtype(t.dtype).bits, t.shape).astype(np.uint8).view(kind)
    if dtype(t.dtype).is_int:
        low = 0 if t.dtype[0] == "u" else -9
        return rng.integers(low, 10, t.shape).astype(kind)
    return rng.standard_normal(t.shape).astype(kind)


def one(
    op: str, *kinds: str, layouts: Sequence[str] = (), where: str = "x86-avx512", threads: int = 1, **attrs: Any
) -> Problem:
    """A body of one operator."""
    inputs = [tensor(text, f"x{k}") for k, text in enumerate(kinds)]
    return problem(inputs, build(op, *inputs, **attrs).node.results, layouts, where, threads)


def chain(
    kinds: Sequence[str],
    make: Callable[..., Any],
    layouts: Sequence[str] = (),
    where: str = "x86-avx512",
    threads: int = 1,
) -> Problem:
    """A body made by `make(*inputs)`: a value or a tuple of values."""
    inputs = [tensor(text, f"x{k}") for k, text in enumerate(kinds)]
    result = make(*inputs)
    return problem(inputs, [result] if isinstance(result, Value) else list(result), layouts, where, threads)


def for_size(p: Problem) -> Problem:
    """The same for a target whose kernels are made for size."""
    return replace(p, target=replace(p.target, small=True))


def scalar(number: float) -> Value:
    return const(np.asarray(number, np.float32))
