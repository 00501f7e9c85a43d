"""TensorIR functions to ELF objects through TVM's LLVM back end: raw C ABI, no TVM symbol, any LLVM triple."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
import tvm.s_tir.transform as st
import tvm.tirx.transform as tt
from tvm import tirx
from tvm.target import Target as TvmTarget
from tvm.target import codegen

from edgec.compiler.bundle.elf_slim import slim
from edgec.compiler.errors import EdgecError, nearest
from edgec.compiler.target import Target

from .unscaled import unscaled


def _flat(func: Any, module: tvm.IRModule, context: Any) -> Any:
    """`FlattenBuffer` without its rewriting of indices as maps of loops, which gets those wrong that count down.

    (17 - v) // 16 * 16 + (1 - v) % 16 became 16 - v; others made it divide by zero, or read registers where loops begin
    before they are declared. It rewrites nothing inside a loop whose range hangs on another's variable: that is put
    around the body, and taken away again.
    """
    outer, inner = tirx.Var("outer", "int32"), tirx.Var("inner", "int32")
    one = tirx.IntImm("int32", 1)
    body = tirx.For(inner, outer, one, tirx.ForKind.SERIAL, func.body)
    wrapped = func.with_body(tirx.For(outer, tirx.IntImm("int32", 0), one, tirx.ForKind.SERIAL, body))
    flat = tt.FlattenBuffer()(tvm.IRModule({"f": wrapped}))["f"]
    return flat.with_body(flat.body.body.body)


flat_buffers = tirx.transform.prim_func_pass(_flat, opt_level=0, name="edgec.Flat")
_LOWER = [
    st.StmtSimplify(),
    flat_buffers,
    tt.NarrowDataType(32),
    tt.VectorizeLoop(True),
    tt.StorageRewrite(),
    tt.UnrollLoop(),
    tt.StmtSimplify(),
    tt.RemoveNoOp(),
    st.RewriteUnsafeSelect(),
    tt.CommonSubexprElim(),
    tt.VerifyMemory(),
    tt.LowerIntrin(),
]


# For Thumb: a loop of a few turns, how many LLVM cannot know, is not written out for each count.
_THUMB = ["-unroll-max-upperbound:uint=0"]
# LLVM's own limit of a loop that is written out is 300: it takes up to a third more flash, and as long or longer. Where
# layers share code any limit keeps some apart whose code would be one.
_SHORT = ["-unroll-threshold-aggressive:uint=230"]
_SMALL = ["-unroll-threshold-default:uint=0"]  # no loop is written out, where code is to be small


def tvm_target(target: Target) -> Any:
    """TVM's description of one of our targets."""
    spec: dict[str, Any] = {"kind": "llvm", "mtriple": _triple(target.triple), "mcpu": target.cpu.mcpu}
    if target.cpu.mattr:
        spec["mattr"] = list(target.cpu.mattr)
    if target.pointer_bits == 32:
        spec["vector-width"] = target.cpu.vector_bits  # where LLVM knows of no vectors it warns
    if target.triple.startswith("thumb"):
        spec["cl-opt"] = _THUMB if target.shares_code else [*_THUMB, *_SHORT]
    if target.small:
        spec |= {"opt-level": 1, "cl-opt": [*spec.get("cl-opt", []), *_SMALL]}
    if target.float_abi:
        spec["mfloat-abi"] = target.float_abi
    return TvmTarget(spec)


def check_core(target: Target) -> None:
    """An `EdgecError` where LLVM does not know architecture or core: it would crash, or warn of each kernel."""
    arch, mcpu = target.triple.partition("-")[0], target.cpu.mcpu
    archs = [str(name) for name in codegen.llvm_get_targets()]
    if not arch.startswith(tuple(archs)):
        raise EdgecError(f"target {target.name}: triple: LLVM knows no architecture {arch!r}{nearest(arch, archs)}")
    cores = codegen.llvm_get_cpu_archlist(TvmTarget({"kind": "llvm", "mtriple": _triple(target.triple)}))
    if mcpu not in cores:
        raise EdgecError(
            f"target {target.name}: mcpu: LLVM knows no {mcpu!r} of {arch}{nearest(mcpu, map(str, cores))}"
        )


def _triple(triple: str) -> str:
    """A triple of three parts (thumbv7em-none-eabihf) as LLVM takes it: with a vendor, or it sees no ABI in it.

    Then arithmetic that the core lacks calls the ABI's functions, with its registers; `gnu`: memory is copied by
    memcpy, which every C library has, and not by the ABI's own functions.
    """
    first, *rest = triple.split("-")
    return (
        f"{first}-unknown-none-gnu{rest[1]}" if len(rest) == 2 and rest[0] == "none" and "eabi" in rest[1] else triple
    )


def build(functions: Sequence[tuple[str, Any]], target: Target) -> Any:
    """A TVM runtime module: `.inspect_source("ll" | "asm")`, `.write_to_file("k.o")`."""
    t = tvm_target(target)
    module = tvm.IRModule(dict(functions))
    module = tirx.transform.BindTarget(t.with_host(t))(module)
    module = tvm.ir.transform.Sequential(_LOWER)(module)
    return tvm.get_global_func("target.build.llvm")(module, t)


def object_bytes(functions: Sequence[tuple[str, Any]], target: Target) -> bytes:
    """One relocatable ELF object that defines every function."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.o")
        build(functions, target).write_to_file(str(path))
        data = slim(path.read_bytes())
    return unscaled(data) if target.cpu.unscaled_loads else data
