"""The loop over all channels of a tile in assembly, where a Rescale is all that follows the sums.

Pointers that a block of channels moves on stand in FPU registers, since sums and weights need all others: bias, multipliers,
results, where data begin and end, where weights end. Two sums at a time move between the two kinds of registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.compiler.ir import Value
from edgec.compiler.op import const_array, full_attrs, is_const
from edgec.compiler.registry import Problem

from .common import input_index
from .m_asm import asm_function

FREE = 10  # s0 .. s9 hold multipliers and sums
FLOATS = ("bias", "factors", "out", "begin", "end", "stop")  # moved on: the first three


@dataclass(frozen=True)
class Limits:
    """What follows a rounded sum: + zero, within low .. high."""

    zero: int
    low: int
    high: int

    def lines(self, name: str, zero: str) -> list[str]:
        least, most = self.low - self.zero, self.high - self.zero
        if self.zero == -128 and least == 0 and most in (127, 255):
            return [f"usat {name}, #{most.bit_length()}, {name}"]
        found = [f"qadd {name}, {name}, {zero}"] if self.zero else []
        found.append(f"ssat {name}, #8, {name}")
        if self.low > -128:
            found += [f"cmp {name}, #{self.low}", "it lt", f"movlt {name}, #{self.low}"]
        if self.high < 127:
            found += [f"cmp {name}, #{self.high}", "it gt", f"movgt {name}, #{self.high}"]
        return found

    @property
    def flips(self) -> bool:
        """Whether the zero point is still to be added, by turning a bit of each byte."""
        least, most = self.low - self.zero, self.high - self.zero
        return self.zero == -128 and least == 0 and most in (127, 255)


@dataclass(frozen=True)
class Plain:
    """A Rescale to i8 that is all that follows: multipliers are a body input, one for each channel, or one number."""

    factors: Value | None
    factor: int  # bits of the number
    limits: Limits


def plain_rescale(problem: Problem) -> Plain | None:
    """What follows the anchor, where that is such a Rescale."""
    anchor, node = problem.anchor, problem.body.outputs[0].node
    if node.op != "Edgec.Rescale" or len(node.args) != 2 or node.args[0].node is not anchor:
        return None
    attrs: Any = full_attrs(node)
    shape, product = anchor.types[0].shape, "MatMul" in anchor.op
    channels = shape[-1 if product else 1]
    bias = anchor.args[2] if len(anchor.args) > 2 else None
    if attrs["to"] != "i8" or attrs["zeros"] != (0,) or bias is None or bias.shape != (channels,):
        return None
    limits, factors = Limits(attrs["zero"], attrs["low"], attrs["high"]), node.args[1]
    if input_index(problem.body, bias) < 0:
        return None
    if is_const(factors) and const_array(factors).size == 1:
        return Plain(None, int(const_array(factors).reshape(1).view("int32")[0]), limits)
    whole = (channels,) if product else (channels, *(1,) * (len(shape) - 2))
    here = factors.shape if not product else factors.shape[-1:]
    if input_index(problem.body, factors) < 0 or channels == 1 or here != whole or factors.type.size != channels:
        return None
    return Plain(factors, 0, limits)


def step(pixels: int, channels: int, direct: bool) -> list[str]:
    """Four products of each sum."""
    text: list[str] = []

    def weights(pair: int) -> None:
        text.append("ldrd {w0}, {w1}, [{w}], #8")
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
            weights(pair)
            products(0, pair)
        return text
    weights(0)
    for p in range(pixels):
        data()
        products(p, 0)
    return text


def sums(pixels: int, channels: int, steps: int, unroll: int, direct: bool) -> list[str]:
    """All steps of a block."""
    one = step(pixels, channels, direct)
    turns, rest = divmod(steps, unroll)
    if turns < 2:
        return one * steps
    return [*(one * rest), "1:", *(one * unroll), "vmov {x0}, {end}", "cmp {x}, {x0}", "bne 1b"]


def dots(name: str, pixels: int, channels: int, steps: int, unroll: int) -> str:
    """LLVM IR of `void name(sums, weights, data [, end of data])`: the sums of a block alone."""
    lines = sums(pixels, channels, steps, unroll, False)
    looped = steps // unroll >= 2
    return asm_function(
        name, pixels * channels, ["w", "x", *(["end"] if looped else [])], lines,
        ["w0", "h0", "w1", "h1", "x0", "x1"], "end" if looped else "",
    )  # fmt: skip


def finish(pixels: int, channels: int, plain: Plain, apart: int, short: bool) -> list[str]:
    """Sums to bytes in memory; pixels lie `apart`. `short`: offsets of pixels are given, those of pixels that there are not
    are 0: the first pixel is written last."""
    pairs, limits = channels // 2, plain.limits
    text = ["vmov {w0}, {factors}", f"vldmia {{w0}}!, {{{{s0-s{channels - 1}}}}}", "vmov {factors}, {w0}"]
    if plain.factors is None:
        text = []
    for p in range(pixels):
        text += [
            f"vmov s{4 + 2 * k}, s{5 + 2 * k}, {{a{p * channels + 2 * j}}}, {{a{p * channels + 2 * j + 1}}}"
            for j, k in _slots(p, pairs)
        ]
    used = [(4 + 2 * k + c, 2 * j + c) for p in range(pixels) for j, k in _slots(p, pairs) for c in (0, 1)]
    text += [f"vcvt.f32.s32 s{s}, s{s}" for s, _ in used]
    text += [f"vmul.f32 s{s}, s{s}, {f's{m}' if plain.factors else '{factors}'}" for s, m in used]
    text += [f"vcvtr.s32.f32 s{s}, s{s}" for s, _ in used]
    for p in range(pixels):
        text += [
            f"vmov {{a{p * channels + 2 * j}}}, {{a{p * channels + 2 * j + 1}}}, s{4 + 2 * k}, s{5 + 2 * k}"
            for j, k in _slots(p, pairs)
        ]
    if limits.zero and not limits.flips:
        text.append(f"mvn {{h0}}, #{~limits.zero}" if limits.zero < 0 else f"mov {{h0}}, #{limits.zero}")
    for a in range(pixels * channels):
        text += limits.lines(f"{{a{a}}}", "{h0}")
    text.append("vmov {w0}, {out}")
    for p in reversed(range(pixels)):
        first = p * channels
        text += [f"bfi {{a{first}}}, {{a{first + c}}}, #{8 * c}, #8" for c in range(1, channels)]
        if limits.flips:
            text.append(f"eor {{a{first}}}, {{a{first}}}, #0x80808080")
        where = "[{w0}]" if not p else f"[{{w0}}, #{p * apart}]"
        if short and p:
            text.append(f"vmov {{h1}}, {{offset{p}}}")
            where = "[{w0}, {h1}]"
        text.append(f"{'strh' if channels == 2 else 'str'} {{a{first}}}, {where}")
    return [*text, f"add {{w0}}, {{w0}}, #{channels}", "vmov {out}, {w0}"]


def _slots(p: int, pairs: int) -> list[tuple[int, int]]:
    """(pair of channels, pair of FPU registers) of a pixel."""
    return [(j, p * pairs + j) for j in range(pairs)]


def blocks(
    name: str, pixels: int, channels: int, steps: int, unroll: int, plain: Plain, apart: int, *,
    short: bool = False, direct: bool = False,
) -> str:  # fmt: skip
    """LLVM IR of `void name(weights, stop, begin, end, bias [, factors], out [, offsets of pixels] [, by])`."""
    whole = [
        "2:", "vmov {w0}, {bias}", *(f"ldrd {{a{c}}}, {{a{c + 1}}}, [{{w0}}], #8" for c in range(0, channels, 2)),
        "vmov {bias}, {w0}", *(f"mov {{a{p * channels + c}}}, {{a{c}}}" for p in range(1, pixels) for c in range(channels)),
        "vmov {x}, {begin}", *sums(pixels, channels, steps, unroll, direct), *finish(pixels, channels, plain, apart, short),
        "vmov {x0}, {stop}", "cmp {w}, {x0}", "bne 2b",
    ]  # fmt: skip
    integers = [*(f"a{k}" for k in range(pixels * channels)), "w0", "w1", "h0", "h1", "x0", "x1", "x", "w"]
    moved = FLOATS[:3]
    fixed = [*FLOATS[3:], *([f"offset{p}" for p in range(1, pixels)] if short else [])]
    names = {n: f"${k}" for k, n in enumerate([*integers, *moved])}
    ties = len(integers) + len(moved) + 1 + len(moved)
    names |= {n: f"${ties + k}" for k, n in enumerate([*fixed, *(["by"] if direct else [])])}
    text = "\\0A".join(line.format(**names) for line in whole)
    kinds = "{ " + ", ".join(["i32"] * (len(integers) - 1) + ["ptr"] + ["float"] * 3) + " }"
    constraints = ["=&r"] * len(integers) + ["=&t"] * 3 + [str(len(integers) - 1)]
    constraints += [str(len(integers) + k) for k in range(3)] + ["t"] * len(fixed) + ["r"] * direct
    constraints += [f"~{{s{k}}}" for k in range(FREE)] + ["~{memory}", "~{cc}"]
    pointers = ["stop", "begin", "end", "bias", *(["factors"] if plain.factors else []), "out"]
    body = [f"  %{p}.i = ptrtoint ptr %{p} to i32\n  %{p}.f = bitcast i32 %{p}.i to float" for p in pointers]
    offsets = [f"offset{p}" for p in range(1, pixels)] if short else []
    body += [f"  %{p}.f = bitcast i32 %{p} to float" for p in offsets]
    if plain.factors is None:
        body.append(f"  %factors.f = bitcast i32 {plain.factor} to float")
    given = ["ptr %w", *(f"float %{n}.f" for n in [*moved, *fixed]), *(["i32 %by"] if direct else [])]
    parameters = [
        "ptr %w",
        *(f"ptr %{p}" for p in pointers),
        *(f"i32 %{p}" for p in offsets),
        *(["i32 %by"] if direct else []),
    ]
    call = f'  %r = call {kinds} asm sideeffect "{text}", "{",".join(constraints)}"({", ".join(given)})'
    return f"define void @{name}({', '.join(parameters)}) {{\n" + "\n".join([*body, call]) + "\n  ret void\n}\n"
