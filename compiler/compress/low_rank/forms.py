"""Which forms a layer could have: every decomposition that fits, at the ranks that win on the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ...ir import Graph, Node
from ...layers import LAYERS, Layer, constant, layers_of
from ...macs import node_macs
from ...op import is_const
from ...target import Target
from .costs import LayerCosts
from .decompose import METHODS, Method, Rank
from .decompose_cp import CP
from .decompose_spatial import SPATIAL
from .decompose_svd import SVD
from .decompose_tucker import TUCKER
from .pieces import Piece, chain_macs, piece_of

assert [SVD, SPATIAL, TUCKER, CP]
MOST_MACS = 0.9  # of the layer's own, that a form may need
LANES = 4  # channels in steps of which ranks are tried where there is no target


@dataclass(frozen=True)
class Form:
    """A layer at a rank: its pieces, their multiplications, and their modelled microseconds where there is a target."""

    method: Method
    rank: Rank
    pieces: tuple[Piece, ...]
    macs: int
    cost: float | None = None

    def __str__(self) -> str:
        return f"{self.method.name} {'x'.join(map(str, self.rank))}"


@dataclass(frozen=True)
class Splittable:
    """A layer that has forms; those that do not win are not among them, `slower` is the best of these."""

    layer: Layer
    macs: int
    cost: float | None
    forms: tuple[Form, ...]
    slower: Form | None = None


def candidates(graph: Graph) -> tuple[list[Layer], dict[Node, str]]:
    """The layers that can be split, in order, and why each other convolution or matrix product cannot."""
    known = {layer.node: layer for layer in layers_of(graph)}
    found, reasons = list[Layer](), dict[Node, str]()
    for node in (n for n in graph.nodes() if n.op in LAYERS):
        why = _refusal(node, known.get(node))
        if why is None:
            found.append(known[node])
        elif not all(is_const(a) for a in node.args):
            reasons[node] = why
    return found, reasons


def _refusal(node: Node, layer: Layer | None) -> str | None:
    if node.op == "ConvTranspose":
        return "transposed convolutions are left alone"
    if constant(node.args[1]) is None:
        return "its weights are computed"
    if layer is None:
        if node.types[0].dtype != "f32":
            return f"its results are {node.types[0].dtype}; expected f32"
        return "its input is a constant, its bias is computed, or it has one axis"
    if node.op == "MatMul":
        return None if layer.weights.ndim == 2 else f"its weights are {layer.weights.ndim - 2 or 1} stacks of matrices"
    piece = piece_of(layer)
    if piece.group > 1:
        depthwise = piece.shape[1] == 1
        return "depthwise: nothing is left to split" if depthwise else f"it has {piece.group} groups"
    if not prod(layer.weights.shape) or not layer.node.types[0].size:
        return "it is empty"
    return None


def splittable(
    layer: Layer, methods: Sequence[str], costs: LayerCosts | None, min_gain: float, target: Target | None
) -> Splittable | str:
    """The forms of a layer that win by `min_gain`, or why none of the methods fits."""
    piece, macs = piece_of(layer), node_macs(layer.node)
    cost = None if costs is None else costs.chain(layer.input.type, (piece,))
    forms, slower, refused = list[Form](), None, list[str]()
    for name in methods:
        fits = METHODS[name].fits(piece)
        if fits is not True:
            refused.append(f"{name}: {fits}")
            continue
        for form in _forms(METHODS[name], layer, piece, macs, costs, target):
            if form.cost is None or cost is None or cost >= min_gain * form.cost:
                forms.append(form)
            elif slower is None or form.cost < (slower.cost or 0.0):
                slower = form
    if len(refused) == len(methods):
        return "; ".join(dict.fromkeys(refused))
    return Splittable(layer, macs, cost, tuple(forms), slower)


def _forms(
    method: Method, layer: Layer, piece: Piece, macs: int, costs: LayerCosts | None, target: Target | None
) -> Iterator[Form]:
    x = layer.input
    for rank in method.ranks(piece, target.programs[0].cpu.lanes() if target is not None else LANES):
        pieces = tuple(method.pieces(piece, rank))
        needed = chain_macs(x, pieces)
        if needed <= MOST_MACS * macs:
            yield Form(method, rank, pieces, needed, None if costs is None else costs.chain(x.type, pieces))
