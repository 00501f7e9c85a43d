"""What several subcommands share: spellings of shapes and values, tables, progress, JSON."""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..bundle.names import middle_out
from ..errors import EdgecError

_WIDEST = 48  # characters of a cell: names of nodes can be of any length

Progress = Callable[[str, int, int], None]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--shape, --dim, --bind: what a model may leave open."""
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="INPUT=1x3x224x224",
        help="shape of an input that the model leaves open, or of what a random operator draws, which becomes one",
    )
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="size of a symbolic dimension")
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="INPUT=VALUE",
        help="fix an input at compile time (a number, or 1,2,3)",
    )


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    """--max-latency, --max-flash, --max-ram: what the compiled model may take."""
    for name, example, what in (
        ("latency", "TIME", "inference takes longer (20ms), as modelled"),
        ("flash", "SIZE", "weights and code are larger (900K)"),
        ("ram", "SIZE", "arena is larger (192K, 2M)"),
    ):
        parser.add_argument(f"--max-{name}", metavar=example, help=f"no model whose {what}")


def add_memory_option(parser: argparse.ArgumentParser) -> None:
    """--memory: the regions of a board."""
    parser.add_argument(
        "--memory",
        metavar="FILE",
        help="memory regions of the board, [[memory]] tables in TOML (default: the target's)",
    )


def add_inputs(parser: argparse.ArgumentParser, option: str, what: str) -> None:
    """--calib or --inputs, samples in one of many forms, and --calib-prep."""
    parser.add_argument(
        option,
        metavar="DATA",
        help=f"{what}: .npz by input name, a folder of .npy, .npz or pictures, or script.py:function",
    )
    parser.add_argument(
        "--calib-prep",
        metavar="P",
        help="how pictures become inputs: tf, torch, bgr, or scale=,mean=,std=,order=,fit=",
    )


def add_calibration_options(parser: argparse.ArgumentParser) -> None:
    """--calib and what belongs to it: the data and the aim of quantization."""
    add_inputs(parser, "--calib", "calibration data")
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="keep layers in f32 until at most this share of the samples is answered otherwise (0.01), or the score "
        "drops by at most so much",
    )
    parser.add_argument(
        "--score", metavar="FILE.py:FN", help="function(run) -> number, larger is better; see --max-drop"
    )


def shapes_of(args: argparse.Namespace) -> dict[str, tuple[Any, ...]]:
    """--shape as a table; `x=` is a scalar, `s=2x3,4` a sequence of a matrix and a vector."""
    return {name: _shapes(text, f"--shape {name}={text}") for name, text in _pairs("--shape", args.shape)}


def _shapes(text: str, where: str) -> tuple[Any, ...]:
    if "," not in text:
        return _shape(text, where)
    return tuple(_shape(one, where) for one in text.split(",") if one)


def dims_of(args: argparse.Namespace) -> dict[str, int]:
    """--dim as a table."""
    return {name: _sizes([text], f"--dim {name}={text}")[0] for name, text in _pairs("--dim", args.dim)}


def binds_of(args: argparse.Namespace) -> dict[str, Any]:
    """--bind as a table of numbers and lists of numbers."""
    return {name: _value(text, f"--bind {name}={text}") for name, text in _pairs("--bind", args.bind)}


def _pairs(flag: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name:
            raise EdgecError(f"{flag} {text}: expected NAME=VALUE")
        if name in seen:
            raise EdgecError(f"{flag} {name}: given twice")
        seen.add(name)
        yield name, value


def _shape(text: str, where: str) -> tuple[int, ...]:
    return _sizes(text.split("x"), where) if text else ()


def _sizes(words: Sequence[str], where: str) -> tuple[int, ...]:
    if not all(word.isdecimal() and word.isascii() and len(word) < 19 for word in words):
        raise EdgecError(
            f"{where}: expected sizes, such as 1x3x224x224" if len(words) > 1 else f"{where}: expected a size"
        )
    return tuple(map(int, words))


def _value(text: str, where: str) -> Any:
    if "," in text:
        return [_value(word, where) for word in text.split(",") if word]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise EdgecError(f"{where}: expected a number, true, false, or numbers with commas")


@contextmanager
def progress_bar(stage: str = "") -> Iterator[Progress | None]:
    """A bar on stderr while a long work goes on, at first of `stage`; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # What is printed meanwhile goes to stdout as ever: it may be a file.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(stage, total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total or None)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Plain columns: numbers to the right, also written ones; text, and all names in the first column, to the left.
    Long text is shortened, but not in the last column."""
    rows = [[*map(shorten, row[:-1]), row[-1]] for row in map(list, rows)]
    numeric = [bool(rows) and all(_is_number(row[i], i) for row in rows) for i in range(len(head))]
    return _layout([list(head), *([_cell(cell) for cell in row] for row in rows)], numeric)


def _layout(rows: list[list[str]], numeric: Sequence[bool]) -> str:
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        space = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [s + cell if right else cell + s for cell, s, right in zip(row, space, numeric, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """Columns of a terminal: names of nodes are in any script."""
    return len(text) + sum(unicodedata.east_asian_width(c) in "WF" for c in text) if not text.isascii() else len(text)


def _is_number(cell: object, column: int) -> bool:
    if isinstance(cell, str):
        return column > 0 and re.fullmatch(r"-?[\d,]*\.?\d+(e[-+]\d+)?", cell) is not None
    return isinstance(cell, (int, float))


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def shorten(value: object) -> object:
    """Text with its middle left out where it is long."""
    return middle_out(value, _WIDEST) if isinstance(value, str) else value


def show_json(value: object) -> None:
    print(json.dumps(value, indent=1))


def show_notes(notes: Iterable[str]) -> None:
    """What else a user should know, a line each, beside the result on stdout."""
    for note in notes:
        print(f"edgec: note: {note}", file=sys.stderr)


def size(count: int) -> str:
    """Bytes for people: `1,234` stays exact, with KiB or MiB beside it where that helps."""
    if count < 10_000:
        return f"{count:,} bytes"
    unit, divisor = ("MiB", 1 << 20) if count >= 1 << 20 else ("KiB", 1 << 10)
    return f"{count:,} bytes ({count / divisor:.1f} {unit})"


def footprint_lines(footprint: dict[str, dict[str, Any]] | None, width: int) -> list[str]:
    """What a bundle takes of flash and RAM, by parts, where there is no operating system."""
    lines = []
    for memory, parts in (footprint or {}).items():
        shown = ", ".join(
            f"{part} {'not known' if n is None else f'{n:,}'}" for part, n in parts.items() if part != "bytes"
        )
        lines.append(f"{memory.replace('ram', 'RAM'):<{width}} {size(parts['bytes'])}: {shown}")
    return lines
