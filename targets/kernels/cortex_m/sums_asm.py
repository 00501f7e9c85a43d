"""Assembly of inner loops on Cortex-M beside those of blocks.py: lines of depthwise convolutions, Thumb-1, f32."""

from __future__ import annotations

from dataclasses import dataclass

from .asm import raw_function
from .depthwise_rows import Chunk
from .rescale import Plain


@dataclass(frozen=True)
class Ending:
    """What makes bytes of sums at once: a Rescale. Results lie `apart` bytes; of an `odd` number of them the last pair
    has one. `soft`: a zero point, and bytes between results, are given; the latter beside the end, in s2 and s3."""

    plain: Plain
    apart: int
    odd: bool
    soft: bool = False

    @property
    def lines(self) -> list[str]:
        limits = self.plain.limits
        text = ["vmov s0, s1, {a0}, {a1}"]
        for operation in ("vcvt.f32.s32 {0}, {0}", "vmul.f32 {0}, {0}, {{factor}}", "vcvtr.s32.f32 {0}, {0}"):
            text += [operation.format(s) for s in ("s0", "s1")]
        text.append("vmov {a0}, {a1}, s0, s1")
        if limits.adds and self.soft:
            text.append("vmov {t0}, {zero}")
        elif limits.adds:
            text.append(f"mvn {{t0}}, #{~limits.zero}" if limits.zero < 0 else f"mov {{t0}}, #{limits.zero}")
        for a in ("{a0}", "{a1}"):
            text += [*limits.lines(a, "{t0}"), *([f"eor {a}, {a}, #128"] if limits.flips else [])]
        text.append("strb {a0}, [{o}]")
        last = ["vmov {t0}, {end}", "cmp {o}, {t0}"]
        if self.soft:
            store = ["cmp {o}, {t0}", "it ne", "strbne {a1}, [{o}, {t1}]"] if self.odd else ["strb {a1}, [{o}, {t1}]"]
            return [*text, "vmov {t0}, {t1}, s2, s3", *store, "add {o}, {o}, {t1}, lsl #1"]
        if self.odd:
            text += [*last, "it ne", f"strbne {{a1}}, [{{o}}, #{self.apart}]"]
        else:
            text.append(f"strb {{a1}}, [{{o}}, #{self.apart}]")
        return [*text, f"addw {{o}}, {{o}}, #{2 * self.apart}"]


def _products(part: Chunk, count: int, stride: int) -> list[str]:
    """All that a pair of results takes of `count` lines."""
    text: list[str] = []
    for row in range(count):
        for word in reversed(range(0, part.words, 2)):
            two = word + 1 < part.words
            where = f"[{{x{row}}}, #{word * 4}]" if word else f"[{{x{row}}}], #{stride * 4}"
            text.append(f"ldrd {{t0}}, {{t1}}, {where}" if two else f"ldr {{t0}}, {where}")
            for have, result, operation, pack in part.products:
                if have in (word, word + 1):
                    weight = row * len(part.packs) + pack
                    text.append(f"{operation} {{a{result}}}, {{t{have - word}}}, {{w{weight}}}, {{a{result}}}")
    return text


def lines(
    name: str, part: Chunk, count: int, stride: int, begins: bool, unroll: int, ending: Ending | None = None
) -> str:
    """`void name(to, end, lines ..., first, factor, [apart, zero,] weights ...)`: sums of pairs of results over taps of
    `count` lines.

    `begins`: sums start from `first`, the bits of an integer; else from what they are. With an `ending` results are
    bytes, else sums; then the factor is nothing. The end of an odd number of bytes is the last of them.
    """
    out = ["o", *(f"x{k}" for k in range(count)), "a0", "a1", "t0", "t1"]
    soft = ["apart", "zero"] if ending and ending.soft else []
    after = ["end", "first", "factor", *soft, *(f"w{k}" for k in range(count * len(part.packs)))]
    names = {n: f"${k}" for k, n in enumerate(out)} | {n: f"${len(out) + 1 + count + k}" for k, n in enumerate(after)}
    body = ["vmov {a0}, {first}", "vmov {a1}, {first}"] if begins else ["ldrd {a0}, {a1}, [{o}]"]
    body += [*_products(part, count, stride), *(ending.lines if ending else ["strd {a0}, {a1}, [{o}], #8"])]
    last = ["cmp {o}, {t0}"] if soft else ["vmov {t0}, {end}", "cmp {o}, {t0}"]
    text = ["1:", *(body * unroll), *([] if ending and ending.odd else last), "bne 1b"]
    text = [*(["vmov.f32 s2, {end}", "vmov.f32 s3, {apart}"] if soft else []), *text]
    x = [f"ptr %x{k}" for k in range(count)]
    w = [f"i32 %{n}" for n in after[3 + len(soft) :]]
    ties, used = [str(k) for k in range(1 + count)], range(4 if soft else 2)
    constraints = ["=&r"] * len(out) + ties + ["t"] * (3 + len(soft)) + ["r"] * len(w)
    constraints += [*(f"~{{s{k}}}" for k in used), "~{memory}", "~{cc}"]
    kinds = "{ " + ", ".join(["ptr"] * (1 + count) + ["i32"] * 4) + " }"
    made = raw_function(
        name, ", ".join(["ptr %o", "ptr %end", *x, "float %first", "float %factor", *(f"i32 %{n}" for n in soft), *w]),
        [t.format(**names) for t in text], ",".join(constraints), kinds,
        ", ".join(["ptr %o", *x, "float %stop", "float %first", "float %factor", *(f"float %{n}.f" for n in soft), *w]),
    )  # fmt: skip
    heads = ["%whole = ptrtoint ptr %end to i32", "%stop = bitcast i32 %whole to float"]
    heads += [f"%{n}.f = bitcast i32 %{n} to float" for n in soft]
    return made.replace("{\n", "{\n" + "".join(f"  {line}\n" for line in heads), 1)


