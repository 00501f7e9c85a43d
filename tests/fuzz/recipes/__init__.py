"""The table of recipes: how a node of each operator is drawn. A recipe is a few lines:

    @recipe("TopK")
    def top_k(d: Draw, op: str) -> None:
        x = d.pick(lambda t: len(t.shape) > 0, lambda: Type(d.dtype(NUMBERS), d.shape(2)))
        axis = d.axis(x)
        d.emit_all(op, x, axis=axis, k=d.integer(1, x.shape[axis]))

It picks arguments among the values there are, or makes fresh ones, and emits the node; `Unsuitable` (which `emit`
raises for what cannot be) means that another operation is drawn instead. Elementwise operators of one and two arguments
need no recipe: inference says which values suit. Operators that are not drawn stand in `EXCUSED`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgec.compiler.op import OPS

from ..draw import Draw

Make = Callable[[Draw, str], None]


@dataclass(frozen=True)
class Recipe:
    """How a node of an operator is drawn; `weight`: how often, beside the others of its family."""

    make: Make
    family: str
    weight: float = 1.0


RECIPES: dict[str, Recipe] = {}
EXCUSED: dict[str, str] = {
    "Input": "a graph's inputs are drawn as arguments",
    "Const": "constants are drawn as arguments",
}
FAMILIES = {"elementwise": 30, "maps": 26, "windows": 16, "folds": 12, "quantized": 5, "patterns": 14, "others": 14}


def recipe(*ops: str, family: str = "others", weight: float = 1.0) -> Callable[[Make], Make]:
    """Register a recipe for some operators (or, in family "patterns", for something of a name of its own)."""

    def register(make: Make) -> Make:
        for op in ops:
            if op in RECIPES:
                raise ValueError(f"two recipes for {op}")
            RECIPES[op] = Recipe(make, family, weight)
        return make

    return register


def missing() -> list[str]:
    """Operators that nobody can draw and nobody has excused; ours inside the compiler apart."""
    return [name for name in OPS if not name.startswith("Edgec.") and name not in RECIPES and name not in EXCUSED]


def load() -> None:
    """Fill the table."""
    from . import control, elementwise, folds, maps, patterns, positions, quantized, recurrent, selection, windows  # noqa: F401  # noqa: F401

    elementwise.generic()
