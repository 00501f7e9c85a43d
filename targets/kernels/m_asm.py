"""The inner loops of int8 kernels for Cortex-M in assembly, as LLVM functions that a kernel calls and that are inlined.

LLVM unrolls such loops and mixes their turns until the sums no longer fit thirteen registers. Here every register is
accounted for: sums, two pointers, widened weights, one pair of words of data; where a loop ends stands in an FPU register.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def imported(text: str, body: Stmt) -> Stmt:
    """Statements that call functions of LLVM IR."""
    return tirx.AttrStmt(tir.i32(0), "pragma_import_llvm", StringImm(text), body)


def called(name: str, *pointers: Expr) -> Stmt:
    return tirx.Evaluate(tirx.call_extern("void", name, *pointers))


def at(buffer: Buffer, index: Expr | int) -> Expr:
    """The address of an element."""
    return tirx.address_of(tir.load(buffer, index))


def raw_function(name: str, parameters: str, lines: Sequence[str], constraints: str, kinds: str, given: str) -> str:
    """LLVM IR of a function of nothing but assembly."""
    text = "\\0A".join(lines)
    return f'define void @{name}({parameters}) {{\n  %r = call {kinds} asm sideeffect "{text}", "{constraints}"({given})\n  ret void\n}}\n'


def widened(name: str, apart: int, together: int) -> str:
    """`void name(from, to, count, by)`: count times `together` words of bytes, plus `by`, as two words each that lie
    `apart` words from the next two."""
    unroll = max(n for n in range(1, 5) if together % n == 0)
    each = ["ldr $3, [$0], #4", "sxtab16 $4, $6, $3", "sxtab16 $3, $6, $3, ror #8", f"strd $4, $3, [$1], #{apart * 4}"]
    lines = ["1:", *(each * unroll), "subs $2, #1", "bne 1b"]
    kinds = "{ ptr, ptr, i32, i32, i32 }"
    constraints = "=&r,=&r,=&r,=&r,=&r,r,r,0,1,2,~{memory},~{cc}".replace("r,r,0", "r,0")
    scale = together // unroll
    head = f"  %n = mul i32 %count, {scale}\n"
    made = raw_function(
        name,
        "ptr %from, ptr %to, i32 %count, i32 %by",
        lines,
        "=&r,=&r,=&r,=&r,=&r,0,1,2,r,~{memory},~{cc}",
        kinds,
        "ptr %from, ptr %to, i32 %n, i32 %by",
    ).replace("$6", "$8")
    return made.replace("{\n", "{\n" + head, 1)


def filled(name: str, apart: int) -> str:
    """`void name(to, count)`: zeros, as `widened` lays them."""
    lines = ["1:", f"strd $2, $2, [$0], #{apart * 4}", "subs $1, #1", "bne 1b"]
    return raw_function(
        name,
        "ptr %to, i32 %count",
        lines,
        "=&r,=&r,0,1,r,~{memory},~{cc}",
        "{ ptr, i32 }",
        "ptr %to, i32 %count, i32 0",
    ).replace("$2, $2", "$4, $4")


OPAQUE = """define i32 @m_opaque(i32 %x) {
  %r = call i32 asm sideeffect "", "=r,0"(i32 %x)
  ret i32 %r
}
"""


def opaque(value: Expr | int) -> Expr:
    """A value of which LLVM knows nothing: loops to it stay loops, and code is not doubled for its cases."""
    return tirx.call_extern("int32", "m_opaque", tir.expr(value))


STAY = """define void @m_stay() {
  call void asm sideeffect "", ""()
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


def gathered(name: str, count: int, step: int) -> str:
    """`void name(from, to)`: `count` bytes that lie `step` apart, as 16 bits side by side."""
    near = 3 * step < 4096
    each = 4 if near else 1

    def some(many: int) -> list[str]:
        if not near:
            return ["ldrsb $2, [$0]", "add $0, $0, $9", "strh $2, [$1], #2"] * many
        names = ["$2", "$3", "$4", "$5"][:many]
        loads = [f"ldrsb {n}, [$0, #{k * step}]" for k, n in enumerate(names)]
        return [
            *loads,
            f"addw $0, $0, #{many * step}" if many * step < 4096 else "add $0, $0, $9",
            *(f"strh {n}, [$1], #2" for n in names),
        ]

    turns, rest = divmod(count, each)
    if turns > 2:
        lines = [f"movw $6, #{turns}", "1:", *some(each), "subs $6, #1", "bne 1b", *some(rest)]
    else:
        lines = some(each) * turns + (some(rest) if rest else [])
    return raw_function(
        name, "ptr %from, ptr %to", lines, "=&r,=&r,=&r,=&r,=&r,=&r,=&r,0,1,r,~{memory},~{cc}",
        "{ ptr, ptr, i32, i32, i32, i32, i32 }", f"ptr %from, ptr %to, i32 {step * each}",
    )  # fmt: skip


def lines(name: str, part: Any, count: int, stride: int, begins: bool, unroll: int) -> str:
    """`void name(sums, end, lines ..., first, weights ...)`: sums of pairs of results over some taps of `count` lines.

    `begins`: sums start from `first`, the bits of an integer; else from what they are.
    """
    packs = len(part.packs)
    out = ["o", *(f"x{k}" for k in range(count)), "a0", "a1", "t0", "t1"]
    names = {n: f"${k}" for k, n in enumerate(out)}
    at = len(out) + 1 + count
    for n in ["end", "first", *(f"w{k}" for k in range(count * packs))]:
        names[n] = f"${at}"
        at += 1
    body = ["vmov {a0}, {first}", "vmov {a1}, {first}"] if begins else ["ldrd {a0}, {a1}, [{o}]"]
    for line in range(count):
        for word in reversed(range(0, part.words, 2)):
            two = word + 1 < part.words
            where = f"[{{x{line}}}, #{word * 4}]" if word else f"[{{x{line}}}], #{stride * 4}"
            body.append(f"ldrd {{t0}}, {{t1}}, {where}" if two else f"ldr {{t0}}, {where}")
            for have, result, operation, pack in part.products:
                if have in (word, word + 1):
                    w = line * packs + pack
                    body.append(f"{operation} {{a{result}}}, {{t{have - word}}}, {{w{w}}}, {{a{result}}}")
    body.append("strd {a0}, {a1}, [{o}], #8")
    text = ["1:", *(body * unroll), "vmov {t0}, {end}", "cmp {o}, {t0}", "bne 1b"]
    x = [f"ptr %x{k}" for k in range(count)]
    w = [f"i32 %w{k}" for k in range(count * packs)]
    constraints = (
        ["=&r"] * len(out) + [str(k) for k in range(1 + count)] + ["t", "t"] + ["r"] * len(w) + ["~{memory}", "~{cc}"]
    )
    kinds = "{ " + ", ".join(["ptr"] * (1 + count) + ["i32"] * 4) + " }"
    made = raw_function(
        name, ", ".join(["ptr %o", "ptr %end", *x, "float %first", *w]), [t.format(**names) for t in text],
        ",".join(constraints), kinds, ", ".join(["ptr %o", *x, "float %stop", "float %first", *w]),
    )  # fmt: skip
    return made.replace("{\n", "{\n  %whole = ptrtoint ptr %end to i32\n  %stop = bitcast i32 %whole to float\n", 1)


TAILS = {
    1: ["ldrb $3, [$0]"],
    2: ["ldrh $3, [$0]"],
    3: ["ldrb $4, [$0, #2]", "ldrh $3, [$0]", "orr $3, $3, $4, lsl #16"],
}


def _put(apart: int) -> list[str]:
    """Four bytes in $3, plus $9, to where $1 points."""
    return ["sxtab16 $4, $9, $3", "sxtab16 $3, $9, $3, ror #8", f"strd $4, $3, [$1], #{apart * 4}"]


def _line(apart: int, channels: int, taps: int) -> tuple[list[str], int]:
    """All columns of a row of a window, and the bytes by which its pointer moves on. Few channels take no byte beyond."""
    word = ["ldr $3, [$0], #4", *_put(apart)]
    if channels > 3:
        words = taps * (-(-channels // 4))
        turns, rest = divmod(words, 4)
        if turns < 2:
            return word * words, words * 4
        return [f"mov $5, #{turns}", "1:", *(word * 4), "subs $5, #1", "bne 1b", *(word * rest)], words * 4
    if channels == 1:
        whole, rest = divmod(taps, 4)
        return [*(word * whole), *([*TAILS[rest], *_put(apart)] if rest else [])], whole * 4
    each = [f"ldr $3, [$0], #{channels}", *_put(apart)]
    return [*(each * (taps - 1)), *TAILS[channels], *_put(apart)], (taps - 1) * channels


def window(name: str, apart: int, channels: int, taps: int, rows: int, pitch: int) -> str:
    """`void name(from, to, by)`: a whole window, as `widened`; its rows lie `pitch` bytes apart."""
    line, moved = _line(apart, channels, taps)
    if rows == 1:
        lines = line
    else:
        on = pitch - moved
        step = (
            [f"addw $0, $0, #{on}"]
            if 0 <= on < 4096
            else [f"movw $3, #{on & 0xFFFF}", f"movt $3, #{on >> 16 & 0xFFFF}", "add $0, $0, $3"]
        )
        lines = [f"mov $2, #{rows}", "3:", *line, *step, "subs $2, #1", "bne 3b"]
    return raw_function(
        name, "ptr %from, ptr %to, i32 %by", lines, "=&r,=&r,=&r,=&r,=&r,=&r,0,1,2,r,~{memory},~{cc}",
        "{ ptr, ptr, i32, i32, i32, i32 }", "ptr %from, ptr %to, i32 0, i32 %by",
    )  # fmt: skip


def few_widened(name: str, apart: int, channels: int, taps: int) -> str:
    """`void name(from, to, count, by)`: as `widened`, of `count` pixels of two or three bytes that lie side by side; with one
    channel, of `taps` bytes. The last word takes no byte beyond.
    """
    put, tails = [line.replace("$9", "$8") for line in _put(apart)], TAILS
    if channels == 1:
        whole, rest = divmod(taps, 4)
        lines = ["ldr $3, [$0], #4", *put] * whole + ([*tails[rest], *put] if rest else [])
    else:
        lines = [
            "subs $2, #1",
            "beq 2f",
            "1:",
            f"ldr $3, [$0], #{channels}",
            *put,
            "subs $2, #1",
            "bne 1b",
            "2:",
            *tails[channels],
            *put,
        ]
    return raw_function(
        name, "ptr %from, ptr %to, i32 %count, i32 %by", lines, "=&r,=&r,=&r,=&r,=&r,0,1,2,r,~{memory},~{cc}",
        "{ ptr, ptr, i32, i32, i32 }", "ptr %from, ptr %to, i32 %count, i32 %by",
    )  # fmt: skip
