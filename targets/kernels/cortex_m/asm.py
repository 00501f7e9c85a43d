"""Assembly in kernels for Cortex-M: LLVM functions of nothing else, which a kernel calls and which are inlined.

LLVM unrolls inner loops and mixes their turns until sums no longer fit thirteen registers. Here every register is
accounted for: sums, pointers, weights and data of one step. Where a loop ends may stand in an FPU register.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import StringImm

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt


def asm_function(
    name: str, sums: int, pointers: Sequence[str], lines: Sequence[str], temporaries: Sequence[str], end: str = ""
) -> str:
    """LLVM IR of `void name(int *sums, pointers ...)`: `lines` with names in braces, which become registers.

    `end` names a pointer that is held in an FPU register, as `{end}`.
    """
    moving = [p for p in pointers if p != end]
    out = [f"a{i}" for i in range(sums)] + moving + list(temporaries)
    names = {n: f"${k}" for k, n in enumerate(out)}
    if end:
        names[end] = f"${len(out) + sums + len(moving)}"
    text = "\\0A".join(line.format(**names) for line in lines)
    kinds = ["i32"] * sums + ["ptr"] * len(moving) + ["i32"] * len(temporaries)
    ties = [f"{k}" for k in range(sums + len(moving))]
    constraints = ["=&r"] * len(out) + ties + (["t"] if end else []) + ["~{memory}", "~{cc}"]
    given = [f"i32 %s{i}" for i in range(sums)] + [f"ptr %{p}" for p in moving] + (["float %stop"] if end else [])
    body = [f"  %p{i} = getelementptr i32, ptr %sums, i32 {i}\n  %s{i} = load i32, ptr %p{i}" for i in range(sums)]
    if end:
        body.append(f"  %whole = ptrtoint ptr %{end} to i32\n  %stop = bitcast i32 %whole to float")
    many = len(out) > 1
    result = "{ " + ", ".join(kinds) + " }" if many else kinds[0]
    body.append(f'  %r = call {result} asm sideeffect "{text}", "{",".join(constraints)}"({", ".join(given)})')
    for i in range(sums):
        body.append(f"  %o{i} = extractvalue {result} %r, {i}\n  store i32 %o{i}, ptr %p{i}")
    parameters = ", ".join(["ptr %sums", *(f"ptr %{p}" for p in pointers)])
    return f"define void @{name}({parameters}) {{\n" + "\n".join(body) + "\n  ret void\n}\n"


def raw_function(name: str, parameters: str, lines: Sequence[str], constraints: str, kinds: str, given: str) -> str:
    """LLVM IR of a function of nothing but assembly."""
    text = "\\0A".join(lines)
    call = f'call {kinds} asm sideeffect "{text}", "{constraints}"({given})'
    return f"define void @{name}({parameters}) {{\n  %r = {call}\n  ret void\n}}\n"


def from_zero(
    name: str, sums: int, pointers: int, turns: int, step: Sequence[str], unroll: int, used: Sequence[int]
) -> str:
    """LLVM IR of `void name(float *sums, pointers ...)`: a `step` so many `turns`, and what it adds to sums from zero.

    In a step `$0` and on are sums, then come the pointers; `used` are the FPU registers that it loads into.
    """
    count = f"${sums + pointers}"
    lines = [f"movw {count}, #{turns // unroll}", "1:", *(list(step) * unroll), f"subs {count}, #1", "bne 1b"]
    kinds = "{ " + ", ".join(["float"] * sums + ["ptr"] * pointers + ["i32"]) + " }"
    constraints = ["=&t"] * sums + ["=&r"] * (pointers + 1) + [str(k) for k in range(sums + pointers)]
    constraints += [*(f"~{{s{k}}}" for k in used), "~{memory}", "~{cc}"]
    named = [f"ptr %p{k}" for k in range(pointers)]
    parameters, given = ", ".join(["ptr %sums", *named]), ", ".join(["float 0.0"] * sums + named)
    stores = [
        f"  %o{k} = extractvalue {kinds} %r, {k}\n  %a{k} = getelementptr float, ptr %sums, i32 {k}\n"
        f"  store float %o{k}, ptr %a{k}\n"
        for k in range(sums)
    ]
    made = raw_function(name, parameters, lines, ",".join(constraints), kinds, given)
    return made.replace("  ret void", "".join(stores) + "  ret void")


def imported(text: str, body: Stmt) -> Stmt:
    """Statements that call functions of LLVM IR."""
    return tirx.AttrStmt(tir.i32(0), "pragma_import_llvm", StringImm(text), body)


def called(name: str, *pointers: Expr) -> Stmt:
    return tirx.Evaluate(tirx.call_extern("void", name, *pointers))


def at(buffer: Buffer, index: Expr | int) -> Expr:
    """The address of an element."""
    return tirx.address_of(tir.load(buffer, index))


def twice(value: int) -> Expr:
    """A number in both halves of a word."""
    bits = (value & 0xFFFF) * 0x10001
    return tir.i32(bits - (1 << 32) if bits >> 31 else bits)


OPAQUE = """define i32 @m_opaque(i32 %x) {
  %r = call i32 asm sideeffect "", "=r,0"(i32 %x) memory(inaccessiblemem: readwrite)
  ret i32 %r
}
"""


def opaque(value: Expr | int) -> Expr:
    """A value of which LLVM knows nothing: loops to it stay loops, and code is not doubled for its cases."""
    return tirx.call_extern("int32", "m_opaque", tir.expr(value))


STAY = """define void @m_stay() {
  call void asm sideeffect "", ""() memory(inaccessiblemem: readwrite)
  ret void
}
define ptr @m_half(ptr %x) {
  %r = getelementptr i8, ptr %x, i32 2
  ret ptr %r
}
"""


def stay() -> Stmt:
    """Nothing, in a loop that LLVM shall not write out."""
    return called("m_stay")
