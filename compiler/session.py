"""What one run of a pipeline knows and records: target and settings in; numbered rewrites, times and notes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .ir import Node, QParams
from .program import Arena
from .registry import Choice, Problem
from .target import Target
from .tunings import Tunings

if TYPE_CHECKING:
    from .compress.report import Report as Compression
    from .quantize.report import Report

MAX_RAM = "max_ram"  # the setting: bytes that the arena may have
BRIEF = "brief"  # the setting: what is compiled runs a few times here, so that no search for the smallest arena pays


@dataclass(frozen=True)
class Step:
    """One rewrite: its number (from 1), and the pass, rule and node it belongs to."""

    number: int
    pass_name: str
    rule: str
    node: str

    def __str__(self) -> str:
        return f"{self.pass_name} >> {self.rule} >> {self.node}"


@dataclass
class Session:
    """State of one run. Passes read `target` and `settings`, ask `step` before each rewrite, and may `note`.

    limit        at most so many rewrites happen; all later ones are refused (`edgec bisect`)
    verify       level of the verifier after each pass
    print_after  passes whose result is printed ("all": every one)
    dump         folder that gets NN-pass.eir after each pass
    why_rules    rules whose refusals are explained ("all": every one)
    why, out     where explanations and printed graphs go
    tunings      measured times that take the place of modelled ones; tuner: measures some more of them, before they
                 are used, for (kernel, its offers, how often it runs)
    scales       what the bytes of inputs and outputs stand for, by name, where they are quantized
    arena        the memory plan, once the pass `plan` has run
    quantization what became of each layer, once the pass `quantize` has run
    compression  what became of each layer, once a pass has removed channels, split weights or made them sparse
    settings     what the user asked for that is neither pass nor target (threads, calibration data ...); read only
    """

    target: Target | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    limit: int | None = None
    verify: int = 1
    print_after: frozenset[str] = frozenset()
    dump: Path | None = None
    why_rules: frozenset[str] = frozenset()
    why: Callable[[str], None] = print
    out: Callable[[str], None] = print
    tunings: Tunings | None = None
    tuner: Callable[[Sequence[tuple[Problem, Sequence[Choice], int]]], None] | None = None
    steps: list[Step] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scales: dict[str, QParams] = field(default_factory=dict)
    arena: Arena | None = None
    quantization: Report | None = None
    compression: Compression | None = None
    counters: dict[str, int] = field(default_factory=dict)
    known_rules: set[str] = field(default_factory=set)
    pass_name: str = ""
    refused: int = 0
    _told: set[str] = field(default_factory=set)

    def step(self, rule: str, node: Node | str) -> bool:
        """Number a rewrite; False when it must not happen because the limit is reached."""
        if self.limit is not None and len(self.steps) >= self.limit:
            self.refused += 1
            return False
        self.steps.append(Step(len(self.steps) + 1, self.pass_name, rule, place(node)))
        self.count(rule)
        return True

    def count(self, what: str, by: int = 1) -> None:
        """Add to a counter that reports show."""
        self.counters[what] = self.counters.get(what, 0) + by

    def note(self, text: str) -> None:
        """A remark for the report: what was withdrawn, and why."""
        self.notes.append(f"{self.pass_name}: {text}" if self.pass_name else text)

    def wants_why(self, rule: str) -> bool:
        """Whether the user asked why this rule does not apply."""
        return bool(self.why_rules) and (rule in self.why_rules or "all" in self.why_rules)

    def explain(self, rule: str, node: Node, reason: str) -> None:
        """Say why a rule does not apply at a node, once."""
        text = f"{rule} at {place(node)}: {reason}"
        if text not in self._told:
            self._told.add(text)
            self.why(text)

    @property
    def threads(self) -> int:
        """Workers that one inference may use."""
        threads = self.settings.get("threads", 1)
        return threads if isinstance(threads, int) else 1

    @property
    def last(self) -> str:
        """The last rewrite, for error messages."""
        return f"rewrite {self.steps[-1].number}: {self.steps[-1]}" if self.steps else "no rewrite"


def place(node: Node | str) -> str:
    """How messages name a node: its name, or operator and origin where it has none."""
    if isinstance(node, str):
        return node
    return node.name or (f"{node.op} from {node.origin[-1]}" if node.origin else node.op)
