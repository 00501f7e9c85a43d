"""Runs one choice of a CUDA row under emulation: buffers end where memory ends, scratch and results hold garbage."""

from __future__ import annotations

import _ctypes
import ctypes as c
import itertools
import mmap
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401  (registers the rows)
from edgec.compiler import interpret
from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.layout import pack, physical_shape, unpack
from edgec.compiler.registry import ROWS, Choice, Problem, laid_out, worker_choice
from edgec.compiler.target import Target, find_target
from edgec.targets import built_for, tir
from edgec.targets.cuda.codegen import cuda_text
from edgec.targets.cuda.emulation import Check
from edgec.targets.cuda.threads import threaded
from tests.support.cuda_emulated import Emulated

GPU = find_target("cuda")
CLOSE = {"f32": 2e-5, "f16": 2e-3}  # relative to the largest magnitude
_libc = c.CDLL(None)


_names = itertools.count()


def value(kind: str, *shape: int) -> Value:
    """An input of a body."""
    return Value(Node("Input", (), (Type(kind, shape),), {}, f"a{next(_names)}"))


def problem(out: Value, *inputs: Value, on: Target = GPU) -> Problem:
    return Problem(Graph("body", tuple(inputs), (out,)), on)


def offers(of: Problem, row: str) -> list[Choice]:
    accepted = ROWS[row].accepts(of)
    assert accepted is True, accepted
    return list(ROWS[row].choices(of))


def source(of: Problem, choice: Choice, name: str = "kern") -> tuple[str, Any, Problem]:
    """CUDA C, its launch, and the problem with its layouts."""
    whole = replace(of, body=laid_out(of.body, [x or "" for x in choice.layouts_in], choice.layouts_out))
    one, workers = worker_choice(choice)
    tir.restart_names()
    with built_for.device_code():
        function, launch = threaded(ROWS[choice.row].emit(whole, one, name), workers, one.scratch_bytes)
        text = cuda_text(function)
    waits_first(text, of)
    return text, launch, whole


def waits_first(text: str, of: Problem) -> None:
    """A kernel may begin before those have ended that write what it reads, or read what it writes: it touches only
    constants before it waits for that, once, outside of any condition."""
    head, _, rest = text.partition("ec_wait_previous();")
    assert rest and "ec_wait_previous" not in rest
    parameters, _, body = head.partition("{")
    touched = set(re.findall(r"\b\w+_ptr\b", body)) & set(re.findall(r"\b\w+_ptr\b", parameters))
    assert touched <= {f"a{i}_ptr" for i in of.constants}
    assert body.count("{") == body.count("}")


def run(of: Problem, choice: Choice, arrays: Sequence[Array], check: Check = "none", times: int = 1) -> Array:
    """The result, as a row-major array; of a second run, where `times` says so."""
    return results(of, choice, arrays, check, times)[0]


def results(of: Problem, choice: Choice, arrays: Sequence[Array], check: Check = "none", times: int = 1) -> list[Array]:
    """All results."""
    text, launch, whole = source(of, choice)
    inputs = [fenced(pack(a, v.type.layout)) for a, v in zip(arrays, whole.body.inputs, strict=True)]
    outs = [v.type for v in whole.body.outputs]
    given = [fenced(np.full(physical_shape(t), 77, dtype(t.dtype).numpy)) for t in outs]
    arguments = [*inputs, *given]
    if choice.scratch_bytes:
        arguments.append(fenced(np.full(choice.scratch_bytes, 0xFF, np.uint8)))
    counters = dict(choice.config).get("zeros", 0)
    if counters:
        arguments.append(fenced(np.zeros(counters, np.uint32)))
    kernels = Emulated(text, check)
    try:
        for _ in range(times):
            kernels.launch("kern", launch.grid, launch.block, *arguments, shared=launch.shared)
    finally:
        _ctypes.dlclose(kernels.library._handle)  # it holds much address space
    assert not counters or not arguments[-1].any(), "counters are not zero again"
    return [unpack(array, t.layout, t.shape) for array, t in zip(given, outs, strict=True)]


def arrays_for(of: Problem, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    kinds = [np.float16 if v.type.dtype == "f16" else np.float32 for v in of.body.inputs]
    return [rng.standard_normal(v.shape).astype(k) for v, k in zip(of.body.inputs, kinds, strict=True)]


def agrees(of: Problem, row: str, arrays: list[Array] | None = None, most: int = 9, **options: Any) -> None:
    """The row's first choices give what the interpreter gives."""
    arrays = arrays or arrays_for(of)
    want = interpret.run(of.body, arrays)[0]
    for choice in offers(of, row)[:most]:
        got = run(of, choice, arrays, **options)
        close = CLOSE.get(of.anchor.args[0].type.dtype, 0.0)
        scale = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), close, close * scale, err_msg=str(choice)
        )


def fenced(array: Array) -> Array:
    """A copy that ends, but for alignment, at a page that nobody may touch."""
    page = mmap.PAGESIZE
    size = max(16, -(-array.nbytes // 16) * 16)
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + page)
    start = c.addressof(c.c_char.from_buffer(memory))
    _libc.mprotect(c.c_void_p(start + room), c.c_size_t(page), 0)
    copy = np.frombuffer(memory, array.dtype, array.size, room - size).reshape(array.shape)
    copy[...] = array
    return copy
