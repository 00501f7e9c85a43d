"""The products of a recurrence on Cortex-M with an FPU: all sums of a tile in registers, by assembly.

A step loads one number of h, and for each gate a line of weights from that gate's panel, with one instruction each.
"""

from __future__ import annotations

from .m_asm import raw_function
from .m_gates import unrolled


def gate_dots(name: str, gates: int, width: int, hidden: int, small: bool) -> str:
    """LLVM IR of `void name(sums, h, panels ...)`: sums [gate][unit], from zero, of `hidden` numbers by lines."""
    many, unroll = gates * width, unrolled(hidden, small)
    first = 31 - width
    line = f"{{s{first}-s30}}" if width > 1 else "{s30}"
    pointers = [f"${many + k}" for k in range(1 + gates)]
    step = [f"vldmia {pointers[0]}!, {{s31}}"]
    for g, pointer in enumerate(pointers[1:]):
        step.append(f"vldmia {pointer}!, {line}")
        step += [f"vfma.f32 ${g * width + k}, s31, s{first + k}" for k in range(width)]
    count = f"${many + 1 + gates}"
    lines = [f"movw {count}, #{hidden // unroll}", "1:", *(step * unroll), f"subs {count}, #1", "bne 1b"]
    kinds = "{ " + ", ".join(["float"] * many + ["ptr"] * (1 + gates) + ["i32"]) + " }"
    constraints = ["=&t"] * many + ["=&r"] * (2 + gates) + [str(k) for k in range(many + 1 + gates)]
    constraints += [*(f"~{{s{k}}}" for k in range(first, 32)), "~{memory}", "~{cc}"]
    names = [f"%p{k}" for k in range(1 + gates)]
    given = ["float 0.0"] * many + [f"ptr {n}" for n in names]
    made = raw_function(
        name, ", ".join(["ptr %sums", *(f"ptr {n}" for n in names)]), lines, ",".join(constraints), kinds,
        ", ".join(given),
    )  # fmt: skip
    stores = [
        f"  %o{k} = extractvalue {kinds} %r, {k}\n  %a{k} = getelementptr float, ptr %sums, i32 {k}\n"
        f"  store float %o{k}, ptr %a{k}\n"
        for k in range(many)
    ]
    return made.replace("  ret void", "".join(stores) + "  ret void")
