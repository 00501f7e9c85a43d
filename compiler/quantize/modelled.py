"""What a graph would cost on the target: the modelled time of its kernels, before any of them is built."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EdgecError
from ..ir import Graph, Node
from ..op import OPS, body_of
from ..ops.integer import SUFFIX
from ..pipeline import parse_pipeline, run_pipeline
from ..session import Session

PASSES = "integers, attention, phases, channels, fuse, layout"


@dataclass(frozen=True)
class Costs:
    """Modelled microseconds on one core: of all kernels, and of those with a layer in them, by the layer's name."""

    total: float
    layers: dict[str, float]


def modelled(graph: Graph, session: Session) -> Costs:
    """Costs of a graph that has been canonicalized, for the session's target."""
    from ..driver import load_kernels

    if session.target is None:
        raise EdgecError("modelled times need a target; give --target")
    load_kernels()
    inner = Session(target=session.target, settings=session.settings, verify=0, tunings=session.tunings)
    total, layers = 0.0, dict[str, float]()
    for node in run_pipeline(graph, parse_pipeline(PASSES), inner).nodes():
        if node.op == "Edgec.Kernel":
            cost = _cost(node)
            total += cost
            inside = (n.name for n in body_of(node).nodes() if OPS[n.op].kind == "contract")
            layers |= dict.fromkeys((name.removesuffix(SUFFIX) for name in inside), cost)
    return Costs(total, layers)


def _cost(node: Node) -> float:
    cost = node.attrs["cost_us"]
    assert isinstance(cost, float)
    return cost
