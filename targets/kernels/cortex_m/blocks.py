"""The loop over all channels of a tile in assembly, where a Rescale is all that follows the sums.

Pointers that a block of channels moves on stand in FPU registers, since sums and weights need all others: bias,
multipliers, results, where data begin and end, where weights end. Two sums at a time move between the two kinds of
registers.
"""

from __future__ import annotations

from .asm import asm_function
from .rescale import Limits, Plain, Residual

FREE = 12  # s0 .. s11 hold multipliers, sums, and a pair that is added
OFFSETS = ("s12", "s13")  # where pixels 1 and 2 lie, if that is given
FLOATS = ("bias", "factors", "out", "begin", "end", "stop")  # moved on: the first three


def step(pixels: int, channels: int, direct: bool) -> list[str]:
    """Four products of each sum."""
    text: list[str] = []
    load = "ldrd {w0}, {w1}, [{w}], #8"

    def weights() -> None:
        for c in (0, 1):
            text.extend([f"sxtb16 {{h{c}}}, {{w{c}}}", f"sxtb16 {{w{c}}}, {{w{c}}}, ror #8"])

    def data() -> None:
        if direct:
            text.extend(["ldr {x1}, [{x}], #4", "sxtab16 {x0}, {by}, {x1}", "sxtab16 {x1}, {by}, {x1}, ror #8"])
        else:
            text.append("ldrd {x0}, {x1}, [{x}], #8")

    def products(p: int, pair: int) -> None:
        for x, w in (("x0", "h"), ("x1", "w")):
            for c in (0, 1):
                a = p * channels + pair * 2 + c
                text.append(f"smlad {{a{a}}}, {{{x}}}, {{{w}{c}}}, {{a{a}}}")

    if pixels == 1:
        data()
        for pair in range(channels // 2):
            text.append(load)
            weights()
            products(0, pair)
        return text
    text.append(load)
    for p in range(pixels):
        data()
        if not p:
            weights()  # while the first pixel's data come
        products(p, 0)
    return text


def half_step(pixels: int, channels: int) -> list[str]:
    """The last two products of each sum, where the weights of a channel are no whole words: a word has those of two."""
    text: list[str] = []
    for pair in range(channels // 2):
        text += ["ldr {w0}, [{w}], #4", "sxtb16 {h0}, {w0}", "sxtb16 {w0}, {w0}, ror #8"]
        for p in range(pixels):
            a = p * channels + pair * 2
            if not pair:
                text.append("ldrd {x0}, {x1}, [{x}], #8")
            for x, w in (("x0", "h0"), ("x1", "w0")):
                text += [f"smlab{half} {{a{a + c}}}, {{{x}}}, {{{w}}}, {{a{a + c}}}" for c, half in enumerate("bt")]
    return text


def sums(pixels: int, channels: int, steps: int, unroll: int, direct: bool, half: bool = False) -> list[str]:
    """All steps of a block, and half of one."""
    one, last = step(pixels, channels, direct), half_step(pixels, channels) if half else []
    turns, rest = divmod(steps, unroll)
    if turns < 2:
        return one * steps + last
    return [*(one * rest), "1:", *(one * unroll), "vmov {x0}, {end}", "cmp {x}, {x0}", "bne 1b", *last]


def dots(name: str, pixels: int, channels: int, steps: int, unroll: int, half: bool = False) -> str:
    """LLVM IR of `void name(sums, weights, data [, end of data])`: the sums of a block alone."""
    lines = sums(pixels, channels, steps, unroll, False, half)
    looped = steps // unroll >= 2
    return asm_function(
        name, pixels * channels, ["w", "x", *(["end"] if looped else [])], lines,
        ["w0", "h0", "w1", "h1", "x0", "x1"], "end" if looped else "",
    )  # fmt: skip


def finish(pixels: int, channels: int, plain: Plain, apart: int, short: bool, soft: bool) -> list[str]:
    """Sums to bytes in memory; pixels lie `apart`.

    `short`: offsets of pixels are given. Those of pixels that there are not are 0, and the first pixel is written last.
    `soft`: limits and zero points are given too.
    """
    pairs, limits = channels // 2, plain.limits
    text = _multipliers(channels, plain)
    pair = [
        (f"s{4 + 2 * k}, s{5 + 2 * k}", f"{{a{p * channels + 2 * j}}}, {{a{p * channels + 2 * j + 1}}}")
        for p in range(pixels)
        for j, k in _slots(p, pairs)
    ]
    used = [(4 + 2 * k + c, 2 * j + c) for p in range(pixels) for j, k in _slots(p, pairs) for c in (0, 1)]
    to_floats = [*(f"vmov {s}, {a}" for s, a in pair), *(f"vcvt.f32.s32 s{s}, s{s}" for s, _ in used)]
    to_integers = [*(f"vcvtr.s32.f32 s{s}, s{s}" for s, _ in used), *(f"vmov {a}, {s}" for s, a in pair)]
    text += to_floats
    text += [f"vmul.f32 s{s}, s{s}, {f's{m}' if plain.factors else '{factors}'}" for s, m in used]
    if (residual := plain.residual) and residual.bytes:
        text += to_integers + _less(residual.bytes, residual.own_zero, pixels * channels) + to_floats
        text += [f"vmul.f32 s{s}, s{s}, {{own}}" for s, _ in used]
    if residual:
        text += _added(pixels, channels, residual, apart, short, soft)
    text += to_integers
    text += _limited(limits, pixels * channels, soft)
    text.append("vmov {w0}, {out}")
    if short and pixels == 3:
        text.append(f"vmov {{w1}}, {{h1}}, {', '.join(OFFSETS)}")
    elif short and pixels == 2:
        text.append(f"vmov {{w1}}, {OFFSETS[0]}")
    for p in reversed(range(pixels)):
        first = p * channels
        text += [f"bfi {{a{first}}}, {{a{first + c}}}, #{8 * c}, #8" for c in range(1, channels)]
        if limits.flips:
            text.append(f"eor {{a{first}}}, {{a{first}}}, #0x80808080")
        where = "[{w0}]" if not p else f"[{{w0}}, #{p * apart}]"
        if short and p:
            where = f"[{{w0}}, {{{'w1' if p == 1 else 'h1'}}}]"
        text.append(f"{'strh' if channels == 2 else 'str'} {{a{first}}}, {where}")
    return [*text, f"add {{w0}}, {{w0}}, #{channels}", "vmov {out}, {w0}"]


def _multipliers(channels: int, plain: Plain) -> list[str]:
    """Those of a block in s0 and on, where channels differ."""
    if plain.factors is None:
        return []
    loads = [f"vldmia {{w0}}!, {{{{s0-s{channels - 1}}}}}"]
    if plain.short:
        loads = []
        for c in range(0, channels, 2):
            loads += ["ldr {w1}, [{w0}], #4", "lsl {h0}, {w1}, #16", "bfc {w1}, #0, #16"]
            loads.append(f"vmov s{c}, s{c + 1}, {{h0}}, {{w1}}")
    return ["vmov {w0}, {factors}", *loads, "vmov {factors}, {w0}"]


def _biases(channels: int, plain: Plain, soft: bool) -> list[str]:
    """Those of a block, as sums of the first pixel."""
    shift, unit = plain.shift, plain.unit
    if shift is None:
        return [f"ldrd {{a{c}}}, {{a{c + 1}}}, [{{w0}}], #8" for c in range(0, channels, 2)]
    text = ["vmov {h0}, {unit}" if soft else f"movw {{h0}}, #{unit}"] if unit else []
    for c in range(0, channels, 2):
        low, high = f"{{a{c}}}", f"{{a{c + 1}}}"
        text.append(f"ldr {high}, [{{w0}}], #4")
        if unit:
            text += [f"smulbb {low}, {high}, {{h0}}", f"smultb {high}, {high}, {{h0}}"]
        else:
            text += [f"sxth {low}, {high}", f"asr {high}, {high}, #16"]
            text += [f"lsl {a}, {a}, #{shift}" for a in (low, high)]
    return text


def _limited(limits: Limits, count: int, soft: bool = False) -> list[str]:
    """Rounded sums to bytes, of which a bit may still have to be turned."""
    text: list[str] = []
    if limits.adds and soft:
        text.append("vmov {h0}, {zero}")
    elif limits.adds:
        text.append(f"mvn {{h0}}, #{~limits.zero}" if limits.zero < 0 else f"mov {{h0}}, #{limits.zero}")
    return text + [line for a in range(count) for line in limits.lines(f"{{a{a}}}", "{h0}")]


def _less(limits: Limits, zero: int, count: int) -> list[str]:
    """Rounded sums to bytes less a zero point."""
    by = zero + (128 if limits.flips else 0)
    return _limited(limits, count) + [f"sub {{a{a}}}, {{a{a}}}, #{by}" for a in range(count) if by]


def _added(pixels: int, channels: int, residual: Residual, apart: int, short: bool, soft: bool) -> list[str]:
    """Another tensor's bytes, rescaled, added to sums in FPU registers."""
    text = ["vmov {w1}, {residual}", *(["vmov {x1}, {less}"] if soft else [])]
    less = "{x1}" if soft else f"#{residual.zero}"
    for p in range(pixels):
        base, offset = "{w1}", p * apart
        if short and p:
            text += [f"vmov {{x0}}, {OFFSETS[p - 1]}", "add {x0}, {w1}, {x0}"]
            base, offset = "{x0}", 0
        for j, k in _slots(p, channels // 2):
            at = offset + 2 * j
            text += [f"ldrsb {{h0}}, [{base}, #{at}]", f"ldrsb {{h1}}, [{base}, #{at + 1}]"]
            text += [f"sub {h}, {h}, {less}" for h in ("{h0}", "{h1}") if soft or residual.zero]
            text += ["vmov s10, s11, {h0}, {h1}", "vcvt.f32.s32 s10, s10", "vcvt.f32.s32 s11, s11"]
            text += ["vmul.f32 s10, s10, {weight}", "vmul.f32 s11, s11, {weight}"]
            text += [f"vadd.f32 s{4 + 2 * k}, s{4 + 2 * k}, s10", f"vadd.f32 s{5 + 2 * k}, s{5 + 2 * k}, s11"]
    return [*text, f"add {{w1}}, {{w1}}, #{channels}", "vmov {residual}, {w1}"]


def given_numbers(plain: Plain) -> dict[str, int]:
    """Numbers of what follows the sums, in which layers differ: by the names that they have in the assembly."""
    found = {"zero": plain.limits.zero} if plain.limits.adds else {}
    if plain.unit is not None:
        found["unit"] = plain.unit
    if plain.factors is None:
        found["factors"] = plain.factor
    if plain.residual:
        found |= {"weight": plain.residual.factor, "less": plain.residual.zero}
    return found


def _slots(p: int, pairs: int) -> list[tuple[int, int]]:
    """(pair of channels, pair of FPU registers) of a pixel."""
    return [(j, p * pairs + j) for j in range(pairs)]


def blocks(
    name: str, pixels: int, channels: int, steps: int, unroll: int, plain: Plain, apart: int, *,
    short: bool = False, direct: bool = False, soft: bool = False, half: bool = False,
) -> str:  # fmt: skip
    """LLVM IR of `void name(weights, stop, begin, end, bias, [factors,] out [, residual, offsets of pixels, by])`.

    `soft`: then come those of `given_numbers`, which are constants else.
    """
    start = _biases(channels, plain, soft)
    others = [f"mov {{a{p * channels + c}}}, {{a{c}}}" for p in range(1, pixels) for c in range(channels)]
    whole = [
        *(f"vmov.f32 {s}, {{offset{p}}}" for p, s in enumerate(OFFSETS[: pixels - 1], 1) if short),
        "2:", "vmov {w0}, {bias}", *start, "vmov {bias}, {w0}", *others, "vmov {x}, {begin}",
        *sums(pixels, channels, steps, unroll, direct, half), *finish(pixels, channels, plain, apart, short, soft),
        "vmov {x0}, {stop}", "cmp {w}, {x0}", "bne 2b",
    ]  # fmt: skip
    integers = [*(f"a{k}" for k in range(pixels * channels)), "w0", "w1", "h0", "h1", "x0", "x1", "x", "w"]
    moved = [*FLOATS[:3], *(["residual"] if plain.residual else [])]
    offsets = [f"offset{p}" for p in range(1, pixels)] if short else []
    fixed = [*FLOATS[3:], *offsets, *(["weight", "own"] if plain.residual else [])]
    numbers = given_numbers(plain) if soft else {}
    fixed += [n for n in numbers if n not in ("factors", "weight")]
    names = {n: f"${k}" for k, n in enumerate([*integers, *moved])}
    ties = len(integers) + len(moved) + 1 + len(moved)
    names |= {n: f"${ties + k}" for k, n in enumerate([*fixed, *(["by"] if direct else [])])}
    text = "\\0A".join(line.format(**names) for line in whole)
    kinds = "{ " + ", ".join(["i32"] * (len(integers) - 1) + ["ptr"] + ["float"] * len(moved)) + " }"
    constraints = ["=&r"] * len(integers) + ["=&t"] * len(moved) + [str(len(integers) - 1)]
    constraints += [str(len(integers) + k) for k in range(len(moved))] + ["t"] * len(fixed) + ["r"] * direct
    constraints += [f"~{{s{k}}}" for k in range(FREE + (len(OFFSETS) if short else 0))] + ["~{memory}", "~{cc}"]
    pointers = ["stop", "begin", "end", "bias", *(["factors"] if plain.factors else []), "out"]
    pointers += ["residual"] if plain.residual else []
    body = [f"  %{p}.i = ptrtoint ptr %{p} to i32\n  %{p}.f = bitcast i32 %{p}.i to float" for p in pointers]
    body += [f"  %{p}.f = bitcast i32 %{p} to float" for p in [*offsets, *numbers]]
    if plain.factors is None and not soft:
        body.append(f"  %factors.f = bitcast i32 {plain.factor} to float")
    if plain.residual and not soft:
        body.append(f"  %weight.f = bitcast i32 {plain.residual.factor} to float")
    if plain.residual:
        body.append(f"  %own.f = bitcast i32 {plain.residual.own_factor} to float")
    given = ["ptr %w", *(f"float %{n}.f" for n in [*moved, *fixed]), *(["i32 %by"] if direct else [])]
    parameters = [
        "ptr %w",
        *(f"ptr %{p}" for p in pointers),
        *(f"i32 %{p}" for p in offsets),
        *(["i32 %by"] if direct else []),
        *(f"i32 %{n}" for n in numbers),
    ]
    call = f'  %r = call {kinds} asm sideeffect "{text}", "{",".join(constraints)}"({", ".join(given)})'
    return f"define void @{name}({', '.join(parameters)}) {{\n" + "\n".join([*body, call]) + "\n  ret void\n}\n"
