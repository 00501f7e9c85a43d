"""What share of a core's multiply-add rate each step of a model reaches, as modelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle.manifest import Bundle
from .blocks import WORD, Block, traces
from .counted import Counting, Counts, Kernel
from .mca import Core, Model, disassembled

LEAST = 2e-4  # share of a step's instructions that a piece of code must have to be given to the model
GUESS = 2.0  # instructions per cycle of the others


@dataclass(frozen=True)
class Piece:
    """Code that is executed `times`: its cycles, what its multiply-adds would take alone, and what all of it would
    where the core's pipes are the only limit, each time."""

    times: int
    instructions: int
    cycles: float
    ideal: float
    least: float
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """A step: cycles of all its code, of the pieces of it that hold multiply-adds, of these alone at their full rate,
    and of all its code at the rate of the pipes; its hottest piece."""

    name: str
    kernel: str
    macs: int
    cycles: float
    inner: float
    ideal: float
    least: float
    hot: Piece | None

    @property
    def peak(self) -> float:
        return self.ideal / self.cycles if self.cycles else 0.0


def shares(bundle: Bundle, core: Core, level: str | None = None) -> list[Share]:
    """Every step of a bundle on a core. Inputs are random; loops that depend on data run as long as these let them."""
    from ..ports import Port, random_inputs

    model = Model(core)  # says what is missing before anything runs
    counting = Counting(bundle, level)
    ports = [Port(p["name"], p["dtype"], tuple(p["shape"])) for p in counting.bundle.manifest["inputs"]]
    counts = counting.count(random_inputs(ports))
    code = disassembled(counts.program, [kernel.symbol for kernel in counts.kernels])
    rows = counting.bundle.steps
    found = [step_share(row, counts, i, code, model) for i, row in enumerate(rows)]
    counting.folder.cleanup()
    return found


def step_share(row: dict[str, object], counts: Counts, step: int, code: dict[int, str], model: Model) -> Share:
    pieces = [(block, times) for kernel in counts.kernels for block, times in _executed(kernel, counts.steps[step])]
    texts = [[code[at] for b in piece for at in range(b.start, b.end, WORD)] for piece, _ in pieces]
    total = sum(times * len(text) for (_, times), text in zip(pieces, texts, strict=True))
    asked = [times * len(text) >= LEAST * total for (_, times), text in zip(pieces, texts, strict=True)]
    bytes_only = any(not form.startswith("f") for text in texts for form in model.products(text))
    given = iter(model.cycles([text for text, ask in zip(texts, asked, strict=True) if ask]))
    found = [
        Piece(times, len(text), taken, _ideal(model, text, bytes_only), least, tuple(text))
        for (_, times), text, ask in zip(pieces, texts, asked, strict=True)
        for taken, least in [next(given) if ask else (len(text) / GUESS, len(text) / GUESS)]
    ]
    hot = max(found, key=lambda p: p.times * p.cycles, default=None)
    return Share(
        name=str(row["name"]),
        kernel=f"{row['kernel']} {row['config']}".strip(),
        macs=int(str(row["macs"])),
        cycles=sum(p.times * p.cycles for p in found),
        inner=sum(p.times * p.cycles for p in found if p.ideal),
        ideal=sum(p.times * p.ideal for p in found),
        least=sum(p.times * min(p.least, p.cycles) for p in found),
        hot=hot,
    )


def _executed(kernel: Kernel, counted: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[tuple[list[Block], int]]:
    own = counted[kernel.first : kernel.first + len(kernel.blocks)]
    return traces(kernel.blocks, [int(n) for n in own]) if own.any() else []


def _ideal(model: Model, text: Sequence[str], bytes_only: bool = False) -> float:
    """Multiply-adds of floats do not count where bytes are multiplied: there they belong to rescalings."""
    forms = model.products(text).items()
    return sum(many * model.issue(form) for form, many in forms if not (bytes_only and form.startswith("f")))
