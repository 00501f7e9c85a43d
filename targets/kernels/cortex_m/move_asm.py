"""Assembly that brings data into scratch on Cortex-M: bytes become 16 bits, and lie as inner loops read them."""

from __future__ import annotations

from .asm import raw_function
from .bytes import largest


def widened(name: str, apart: int, together: int, most: int = 4, turns: bool = False) -> str:
    """`void name(from, to, count, by)`: count times `together` words of bytes, plus `by`, as two words each that lie
    `apart` words from the next two. `turns`: the count is that of the loop's turns."""
    unroll = largest(together, most)
    each = ["ldr $3, [$0], #4", *(line.replace("$9", "$8") for line in _put(apart))]
    made = raw_function(
        name, "ptr %from, ptr %to, i32 %count, i32 %by", ["1:", *(each * unroll), "subs $2, #1", "bne 1b"],
        "=&r,=&r,=&r,=&r,=&r,0,1,2,r,~{memory},~{cc}", "{ ptr, ptr, i32, i32, i32 }",
        "ptr %from, ptr %to, i32 %n, i32 %by",
    )  # fmt: skip
    return made.replace("{\n", f"{{\n  %n = mul i32 %count, {1 if turns else together // unroll}\n", 1)


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


TAILS = {
    1: ["ldrb $3, [$0]"],
    2: ["ldrh $3, [$0]"],
    3: ["ldrb $4, [$0, #2]", "ldrh $3, [$0]", "orr $3, $3, $4, lsl #16"],
}


def _put(apart: int) -> list[str]:
    """Four bytes in $3, plus $9, to where $1 points."""
    return ["sxtab16 $4, $9, $3", "sxtab16 $3, $9, $3, ror #8", f"strd $4, $3, [$1], #{apart * 4}"]


