"""Puts threads under a kernel: a grid that the kernel chose, or one thread per task where it is a generic one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx

from edgec.compiler.program import Launch
from edgec.compiler.registry import Emitted

from .. import abi, tir
from ..tir import Buffer, Expr, Stmt

BLOCK = 128  # threads of a block of a generic kernel


def threaded(emitted: Emitted, workers: int = 0, worker_bytes: int = 0) -> tuple[Any, Launch]:
    """A device function and how it is launched. One that has no launch of its own gets one thread per task, or
    `workers` threads that take turns, each with `worker_bytes` of scratch."""
    function = emitted.function
    name = str(function.attrs["global_symbol"])
    if emitted.launch is not None:
        return function, emitted.launch
    *pointers, begin, end, base = function.params
    threads = min(emitted.tasks, workers) if workers else emitted.tasks
    block = min(BLOCK, -(-threads // 32) * 32)
    blocks, turns = -(-threads // block), -(-emitted.tasks // threads)

    def body(at: Sequence[Expr], thread: Expr) -> Stmt:
        worker = at[0] * block + thread

        def turn(k: Expr) -> Stmt:
            task = worker + k * threads
            start = tirx.Cast("int64", worker) * tir.lit(worker_bytes, "int64")
            names = [tirx.Bind(begin, task), tirx.Bind(end, task + 1), tirx.Bind(base, start)]
            inside = tir.seq(names, function.body)
            return inside if blocks * block * turns == emitted.tasks else tir.when(task < emitted.tasks, inside)

        tasks = tir.loop(turns, turn, "turn")
        return tasks if threads == blocks * block else tir.when(worker < threads, tasks)

    launch = Launch(name, (blocks, 1, 1), block)
    return launched(name, pointers, launch, body), launch


def launched(
    name: str,
    pointers: Sequence[Any],
    launch: Launch,
    body: Callable[[Sequence[Expr], Expr], Stmt],
    waits: bool = False,
) -> Any:
    """A device function: `body(block's x, y, z, thread)` under the launch's threads.

    It begins before the kernel that comes before it has ended, and waits for that end; or the body `waits` by itself,
    every thread of it, before it touches anything but constants.
    """
    blocks = [tirx.Var(f"block_{axis}", "int32") for axis in "xyz"]
    thread = tirx.Var("thread", "int32")
    stmt = body([b if n > 1 else tir.i32(0) for b, n in zip(blocks, launch.grid, strict=True)], thread)
    stmt = tir.seq(_call("ec_let_next"), None if waits else _call("ec_wait_previous"), stmt)
    stmt = _extent(thread, "threadIdx.x", launch.block, stmt)
    for var, axis, n in zip(blocks, "xyz", launch.grid, strict=True):
        if n > 1 or axis == "x":
            stmt = _extent(var, f"blockIdx.{axis}", n, stmt)
    function = tirx.PrimFunc(list(pointers), stmt)
    return function.with_attrs({"global_symbol": name, "calling_conv": 2})


def _call(name: str) -> Stmt:
    return tirx.Evaluate(tirx.call_extern("void", name))


def _extent(var: Expr, tag: str, extent: int, body: Stmt) -> Stmt:
    axis = tirx.IterVar(tvm.ir.Range(0, extent), var, tirx.IterVar.ThreadIndex, tag)
    return tirx.AttrStmt(axis, "thread_extent", tir.i32(extent), body)


def parameters(params: Sequence[tuple[str, str, Sequence[int]]]) -> tuple[list[Any], list[Buffer], list[Stmt]]:
    """Pointers, buffers on them, and the statements that declare these; params as `abi.kernel` takes them."""
    pointers, buffers, head = [], [], []
    for name, dtype, shape in params:
        pointer, buffer = abi.pointed(name, dtype, shape)
        pointers.append(pointer)
        buffers.append(buffer)
        head.append(tirx.DeclBuffer(buffer, data=pointer))
    return pointers, buffers, head
