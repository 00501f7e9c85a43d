"""TensorIR of a device function to CUDA C, through TVM's generator, of whose text only the kernel is kept."""

from __future__ import annotations

import re
from typing import Any

import tvm
import tvm.backend.cuda.codegen  # not there by itself where devices are not looked for
import tvm.s_tir.transform as st
import tvm.tirx.transform as tt
from tvm import tirx
from tvm.target import Target as TvmTarget

from ..codegen_llvm import flat_buffers

_LOWER = [
    st.StmtSimplify(),
    flat_buffers,
    tt.NarrowDataType(32),
    tt.VectorizeLoop(True),
    tt.StorageRewrite(),
    tt.StmtSimplify(),
    tt.RemoveNoOp(),
    st.RewriteUnsafeSelect(),
    tt.CommonSubexprElim(),
    tt.LowerIntrin(),
]
_START = 'extern "C" __global__'
_BITS = re.compile(r"\(\*\(([\w ]+?\**) \*\)\(&\(")  # as TVM reinterprets a value, which may be no variable
_target = TvmTarget({"kind": "cuda", "arch": "sm_80"})  # the text is the same for all


def _not_yet(code: str, target: Any) -> bytes:
    """TVM wants machine code at once; ours is made of several kernels together (nvrtc.py)."""
    return b""


tvm.register_global_func("tvm_callback_cuda_compile", _not_yet, override=True)


def cuda_text(function: Any) -> str:
    """The kernel as text, without what TVM puts before it; loops marked as unrolled are left to the CUDA compiler."""
    name = str(function.attrs["global_symbol"])
    module = tirx.transform.BindTarget(_target)(tvm.IRModule({name: function}))
    module = tvm.ir.transform.Sequential(_LOWER)(module)
    text = str(tvm.get_global_func("target.build.cuda")(module, _target).inspect_source())
    kernel = text[text.rindex(_START) :]  # the last: a declaration stands before
    return _BITS.sub(r"ec_bits<\1>(((", kernel).strip() + "\n"