def raw_sums(name: str, pixels: int, unroll: int) -> str:
    """`void name(sums, end of weights, data, bias, -count)`: a byte of weights by a word of each pixel, in Thumb-1.

    Data of all pixels lie side by side. Sums stand in high registers, which can do no more than add.
    """
    low = [f"r{4 + p}" for p in range(pixels)]  # r7 may be reserved: it is put aside
    step = [
        "ldrsb r3, [r1, r2]", f"ldmia r0!, {{{', '.join(low)}}}", *(f"muls {r}, r3, {r}" for r in low),
        *(f"add ${p}, {r}" for p, r in enumerate(low)), "adds r2, #1",
    ]  # fmt: skip
    lines = [f"mov ${pixels}, r7", *(f"mov ${p}, r3" for p in range(pixels)), "1:", *(step * unroll), "bne 1b"]
    text = "\\0A".join([*lines, f"mov r7, ${pixels}"])
    result = "{ " + ", ".join(["i32"] * (pixels + 1) + ["ptr", "ptr", "i32", "i32"]) + " }"
    fixed = ["={r0}", "={r1}", "={r2}", "={r3}"]
    constraints = ["=&h"] * (pixels + 1) + fixed + [str(pixels + 1 + k) for k in range(4)]
    constraints += [f"~{{{r}}}" for r in low if r != "r7"] + ["~{memory}", "~{cc}"]
    given = "ptr %x, ptr %w, i32 %i, i32 %bias"
    body = [f'  %r = call {result} asm sideeffect "{text}", "{",".join(constraints)}"({given})']
    for p in range(pixels):
        body.append(f"  %o{p} = extractvalue {result} %r, {p}\n  %p{p} = getelementptr i32, ptr %sums, i32 {p}")
        body.append(f"  store i32 %o{p}, ptr %p{p}")
    head = f"define void @{name}(ptr %sums, ptr %w, ptr %x, i32 %bias, i32 %i) {{\n"
    return head + "\n".join(body) + "\n  ret void\n}\n"


def float_dots(name: str, pixels: int, channels: int, steps: int, unroll: int, soft: bool = False) -> str:
    """`void name(sums, weights, data)`: `steps` times `channels` weights by one element of each pixel. `soft`: the
    turns of the loop are given."""
    many = pixels * channels
    w, x = (f"$u{many}", f"$u{many + 1}")
    step = [f"vldmia {w}!, {{s24-s{23 + channels}}}", f"vldmia {x}!, {{s28{f'-s{27 + pixels}' if pixels > 1 else ''}}}"]
    step += [f"vfma.f32 $u{p * channels + c}, s{28 + p}, s{24 + c}" for p in range(pixels) for c in range(channels)]
    turns = steps // unroll
    count = f"mov $u{many + 2}, $u{2 * many + 5}" if soft else f"movw $u{many + 2}, #{turns}"
    lines = [count, "1:", *(step * unroll), f"subs $u{many + 2}, #1", "bne 1b"]
    text = "\\0A".join(lines).replace("$u", "$")
    kinds = "{ " + ", ".join(["float"] * many + ["ptr", "ptr", "i32"]) + " }"
    constraints = ["=&t"] * many + ["=&r"] * 3 + [str(k) for k in range(many + 2)] + ["r"] * soft
    constraints += [f"~{{s{k}}}" for k in range(24, 32)] + ["~{memory}", "~{cc}"]
    number = ["i32 %turns"] if soft else []
    given = [*(f"float %s{k}" for k in range(many)), "ptr %w", "ptr %x", *number]
    body = [f"  %p{k} = getelementptr float, ptr %sums, i32 {k}\n  %s{k} = load float, ptr %p{k}" for k in range(many)]
    body.append(f'  %r = call {kinds} asm sideeffect "{text}", "{",".join(constraints)}"({", ".join(given)})')
    body += [f"  %o{k} = extractvalue {kinds} %r, {k}\n  store float %o{k}, ptr %p{k}" for k in range(many)]
    parameters = ", ".join(["ptr %sums", "ptr %w", "ptr %x", *number])
    return f"define void @{name}({parameters}) {{\n" + "\n".join(body) + "\n  ret void\n}\n"
