"""Measured times of kernels: a database file that one compilation writes and others read, ship and merge.

A row belongs to a kernel (operator, shapes, what is fused to it), a machine (instruction sets, CPU) and a compiler
(edgec with its kernels, LLVM), and holds microseconds by candidate. Times within a row were taken together and compare
with each other; of two rows for the same, the later one counts whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import exp, inf, log
from pathlib import Path
from typing import Any

from .errors import EdgecError
from .files import replaced
from .problems import signature
from .registry import Choice, Problem
from .sparse import named_form
from .target import Target
from .toolchain import cache_folder

FORMAT, VERSION = "edgec measured kernels", 1
Key = tuple[str, str, str]  # compiler, machine, kernel


def default_path() -> Path:
    return cache_folder() / "tune.json"


def candidate(choice: Choice) -> str:
    """The name of a choice in the database; constants without their zeros go by their form, whatever their number."""
    layouts = [", ".join(_shown(x) for x in side) for side in _sides(choice)]
    return f"{choice}: {' -> '.join(layouts)}"


def _shown(layout: str | None) -> str:
    form = named_form(layout or "")
    return form.name if form else "any" if layout is None else layout or "rows"


def _sides(choice: Choice) -> tuple[Sequence[str | None], Sequence[str | None]]:
    return choice.layouts_in, choice.layouts_out


@dataclass
class Tunings:
    """The rows of a database."""

    rows: dict[Key, dict[str, float]] = field(default_factory=dict)

    def known(self, problem: Problem) -> Mapping[str, float]:
        """Microseconds by candidate; empty where nothing was measured.

        For `host` only this CPU's figures count; for a named target those of any CPU with its instruction sets, the
        first by name, so that a compilation gives the same anywhere.
        """
        kernel, target = signature(problem), problem.target
        if target.name == "host":
            return self.rows.get((compiler(), machine(target), kernel), {})
        sets = _instruction_sets(target)
        fitting = [k for k in self.rows if k[0] == compiler() and k[2] == kernel and k[1].partition(" @ ")[0] == sets]
        return self.rows[min(fitting)] if fitting else {}

    def record(self, problem: Problem, times: Mapping[Choice, float]) -> None:
        """Put what was measured on this machine in the place of what was known."""
        key = (compiler(), machine(problem.target), signature(problem))
        self.rows[key] = {candidate(choice): round(us, 4) for choice, us in times.items()}

    def applied(self, problem: Problem, offers: Sequence[Choice]) -> list[Choice]:
        """The offers with measured times in place of modelled ones, cheapest first.

        What was not measured keeps its modelled time, corrected by how far the model is off for this kernel; it does
        not pass what was measured with the same layouts.
        """
        known = self.known(problem)
        measured = {c: known[name] for c in offers if (name := candidate(c)) in known}
        if not measured:
            return list(offers)
        off = exp(sum(log(max(us, 1e-4) / max(c.cost_us, 1e-4)) for c, us in measured.items()) / len(measured))
        least: dict[Any, float] = {}
        for c, us in measured.items():
            least[_sides(c)] = min(us, least.get(_sides(c), inf))
        found = [
            replace(c, cost_us=measured[c], measured=True)
            if c in measured
            else replace(c, cost_us=max(c.cost_us * off, least.get(_sides(c), 0.0)))
            for c in offers
        ]
        return sorted(found, key=lambda c: (c.cost_us, not c.measured))

    def merge(self, other: Tunings) -> None:
        """Add the rows of another database; where both have one, the other's counts."""
        self.rows.update(other.rows)

    @classmethod
    def read(cls, path: str | Path) -> Tunings:
        """The rows of a file; an `EdgecError` says what is wrong with it."""
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise EdgecError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise EdgecError(f"{path}: not a database of measured kernels: {error}") from error
        if not isinstance(table, dict) or table.get("format") != FORMAT:
            raise EdgecError(f"{path}: not a database of measured kernels; `edgec compile --tune` writes one")
        if table.get("version") != VERSION:
            raise EdgecError(f"{path}: is of version {table.get('version')!r}; this edgec reads version {VERSION}")
        return cls(_rows(table.get("rows"), str(path)))

    def write(self, path: str | Path) -> None:
        """Replace the file in one step."""
        rows = [
            {"compiler": key[0], "machine": key[1], "kernel": key[2], "us": dict(sorted(times.items()))}
            for key, times in sorted(self.rows.items())
        ]
        text = json.dumps({"format": FORMAT, "version": VERSION, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
        replaced(path, text.encode())


def _rows(rows: Any, where: str) -> dict[Key, dict[str, float]]:
    if not isinstance(rows, list):
        raise EdgecError(f"{where}: damaged: no list of rows")
    found: dict[Key, dict[str, float]] = {}
    for i, row in enumerate(rows):
        cells = row if isinstance(row, dict) else {}
        words, times = [cells.get(key) for key in ("compiler", "machine", "kernel")], cells.get("us")
        if not all(isinstance(word, str) for word in words) or not isinstance(times, dict):
            raise EdgecError(f"{where}: damaged: row {i} lacks compiler, machine, kernel or us")
        for name, us in times.items():
            if isinstance(us, bool) or not isinstance(us, (int, float)) or not 0 <= us < inf:
                raise EdgecError(f"{where}: damaged: row {i}: {name!r} takes {us!r} us")
        found[str(words[0]), str(words[1]), str(words[2])] = {name: float(us) for name, us in times.items()}
    return found


def machine(target: Target) -> str:
    """What this machine is when it runs code for a target: instruction sets, vector bits, CPU."""
    return f"{_instruction_sets(target)} @ {_cpu()}"


def _instruction_sets(target: Target) -> str:
    return f"{' '.join(sorted(target.cpu.isa))} {target.cpu.vector_bits} {target.cpu.mcpu}"


@cache
def _cpu() -> str:
    """The CPU as the system names it: model name, family, model and stepping, because names may be general."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown CPU"
    words = re.findall(r"^(?:model name|cpu family|model|CPU implementer|CPU part)\s*:\s*(.*)$", text, re.M)
    return " ".join(dict.fromkeys(" ".join(words[:3]).split())) or "unknown CPU"


@cache
def compiler() -> str:
    """What makes the code: edgec with a digest of its kernels, and the release of TVM that brings LLVM."""
    import edgec

    digest = hashlib.sha256()
    for path in sorted((Path(__file__).resolve().parents[1] / "targets").rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    try:
        tvm = version("apache-tvm")
    except PackageNotFoundError:
        tvm = "unknown"
    return f"edgec {edgec.__version__} kernels {digest.hexdigest()[:8]} tvm {tvm}"
