"""Assembly of depthwise f32 convolutions on Cortex-M: windows of four channels, one or two at a time."""

from __future__ import annotations

from collections.abc import Sequence

from ...conv.shape import Axis

SIZE, ABREAST = 4, 2  # channels, windows
MOST_TAPS = 5  # of a row of two windows: weights of four channels each stand in registers
_DATA = 28  # of FPU registers, the first that holds data


def _function(name: str, sums: int, pointers: str, moved: int, lines: Sequence[str], first: int) -> str:
    """LLVM IR of `void name(sums, x, w, i32 ...)`: in the lines $0 and on are sums, then come x, w, and numbers, of
    which the first `moved` change. FPU registers from `first` on are loaded into."""
    numbers = pointers.split()
    kinds = ["float"] * sums + ["ptr", "ptr"] + ["i32"] * moved
    result, many = "{ " + ", ".join(kinds) + " }", len(kinds)
    constraints = ["=&t"] * sums + ["=&r"] * (2 + moved) + [str(k) for k in range(many)]
    constraints += ["r"] * (len(numbers) - moved) + [f"~{{s{k}}}" for k in range(first, 32)] + ["~{memory}", "~{cc}"]
    names = {n: f"${sums + 2 + k if k < moved else many + k - moved + many}" for k, n in enumerate(numbers)}
    names |= {"x": f"${sums}", "w": f"${sums + 1}"}
    text = "\\0A".join(line.format(**names) for line in lines)
    given = [*(f"float %s{k}" for k in range(sums)), "ptr %x", "ptr %w", *(f"i32 %{n}" for n in numbers)]
    body = [f"  %p{k} = getelementptr float, ptr %sums, i32 {k}\n  %s{k} = load float, ptr %p{k}" for k in range(sums)]
    body.append(f'  %r = call {result} asm sideeffect "{text}", "{",".join(constraints)}"({", ".join(given)})')
    body += [f"  %o{k} = extractvalue {result} %r, {k}\n  store float %o{k}, ptr %p{k}" for k in range(sums)]
    parameters = ", ".join(["ptr %sums", "ptr %x", "ptr %w", *(f"i32 %{n}" for n in numbers)])
    return f"define void @{name}({parameters}) {{\n" + "\n".join(body) + "\n  ret void\n}\n"


def one(name: str) -> str:
    """`void name(sums, x, w, rows, taps, skip, skip_weights, step)`: rows of taps, `step` bytes apart; what is skipped
    lies between two rows."""
    lines = [
        "1:", "mov {count}, {taps}", "2:", "vldmia {w}!, {{s24-s27}}", f"vldmia {{x}}, {{{{s{_DATA}-s31}}}}",
        "add {x}, {x}, {step}", *(f"vfma.f32 ${k}, s{_DATA + k}, s{24 + k}" for k in range(SIZE)),
        "subs {count}, #1", "bne 2b", "add {x}, {x}, {skip}", "add {w}, {w}, {weights}", "subs {rows}, #1", "bne 1b",
    ]  # fmt: skip
    made = _function(name, SIZE, "rows count taps skip weights step", 2, lines, 24)
    return made.replace("i32 %rows, i32 %count, i32 %taps", "i32 %rows, i32 %taps", 1).replace("i32 %count", "i32 0", 1)


def pair(name: str, axis: Axis) -> str:
    """`void name(sums, x, w, rows, skip, step)`: rows of two windows inside of the image; pixels lie `step` apart."""
    first = _DATA - SIZE * axis.kernel
    lines = ["1:", f"vldmia {{w}}!, {{{{s{first}-s{_DATA - 1}}}}}"]
    for offset in range((ABREAST - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1):
        used = [
            (window, tap)
            for window in range(ABREAST)
            for tap in range(axis.kernel)
            if window * axis.stride + tap * axis.dilation == offset
        ]
        if used:
            lines.append(f"vldmia {{x}}, {{{{s{_DATA}-s31}}}}")
        lines.append("add {x}, {x}, {step}")
        for window, tap in used:
            weights = first + tap * SIZE
            lines += [f"vfma.f32 ${window * SIZE + k}, s{_DATA + k}, s{weights + k}" for k in range(SIZE)]
    lines += ["add {x}, {x}, {skip}", "subs {rows}, #1", "bne 1b"]
    return _function(name, SIZE * ABREAST, "rows skip step", 1, lines, first)


def inside(axis: Axis) -> tuple[int, int]:
    """The first position whose window lies inside of an axis, and how many pairs of such there are."""
    reach = (axis.kernel - 1) * axis.dilation
    first = min(-(-axis.pad // axis.stride), axis.out)
    end = min((axis.size - 1 + axis.pad - reach) // axis.stride + 1, axis.out)
    return first, max(end - first, 0) // ABREAST
