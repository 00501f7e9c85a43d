"""Assembly of pooling on Cortex-M with the DSP extension: windows of words of four bytes, a pixel of the result."""

from __future__ import annotations

from collections.abc import Sequence

from .asm import raw_function

# $0 from, $1 to, $2 words left, $3 and $4 what is found of four channels, $5 and $6 for the rest
_GREATEST = {"i8": "ssub8", "u8": "usub8"}


def _taken(kind: str, greatest: bool) -> list[str]:
    """The four bytes in $5 join what is found. Differences of bytes say which of two words' bytes are selected."""
    if greatest:
        return [f"{_GREATEST[kind]} $6, $3, $5", "sel $3, $3, $5"]
    return ["sxtab16 $3, $3, $5", "sxtab16 $4, $4, $5, ror #8"]


def _stored(greatest: bool) -> list[str]:
    """Four bytes, or four sums of 32 bits."""
    if greatest:
        return ["str $3, [$1], #4"]
    return ["sxth $5, $3", "sxth $6, $4", "strd $5, $6, [$1], #8", "asr $5, $3, #16", "asr $6, $4, #16",
            "strd $5, $6, [$1], #8"]  # fmt: skip


def inside(name: str, kind: str, greatest: bool, words: int, offsets: Sequence[int]) -> str:
    """`void name(from, to)`: all words of a pixel; a window's bytes lie at `offsets` from its first, which is 0."""
    first = ["ldr $3, [$0]"] if greatest else ["ldr $5, [$0]", "sxtb16 $3, $5", "sxtb16 $4, $5, ror #8"]
    taps = [line for at in offsets[1:] for line in (f"ldr $5, [$0, #{at}]", *_taken(kind, greatest))]
    lines = [f"movw $2, #{words}", "1:", *first, *taps, *_stored(greatest), "add $0, $0, #4", "subs $2, #1", "bne 1b"]
    return raw_function(
        name, "ptr %from, ptr %to", lines, ",".join(["=&r"] * 7 + ["0", "1", "~{memory}", "~{cc}"]),
        "{ ptr, ptr, i32, i32, i32, i32, i32 }", "ptr %from, ptr %to",
    )  # fmt: skip


def covered(name: str, kind: str, greatest: bool, stored: int) -> str:
    """`void name(from, to, rows, columns, pitch)`: a word, of a window of any size, its rows `pitch` bytes apart."""
    lines = [
        *(["ldr $3, [$0]"] if greatest else ["mov $3, #0", "mov $4, #0"]),
        "1:", "mov $7, $0", "mov $8, $12",
        "2:", "ldr $5, [$7]", f"addw $7, $7, #{stored}", *_taken(kind, greatest), "subs $8, #1", "bne 2b",
        "add $0, $0, $13", "subs $2, #1", "bne 1b", *_stored(greatest),
    ]  # fmt: skip
    return raw_function(
        name, "ptr %from, ptr %to, i32 %rows, i32 %columns, i32 %pitch", lines,
        ",".join(["=&r"] * 9 + ["0", "1", "2", "r", "r", "~{memory}", "~{cc}"]),
        "{ ptr, ptr, i32, i32, i32, i32, i32, ptr, i32 }",
        "ptr %from, ptr %to, i32 %rows, i32 %columns, i32 %pitch",
    )  # fmt: skip