def _line(apart: int, channels: int, taps: int, most: int, skipped: int) -> tuple[list[str], int]:
    """All columns of a row of a window, and by how much its pointer moves on. Few channels take no byte beyond, nor do
    those of one column that are no multiple of four."""
    word = ["ldr $3, [$0], #4", *_put(apart)]
    if skipped:
        words = channels // 4
        on = [f"addw $0, $0, #{skipped}"] if skipped < 4096 else [f"movw $3, #{skipped}", "add $0, $0, $3"]
        column = [*(word * words), *on]
        looped = [f"mov $5, #{taps}", "1:", *column, "subs $5, #1", "bne 1b"]
        return (looped if taps * words > most else column * taps), taps * (channels + skipped)
    if channels > 3:
        words, tail = taps * (channels // 4), [*TAILS[channels % 4], *_put(apart)] if channels % 4 else []
        turns, rest = divmod(words, most)
        if turns < 2:
            return [*(word * words), *tail], words * 4
        looped = [f"mov $5, #{turns}", "1:", *(word * most), "subs $5, #1", "bne 1b"]
        return [*looped, *(word * rest), *tail], words * 4
    if channels == 1:
        whole, rest = divmod(taps, 4)
        return [*(word * whole), *([*TAILS[rest], *_put(apart)] if rest else [])], whole * 4
    each = [f"ldr $3, [$0], #{channels}", *_put(apart)]
    return [*(each * (taps - 1)), *TAILS[channels], *_put(apart)], (taps - 1) * channels


def window(
    name: str, apart: int, channels: int, taps: int, rows: int, pitch: int, most: int = 4, skipped: int = 0,
    soft: bool = False,
) -> str:  # fmt: skip
    """`void name(from, to, by)`: a whole window, as `widened`; its rows lie `pitch` bytes apart. Of a pixel `skipped`
    bytes are not read. `soft`: the turns of a row's loop, and bytes from a row to the next, are given if there are any.
    """
    if soft:
        return _soft_window(name, apart, taps, channels, rows, most)
    line, moved = _line(apart, channels, taps, most, skipped)
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


def _soft_window(name: str, apart: int, taps: int, channels: int, rows: int, most: int) -> str:
    words, put = taps * (channels // 4), [line.replace("$9", "{by}") for line in _put(apart)]
    word, rest = ["ldr $3, [$0], #4", *put], words % most
    tail = [*TAILS[channels % 4], *put] if channels % 4 else []
    looped = words >= 2 * most
    given = [*(["turns"] if looped else []), *(["on"] if rows > 1 else [])]
    line = ["mov $5, {turns}", "1:", *(word * most), "subs $5, #1", "bne 1b", *(word * rest)]
    line = [*(line if looped else word * words), *tail]
    if rows > 1:
        line = [f"mov $2, #{rows}", "3:", *line, "add $0, $0, {on}", "subs $2, #1", "bne 3b"]
    names = {n: f"${8 + k}" for k, n in enumerate(["by", *given])}
    numbers = "".join(f", i32 %{n}" for n in given)
    return raw_function(
        name, f"ptr %from, ptr %to, i32 %by{numbers}", [text.format(**names) for text in line],
        f"=&r,=&r,=&r,=&r,=&r,=&r,0,1,{'r,' * (1 + len(given))}~{{memory}},~{{cc}}",
        "{ ptr, ptr, i32, i32, i32, i32 }", f"ptr %from, ptr %to, i32 %by{numbers}",
    )  # fmt: skip


def few_widened(name: str, apart: int, channels: int, taps: int) -> str:
    """`void name(from, to, count, by)`: as `widened`, of `count` pixels of two or three bytes that lie side by side.

    With one channel it is `taps` bytes. The last word takes no byte beyond.
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


def copied_by_table(name: str, apart: int, words: int, most: int) -> str:
    """`void name(from, to, turns)`: words that lie side by side, as words that lie `apart` words apart: so many turns
    of `most`, and the rest."""
    word = ["ldr $2, [$0], #4", f"str $2, [$1], #{apart * 4}"]
    lines = ["1:", *(word * most), "subs $3, #1", "bne 1b", *(word * (words % most))]
    return raw_function(
        name, "ptr %from, ptr %to, i32 %turns", lines, "=&r,=&r,=&r,=&r,0,1,3,~{memory},~{cc}",
        "{ ptr, ptr, i32, i32 }", "ptr %from, ptr %to, i32 %turns",
    )  # fmt: skip


def copied(
    name: str, apart: int, words: int, rows: int, pitch: int, most: int = 4, taps: int = 1, skipped: int = 0
) -> str:
    """`void name(from, to)`: `rows` rows of words, `pitch` bytes apart, as words that lie `apart` words apart. A row is
    that many words of each of some `taps`, between which bytes are skipped."""
    word = ["ldr $3, [$0], #4", f"str $3, [$1], #{apart * 4}"]
    turns, rest = divmod(words, most)
    line = word * words
    if turns > 1:
        line = [f"movw $4, #{turns}", "1:", *(word * most), "subs $4, #1", "bne 1b", *(word * rest)]
    if taps > 1:
        on_tap = [f"movw $3, #{skipped & 0xFFFF}", f"movt $3, #{skipped >> 16 & 0xFFFF}", "add $0, $0, $3"]
        on_tap = [f"addw $0, $0, #{skipped}"] if skipped < 4096 else on_tap
        line = [f"mov $6, #{taps}", "2:", *line, *on_tap, "subs $6, #1", "bne 2b"]
    lines = line
    if rows > 1:
        on = pitch - taps * (words * 4 + (skipped if taps > 1 else 0))
        lines = [
            f"movw $5, #{on & 0xFFFF}",
            f"movt $5, #{on >> 16 & 0xFFFF}",
            f"mov $2, #{rows}",
            "3:",
            *line,
            "add $0, $0, $5",
        ]
        lines += ["subs $2, #1", "bne 3b"]
    return raw_function(
        name, "ptr %from, ptr %to", lines, "=&r,=&r,=&r,=&r,=&r,=&r,=&r,0,1,~{memory},~{cc}",
        "{ ptr, ptr, i32, i32, i32, i32, i32 }", "ptr %from, ptr %to",
    )  # fmt: skip


def gathered_by_table(name: str, rest: int) -> str:
    """`void name(from, to, turns, step)`: 4 * turns + `rest` bytes that lie `step` apart, as 16 bits side by side."""
    places = ["", ", {step}", ", {step}, lsl #1", ", {thrice}"]

    def some(many: int) -> list[str]:
        names = ["$2", "$3", "$4", "$5"][:many]
        on = ["add $0, $0, {step}, lsl #2"] if many == 4 else []
        loads = [f"ldrsb {n}, [$0{place}]" for n, place in zip(names, places, strict=False)]
        return [*loads, *on, *(f"strh {n}, [$1], #2" for n in names)]

    lines = ["mov $6, {turns}", "1:", *some(4), "subs $6, #1", "bne 1b", *some(rest)]
    made = raw_function(
        name, "ptr %from, ptr %to, i32 %turns, i32 %step",
        [line.format(turns="$9", step="$10", thrice="$11") for line in lines],
        "=&r,=&r,=&r,=&r,=&r,=&r,=&r,0,1,r,r,r,~{memory},~{cc}",
        "{ ptr, ptr, i32, i32, i32, i32, i32 }", "ptr %from, ptr %to, i32 %turns, i32 %step, i32 %thrice",
    )  # fmt: skip
    return made.replace("{\n", "{\n  %thrice = mul i32 %step, 3\n", 1)


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
