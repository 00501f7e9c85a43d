"""What a search may do to a model: one row per method, and a candidate as so much of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ...errors import EdgecError, nearest

BEFORE = "canonicalize, fold"


@dataclass(frozen=True)
class Method:
    """A row.

    text       the pass, with {strength} and what follows from it ({rest} is 1 - strength), and {more} options; none:
               the model stays as it is, and its kernels are made for size
    draft      options that make it quick and rough; cost: those with which only shapes are right
    strengths  that candidates are made of, weakest first; probes: those that are tried alone
    group      at most one of a group is in a candidate
    serves     the limits that it is tried for; none: all
    bytes_in   inputs change their type: whoever calls the model must know
    """

    name: str
    help: str
    text: str
    draft: str
    cost: str
    strengths: tuple[float, ...]
    probes: tuple[float, ...]
    group: str
    serves: frozenset[str] = frozenset()
    bytes_in: bool = False

    def stage(self, strength: float, level: str) -> str:
        """Pipeline text."""
        options = {"full": "", "draft": self.draft, "cost": self.cost}[level]
        more = f", {options}" if options else ""
        return self.text.format(strength=f"{strength:.4g}", rest=f"{1 - strength:.4g}", more=more)


def _int8(
    name: str,
    what: str,
    stage: str,
    serves: set[str],
    cost: str = "equalize=false, learn=false, correct=false, samples=1",
    bytes_in: bool = False,
) -> Method:
    """A row of those that quantize."""
    return Method(
        name,
        what,
        stage,
        draft="samples=8",
        cost=cost,
        strengths=SHARES,
        probes=(1.0, 0.95, 0.85),
        group="int8",
        serves=frozenset(serves),
        bytes_in=bytes_in,
    )


SMALL = "small-code"
SHARES = (0.75, 0.85, 0.9, 0.95, 0.97, 1.0)  # of the layers in 8 bits

# In the order in which passes run.
METHODS = {
    row.name: row
    for row in (
        Method(
            "channels",
            "channels are removed, and the layers that read them make up for it",
            "prune{{channels={strength}{more}}}",
            draft="samples=128",
            cost="saliency=weight, repair=false",
            strengths=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
            probes=(0.2, 0.5),
            group="channels",
        ),
        Method(
            "low-rank",
            "layers become two or three with fewer multiplications",
            "low-rank{{macs={rest}{more}}}",
            draft="samples=64",
            cost="repair=false",
            strengths=(0.2, 0.4, 0.6),
            probes=(0.3, 0.6),
            group="low-rank",
        ),
        Method(
            "sparsity",
            "weights become zero where kernels are faster by it",
            "prune{{sparsity={strength}{more}}}",
            draft="samples=128",
            cost="repair=false",
            strengths=(0.5, 0.7, 0.8, 0.9),
            probes=(0.5, 0.8),
            group="sparsity",
            serves=frozenset({"latency", "flash", "drop"}),
        ),
        Method(
            "blocks",
            "weights become zero in blocks, which serve kernels on 8 bits too",
            "prune{{sparsity={strength}, block=16x4{more}}}",
            draft="samples=128",
            cost="repair=false",
            strengths=(0.3, 0.4, 0.5, 0.7),
            probes=(0.4,),
            group="sparsity",
            serves=frozenset({"latency", "drop"}),
        ),
        _int8(
            "int8",
            "so much of the layers on 8 bits, where that is faster",
            "quantize{{slower=false, real={rest}{more}}}",
            {"latency", "drop"},
        ),
        _int8(
            "int8-plain",
            "as int8, without evening out channels: functions stay tables of bytes, which is faster and less exact",
            "quantize{{slower=false, equalize=false, real={rest}{more}}}",
            {"latency", "drop"},
            cost="learn=false, correct=false, samples=1",
        ),
        _int8(
            "int8-small",
            "so much of the layers on 8 bits, faster or not",
            "quantize{{slower=true, real={rest}{more}}}",
            {"flash", "ram"},
        ),
        _int8(
            "int8-inputs",
            "as int8-small, and inputs as bytes",
            "quantize{{slower=true, real={rest}{more}}}, byte-inputs",
            {"ram"},
            bytes_in=True,
        ),
        Method(
            SMALL,
            "kernels are made for size, which takes time and changes no answer",
            "",
            draft="",
            cost="",
            strengths=(1.0,),
            probes=(1.0,),
            group=SMALL,
            serves=frozenset({"flash"}),
        ),
    )
}
WANTED = ("int8", "channels", "low-rank", "sparsity", SMALL)  # as users name them: by group


def methods_of(groups: Sequence[str] | None, limits: Sequence[str]) -> list[Method]:
    """The rows of some groups (all, where none are named) that serve a limit that is given."""
    for group in groups or ():
        if group not in WANTED:
            raise EdgecError(f"methods: no method {group!r}{nearest(group, WANTED)}")
    return [
        row
        for row in METHODS.values()
        if row.group in (groups or WANTED) and (not row.serves or row.serves & set(limits))
    ]


@dataclass(frozen=True)
class Candidate:
    """So much of each method."""

    strengths: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def of(strengths: Mapping[str, float]) -> Candidate:
        """In the order of the table, without what is not done."""
        return Candidate(tuple((name, strengths[name]) for name in METHODS if strengths.get(name)))

    def stages(self, level: str = "full") -> tuple[str, ...]:
        """Passes that follow BEFORE, as pipeline text."""
        return tuple(METHODS[name].stage(strength, level) for name, strength in self.model.strengths)

    @property
    def model(self) -> Candidate:
        """What is done to the model alone, whatever its kernels are made for."""
        return Candidate(tuple((name, strength) for name, strength in self.strengths if METHODS[name].text))

    @property
    def small(self) -> bool:
        """Whether kernels are made for size."""
        return any(name == SMALL for name, _ in self.strengths)

    @property
    def bytes_in(self) -> bool:
        """Whether inputs become bytes."""
        return any(METHODS[name].bytes_in for name, _ in self.strengths)

    def __str__(self) -> str:
        """For people."""
        words = [name if s == 1.0 else f"{name} {100 * s:.4g} %" for name, s in self.strengths]
        return ", ".join(words) or "as it is"


def grid(methods: Sequence[Method]) -> list[Candidate]:
    """All candidates of the rows' strengths."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for row in methods:
        groups.setdefault(row.group, []).extend((row.name, strength) for strength in row.strengths)
    return [
        Candidate.of(dict(one for one in chosen if one is not None))
        for chosen in product(*([None, *choices] for choices in groups.values()))
    ]


def neighbours(candidate: Candidate) -> list[Candidate]:
    """Candidates with one strength half way to the next weaker or stronger one of the table."""
    found = []
    given = dict(candidate.strengths)
    for name, strength in candidate.strengths:
        steps = METHODS[name].strengths
        weaker = max((s for s in steps if s < strength), default=None)
        stronger = min((s for s in steps if s > strength), default=None)
        for other in (weaker, stronger):
            if other is not None:
                found.append(Candidate.of({**given, name: round((strength + other) / 2, 4)}))
    return found
