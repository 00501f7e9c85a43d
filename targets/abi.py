"""A kernel as a function that the runtime calls: from its pointers to buffers, on CPUs and on devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.ir import PointerType, PrimType

from . import tir
from .built_for import on_device
from .tir import Buffer, Expr, Stmt


def pointed(name: str, dtype: str, shape: Sequence[int]) -> tuple[Expr, Buffer]:
    """A pointer to what a parameter holds, and a buffer on it."""
    pointer = tirx.Var(f"{name}_ptr", PointerType(PrimType("int8" if dtype == "bool" else dtype)))
    return pointer, tirx.decl_buffer(tuple(shape) or (1,), dtype, name, data=pointer)


def kernel(
    symbol: str,
    params: Sequence[tuple[str, str, Sequence[int]]],
    body: Callable[[list[Buffer], Expr, Expr], Stmt],
    *,
    pointer_bits: int = 64,
    noalias: bool = True,
    parts: Sequence[tuple[str, str, int, int]] = (),
) -> Any:
    """A kernel with the runtime's ABI: `void symbol(void *const *args, int32_t begin, int32_t end)`.

    `params` are (name, TVM dtype, physical shape) of each pointer in `args`; `body(buffers, begin, end)` makes the
    statements that run tasks begin..end-1. `noalias=False` where an output may share memory with an input.
    `parts`, (name, TVM dtype, elements, byte offset) each, lie in one more pointer after the others; their buffers
    follow those of the params.
    """
    if on_device():
        return _device_kernel(symbol, params, body, parts)
    word = f"int{pointer_bits}"
    args = tirx.Var("args", PointerType(PrimType(word)))
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    count = len(params) + bool(parts)
    table = tirx.decl_buffer((max(1, count),), word, "table", data=args)
    head: list[Stmt] = [tirx.DeclBuffer(table, data=args)]
    buffers: list[Buffer] = []
    places = [(name, dtype, shape, tir.load(table, k)) for k, (name, dtype, shape) in enumerate(params)]
    places += [
        (name, dtype, (n,), tir.load(table, count - 1) + tir.lit(offset, word)) for name, dtype, n, offset in parts
    ]
    for name, dtype, shape, address in places:
        pointer, buffer = pointed(name, dtype, shape)
        head.append(tirx.Bind(pointer, tir.pointed_at(pointer.ty, address)))
        head.append(tirx.DeclBuffer(buffer, data=pointer))
        buffers.append(buffer)
    func = tirx.PrimFunc([args, begin, end], tirx.SeqStmt([*head, body(buffers, begin, end)]))
    return func.with_attrs({"global_symbol": symbol, "tirx.noalias": noalias, "tirx.is_entry_func": False})


def _device_kernel(
    symbol: str,
    params: Sequence[tuple[str, str, Sequence[int]]],
    body: Callable[[list[Buffer], Expr, Expr], Stmt],
    parts: Sequence[tuple[str, str, int, int]],
) -> Any:
    """(pointers ..., begin, end, base): where in the scratch a worker's begins, in bytes. The last three are no
    parameters in the end: targets/cuda/threads.py puts expressions in their place."""
    begin, end, base = tirx.Var("begin", "int32"), tirx.Var("end", "int32"), tirx.Var("base", "int64")
    head: list[Stmt] = []
    pointers: list[Expr] = []
    buffers: list[Buffer] = []
    whole = [(name, dtype, shape, 0) for name, dtype, shape in params]
    for name, dtype, shape, offset in [*whole, *((name, dtype, (n,), at) for name, dtype, n, at in parts)]:
        pointer, buffer = pointed(name, dtype, shape)
        mine = name == "scratch" or len(buffers) >= len(params)
        if mine:
            if name == "scratch" or len(buffers) == len(params):
                first = tirx.Var("scratch_all", PointerType(PrimType("uint8")))
                pointers.append(first)
            where = tirx.reinterpret("int64", first) + base + tir.lit(offset, "int64")
            head.append(tirx.Bind(pointer, tirx.reinterpret(pointer.ty, where)))
        else:
            pointers.append(pointer)
        head.append(tirx.DeclBuffer(buffer, data=pointer))
        buffers.append(buffer)
    func = tirx.PrimFunc([*pointers, begin, end, base], tir.seq(head, body(buffers, begin, end)))
    return func.with_attrs({"global_symbol": symbol})
