"""Runs a program's kernels in this process: memory between guard pages, tasks in any order, garbage where nothing lies.

A step may write its results and its scratch, nothing else; arena and weights end where a page ends that nobody may
touch, so that reads past them end the process.
"""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import random
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Array
from edgec.compiler.layout import storage_bytes
from edgec.compiler.program import Port, Program, Ref, Step
from edgec.targets.host import claim_tiles

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)


class Stray(Exception):
    """A kernel wrote where it must not, or its answer hangs on the order of its tasks or on what lay in memory."""


def play(program: Program, feeds: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """Outputs by name. The program runs twice, in other orders and on other garbage, and must answer the same."""
    claim_tiles()
    with _Library(program) as kernels:
        first, second = (_run(program, kernels, feeds, random.Random(seed + turn), turn) for turn in (0, 1))
    for name, array in first.items():
        if array.tobytes() != second[name].tobytes():
            raise Stray(f"output {name!r} is another one in the second run: {_first_difference(array, second[name])}")
    return first


def _first_difference(a: Array, b: Array) -> str:
    at = np.flatnonzero(a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8))[0] // a.itemsize
    return f"element {at}: {a.reshape(-1)[at]} and {b.reshape(-1)[at]}"


class _Library:
    """The program's objects as a loaded library."""

    def __init__(self, program: Program) -> None:
        with tempfile.TemporaryDirectory(prefix="edgec-fuzz-") as folder:
            here = Path(folder)
            for name, data in program.objects:
                (here / name).write_bytes(data)
            names = [name for name, _ in program.objects]
            subprocess.run(["cc", "-shared", "-o", "k.so", *names, "-lm"], cwd=here, check=True)
            self.library = ctypes.CDLL(str(here / "k.so"))

    def __enter__(self) -> ctypes.CDLL:
        return self.library

    def __exit__(self, *_: object) -> None:
        _ctypes.dlclose(self.library._handle)


class _Fenced:
    """`size` bytes that end where a page begins that nobody may touch; 64 bytes are their alignment."""

    def __init__(self, size: int) -> None:
        room = -(-max(size, 1) // _PAGE) * _PAGE
        self._memory = mmap.mmap(-1, room + 2 * _PAGE)
        raw = np.frombuffer(self._memory, np.uint8)
        for page in (raw.ctypes.data, raw.ctypes.data + _PAGE + room):
            if _LIBC.mprotect(ctypes.c_void_p(page), _PAGE, 0):
                raise OSError("mprotect failed")
        start = _PAGE + (room - size) // 64 * 64
        self.bytes = raw[start : start + size]
        self.address = raw.ctypes.data + start


def _run(
    program: Program, kernels: ctypes.CDLL, feeds: Mapping[str, Array], rng: random.Random, turn: int
) -> dict[str, Array]:
    arena, weights = _Fenced(program.arena_bytes), _Fenced(len(program.weights))
    arena.bytes[:] = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, len(arena.bytes), np.uint8)
    weights.bytes[:] = np.frombuffer(program.weights, np.uint8)
    for port in program.inputs:
        _view(arena, port)[...] = feeds[port.name]
    for step in program.steps:
        before = arena.bytes.copy()
        for worker, begin, end in _shares(step.tasks, program.threads, rng, turn):
            args = [_address(ref, arena, weights, worker * step.scratch_stride) for ref in step.args]
            getattr(kernels, step.symbol)((ctypes.c_void_p * len(args))(*args), begin, end)
        _check_writes(step, before, arena.bytes, program.threads)
    if weights.bytes.tobytes() != program.weights:
        raise Stray("the weights were written over")
    return {port.name: _output(arena, port) for port in program.outputs}


def _output(arena: _Fenced, port: Port) -> Array:
    """What is there of an output."""
    array: Array = _view(arena, port).copy()
    if port.count is None:
        return array
    count = arena.bytes[port.count.offset : port.count.offset + 8].view(np.int64)[0]
    return np.take(array, range(count), port.count_axis)


def _shares(tasks: int, threads: int, rng: random.Random, turn: int) -> list[tuple[int, int, int]]:
    """(worker, begin, end): all tasks, in order in the first run, in pieces and in any order in the second."""
    if not turn:
        return [(0, 0, tasks)]
    cuts = sorted({0, tasks, *(rng.randint(0, tasks) for _ in range(3))})
    shares = [(rng.randrange(threads), a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
    return rng.sample(shares, len(shares))


def _address(ref: Ref, arena: _Fenced, weights: _Fenced, scratch: int) -> int:
    if ref.region == "weights":
        return weights.address + ref.offset
    return arena.address + ref.offset + (scratch if ref.region == "scratch" else 0)


def _view(arena: _Fenced, port: Port) -> Any:
    kind = dtype(port.dtype).numpy
    return arena.bytes[port.ref.offset : port.ref.offset + port.bytes].view(kind).reshape(port.shape)


def _check_writes(step: Step, before: Array, after: Array, threads: int) -> None:
    changed = before != after
    spans = [(r.ref.offset, storage_bytes(r.type)) for r in step.results]
    spans += [(ref.offset, step.scratch_stride * threads) for ref in step.args if ref.region == "scratch"]
    for start, size in spans:
        changed[start : start + size] = False
    if changed.any():
        raise Stray(f"step {step.name} ({step.row} {step.config}) wrote byte {int(np.argmax(changed))} of the arena")
