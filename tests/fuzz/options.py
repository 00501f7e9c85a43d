"""How a case is compiled: drawn from its seed, and written as one line that reads back."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from functools import cache

from edgec.compiler.errors import EdgecError
from edgec.compiler.target import find_target, target_files
from edgec.compiler.toolchain import emulator, has_os
from edgec.compiler.toolchain import runs_here as runs
from edgec.targets.host import features

FLAGS = ("through_onnx", "each_pass", "bundle", "small")
OPTIONAL = ("canonicalize", "fold", "attention", "phases", "channels")  # passes that a pipeline may lack


@dataclass(frozen=True)
class Options:
    """`without`: passes left out; `rows`: the seed of a choice of kernels that no model makes (0: the modelled one);
    `through_onnx`: exported and imported first; `each_pass`: answers after every pass; `bundle`: written, loaded and
    run through the C runtime as well; `small`: kernels are made for size. Code for another machine is made and not run,
    but as a bundle of one with Linux that an emulator is here for."""

    target: str = "host"
    threads: int = 1
    without: tuple[str, ...] = ()
    rows: int = 0
    through_onnx: bool = False
    each_pass: bool = False
    bundle: bool = False
    small: bool = False

    @property
    def passes(self) -> str:
        """The pipeline as an edit of the target's own."""
        return ", ".join(f"-{name}" for name in self.without)

    def __str__(self) -> str:
        words = [self.target, f"threads={self.threads}", *(f"-{name}" for name in self.without)]
        words += [f"rows={self.rows}"] if self.rows else []
        return " ".join(words + [name for name in FLAGS if getattr(self, name)])


def read_options(text: str) -> Options:
    """The options that `str` writes."""
    target, *words = text.split()
    numbers = dict(w.split("=") for w in words if "=" in w)
    flags = {name: name in words for name in FLAGS}
    without = tuple(w[1:] for w in words if w.startswith("-"))
    return Options(target, int(numbers.get("threads", 1)), without, int(numbers.get("rows", 0)), **flags)


@cache
def runs_here(target: str) -> bool:
    """Whether this machine has a target's instructions."""
    try:
        found = find_target(target)
    except EdgecError:
        return False
    return runs(found.triple) and found.cpu.isa <= features()


@cache
def emulated(target: str) -> bool:
    """Whether a program for a target's Linux can be linked and run here."""
    described = find_target(target)
    cc, found = described.compilers, emulator(described)
    return has_os(described) and found is not None and any(map(shutil.which, cc))


@cache
def targets() -> dict[str, int]:
    """This machine's own, what is built for many machines of its kind, and now and then another's, with weights."""
    table = {"host": 60, "x86": 30, "arm": 2, "armv7": 2, "cortex-m7": 2}
    return {name: w for name, w in table.items() if runs_here(name) or (w < 10 and name in target_files())}


def drawn_options(seed: int) -> Options:
    rng = random.Random(f"options {seed}")
    count = rng.choices((0, 1, 2, 5), (60, 25, 10, 5))[0]
    without = rng.sample(OPTIONAL, count)
    return Options(
        target=rng.choices(list(targets()), list(targets().values()))[0],
        threads=rng.choice((1, 2)),
        without=tuple(name for name in OPTIONAL if name in without),
        rows=rng.randint(1, 999) if rng.random() < 0.4 else 0,
        through_onnx=rng.random() < 0.35,
        each_pass=rng.random() < 0.3,
        bundle=rng.random() < 0.25,
        small=rng.random() < 0.15,
    )
