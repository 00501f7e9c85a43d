"""Never slower: layers that int8 would slow down on the target, conversions included, go back to f32."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..ir import Graph
from ..session import Session
from .modelled import Costs, modelled

SURE = 0.9  # share of the modelled f32 time under which int8 is faster, as far as the model can tell
WORTH = 1.25  # what int8 may take on a microcontroller, whose flash and RAM hold four times as many bytes as floats


@dataclass(frozen=True)
class Verdict:
    """Modelled costs of the model in f32 and as it is left, and why layers go back: reasons by name."""

    real: Costs
    stored: Costs
    slower: dict[str, str]


def affordable(
    graph: Graph, layers: Collection[str], without: Callable[[Collection[str]], Graph], session: Session
) -> Verdict:
    """Judge a quantized model: `without` gives its graph with some layers in f32, `graph` is the model in f32.

    Layers go back where their own kernels are slower in int8 and the whole becomes faster by it; all of them, where the
    whole would not be faster than f32 by more than the model may be wrong. On a microcontroller both may be slower by a
    quarter.
    """
    scarce = session.target is not None and session.target.microcontroller
    most, alike = (WORTH, WORTH) if scarce else (SURE, 1.0)
    real, stored = modelled(graph, session), modelled(without(()), session)
    slow = {
        name: f"in f32: modelled {stored.layers[name]:.0f} us in int8, {real.layers[name]:.0f} us in f32"
        for name in layers
        if stored.layers.get(name, 0.0) > alike * real.layers.get(name, 0.0) > 0
    }
    if slow:
        other = modelled(without(slow), session)
        slow, stored = (slow, other) if other.total < stored.total else ({}, stored)
    if stored.total >= most * real.total:
        how = "slower" if scarce else "hardly faster"
        why = (
            f"in f32: the model is {how} in int8, {stored.total:.0f} us modelled, than in f32, "
            f"{real.total:.0f} us; quantize{{slower=true}} keeps int8"
        )
        return Verdict(real, real, dict.fromkeys(layers, why))
    return Verdict(real, stored, slow)
