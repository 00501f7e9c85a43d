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

from edgec.compiler.bundle.elf_slim import slim
from edgec.compiler.target import Target

_LOWER = [
    st.StmtSimplify(),
    tt.FlattenBuffer(),
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


def tvm_target(target: Target) -> Any:
    """TVM's description of one of our targets."""
    spec: dict[str, Any] = {"kind": "llvm", "mtriple": target.triple, "mcpu": target.cpu.mcpu}
    if target.cpu.mattr:
        spec["mattr"] = list(target.cpu.mattr)
    return TvmTarget(spec)


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
        return slim(path.read_bytes())
