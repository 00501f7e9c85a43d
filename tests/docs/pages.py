"""Reads pages: their fenced blocks in order, and whether an output is the one that a page shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("sh", "python", "c", "cpp", "cmake", "eir", "rules", "toml", "json", "text", "output", "mermaid")
_FILE = re.compile(r"(?:#|//|/\*) ([\w./-]+\.\w+|CMakeLists\.txt)(?: \*/)?")


@dataclass(frozen=True)
class Block:
    """`line`: where the opening fence stands, from 1. `file`: the name in a first line that is only a comment."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        match = _FILE.fullmatch(self.text.partition("\n")[0].strip())
        return match[1] if match else ""


def blocks(page: Path) -> list[Block]:
    """Fenced blocks of a page. A fence without one of LANGUAGES, or with options behind it, is a ValueError."""
    found: list[Block] = []
    opened, info = 0, ""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if opened:
            found.append(Block(info, "".join(f"{text}\n" for text in lines[opened : number - 1]), opened))
            opened = 0
            continue
        opened, info = number, line[3:]
        if info not in LANGUAGES:
            raise ValueError(f"{page.name}:{number}: block {info!r}; known: {', '.join(LANGUAGES)}")
    if opened:
        raise ValueError(f"{page.name}:{opened}: the block has no end")
    return found


def shown(expected: str, output: str) -> bool:
    """Whether `output` is what `expected` shows. `...` stands for any text, on a line of its own for any lines."""
    pattern = ""
    for line in expected.rstrip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.rstrip().split("..."))) + "\n"
    plain = "".join(f"{line.rstrip()}\n" for line in output.rstrip().splitlines())
    return re.fullmatch(pattern, plain) is not None


def alike(expected: str, output: str) -> bool:
    """The same as `shown`, whatever the numbers, the names of kernels and the width of columns are."""
    return shown(_without_figures(expected), _without_figures(output))


def _without_figures(text: str) -> str:
    text = re.sub(r" \([\d.]+ [KM]iB\)", "", text)
    text = re.sub(r"\b\d[\d,]*(\.\d+)?(e[-+]?\d+)?\b", "0", text)
    text = re.sub(r"\b[a-z]+_\w+", "kernel", text)
    return "".join(" ".join(line.split()).replace("( ", "(") + "\n" for line in text.splitlines())


def replace(page: Path, block: Block, output: str) -> None:
    """Write `output` in place of the block's text."""
    lines = page.read_text().splitlines()
    lines[block.line : block.line + block.text.count("\n")] = [line.rstrip() for line in output.rstrip().splitlines()]
    page.write_text("\n".join(lines) + "\n")
