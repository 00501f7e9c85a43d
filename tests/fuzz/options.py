"""How a case is compiled: drawn from its seed, and written as one line that reads back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from edgec.compiler.errors import EdgecError
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import runs_here as runs
from edgec.targets.host import features

OPTIONAL = ("canonicalize", "fold", "attention", "phases", "channels")  # passes that a pipeline may lack


@dataclass(frozen=True)
class Options:
    """`without`: passes left out; `through_onnx`: exported and imported first; `each_pass`: answers after every pass;
    `bundle`: written, loaded and run through the C runtime as well."""

    target: str = "host"
    threads: int = 1
    without: tuple[str, ...] = ()
    through_onnx: bool = False
    each_pass: bool = False
    bundle: bool = False

    @property
    def passes(self) -> str:
        """The pipeline as an edit of the target's own."""
        return ", ".join(f"-{name}" for name in self.without)

    def __str__(self) -> str:
        words = [self.target, f"threads={self.threads}", *(f"-{name}" for name in self.without)]
        return " ".join(words + [name for name in ("through_onnx", "each_pass", "bundle") if getattr(self, name)])


def read_options(text: str) -> Options:
    """The options that `str` writes."""
    target, *words = text.split()
    threads = next((int(w.partition("=")[2]) for w in words if w.startswith("threads=")), 1)
    flags = {name: name in words for name in ("through_onnx", "each_pass", "bundle")}
    return Options(target, threads, tuple(w[1:] for w in words if w.startswith("-")), **flags)


def runs_here(target: str) -> bool:
    """Whether this machine has a target's instructions."""
    try:
        found = find_target(target)
    except EdgecError:
        return False
    return runs(found.triple) and found.cpu.isa <= features()


@cache
def targets() -> tuple[str, ...]:
    """This machine's own, and beside it what is built for many machines of its kind."""
    return tuple(name for name in ("host", "host", "x86") if runs_here(name))


def drawn_options(seed: int) -> Options:
    rng = random.Random(f"options {seed}")
    count = rng.choices((0, 1, 2, 5), (60, 25, 10, 5))[0]
    without = rng.sample(OPTIONAL, count)
    return Options(
        target=rng.choice(targets()),
        threads=rng.choice((1, 2)),
        without=tuple(name for name in OPTIONAL if name in without),
        through_onnx=rng.random() < 0.35,
        each_pass=rng.random() < 0.3,
        bundle=rng.random() < 0.25,
    )
