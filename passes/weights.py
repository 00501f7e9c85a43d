"""Stores constant weights in fewer bits than they are multiplied in: f16, i8 with one scale per output channel, or 4
bits with a scale per block of 32 of a column.

Kernels widen them in registers (a Cast of a constant joins its contraction's kernel), so arithmetic and activations
stay f32 and only the bytes that are read change. f16 serves every layer that it can hold. i8 is coarser, and pays only
where a layer waits for its weights: it keeps f32 where the cost model sees no gain, and where all weights of the model
stay in the L2 cache, from which f32 comes as fast as i8 can be widened. So does a layer of 4 bits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.layout import packed_bytes
from edgec.compiler.op import build, const, const_array, int_attr, is_const
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.registry import Problem, choices
from edgec.compiler.session import Session
from edgec.compiler.target import Target
from edgec.compiler.units import counted

from .few_bits import BLOCK, MIDDLE, as_blocks, widened
from .fuse import make_body
from .integer.blocks import has_kernels

RECURRENT = ("Edgec.RNN", "Edgec.GRU", "Edgec.LSTM")
LARGEST = 127  # i8 is symmetric
HALF = 65504.0  # the largest f16
# error beyond which weights stay as they are: norms of difference and weights
ROUGH = {"f16": 1e-3, "int8": 0.05, "int4": 0.15}
GAIN = 1.1  # modelled time over that with i8, at least
EXACT = 2.0**-20  # of the largest weight: what f32 leaves between a product of code and scale and the weight
SAMPLE = 64  # weights of a channel that tell random ones from multiples of a scale
STEPS = {
    "canonicalize": "scales must be inside the weights",
    "fold": "weights must be constants",
    "quantize": "it reads the weights",
    "integers": "it makes real numbers of weights that stay real",
    "attention": "it looks through products",
    "phases": "it makes convolutions of others",
    "channels": "",
}


@graph_pass("weights", promise=lossy, after=STEPS)
def weights(
    graph: Graph,
    *,
    store: Literal["f16", "int8", "int4"] = "f16",
    least: int = 1024,
    everywhere: bool = False,
    session: Session,
) -> Graph:
    """Stores weights of at least `least` elements as f16, or as int8 or int4 where a layer is bound by reading them.

    `everywhere`: as int8 or int4 in all layers, whether it is faster or not.
    """
    session.known_rules.add("weights")
    return _Weights(graph, store, least, everywhere, session).graph()


class _Weights:
    """One run. `narrow` keeps what stands for a constant, so that layers which share weights still do."""

    def __init__(self, graph: Graph, store: str, least: int, everywhere: bool, session: Session) -> None:
        self.old, self.store, self.least, self.session = graph, store, least, session
        self.target = None if everywhere else session.target
        self.narrow: dict[tuple[Value, int], tuple[Value, Value | None] | str] = {}
        self.errors: dict[Value, float] = {}  # of what stands for constants: norms of difference and weights
        self.users = graph.users()
        self.kept: Counter[str] = Counter()
        self.off: dict[str, float] = {}  # by layer: norms of difference and weights
        self.done = 0
        self.before = sum(packed_bytes(n.types[0]) for n in graph.nodes() if n.op == "Const")

    def graph(self) -> Graph:
        new = self.old.map(self.stored)
        saved = self.before - sum(packed_bytes(n.types[0]) for n in new.nodes() if n.op == "Const")
        if self.done:
            self.session.note(f"{counted(self.done, 'layer')} of weights stored as {self.store}: {saved:,} bytes less")
        if self.off and self.store == "int4":
            worst = max(self.off, key=lambda name: self.off[name])
            mean = sum(self.off.values()) / len(self.off)
            self.session.note(f"they are off by {mean:.1%} on average, most of all in {worst}: {self.off[worst]:.1%}")
        for reason, count in self.kept.items():
            self.session.note(f"{counted(count, 'layer')} of weights left as they are: {reason}")
        return new

    def stored(self, node: Node) -> Value | tuple[Value, ...] | None:
        """What stands for a node that reads constant weights; None: nothing does, or it stays."""
        place = _place(node)
        if place is None:
            return None
        value = node.args[place]
        raw = value.node.args[0] if value.node.op == "Cast" and is_const(value.node.args[0]) else value
        if not is_const(raw) or raw.type.dtype not in ("f32", "f16") or raw.type.size < max(self.least, 1):
            return None
        if node.op == "Gather" and any(_place(n) != 0 for n in self.users.get(value, [])):
            return None  # the table is read as it is, too
        if (reason := self.unfit(node)) is not None:
            if reason:
                self.refuse(node, reason)
            return None
        axis = 0 if node.op == "Conv" else len(raw.shape) - 1
        found = self.narrowed(raw, axis)
        if isinstance(found, str):
            self.refuse(node, found)
            return None
        made = self.layer(node, *found)
        if made is None or not self.session.step("weights", node):
            return None
        self.done += 1
        self.off[node.name] = off = self.errors[found[0]]
        if self.session.wants_why("weights"):
            self.session.explain("weights", node, f"stored as {self.store}, which is off by {off:.2%}")
        return made

    def unfit(self, node: Node) -> str | None:
        """Why the store is not for layers of this kind; "": nothing need be said. None: it is."""
        if self.store == "int8" and node.op not in ("Conv", "MatMul"):
            return "int8 is for convolutions and matrix products" if node.op in RECURRENT else ""
        if self.store == "int4" and node.op != "MatMul":
            return "" if node.op == "Gather" else "int4 is for matrix products"
        if self.store == "int4" and not has_kernels(self.session.target):
            return "the target has no kernels of int4"
        return None

    def layer(self, node: Node, codes: Value, scale: Value | None) -> Value | tuple[Value, ...] | None:
        """What stands for it, with these weights; None where that is not faster."""
        if scale is None:
            return _halves(node, codes)
        return self.coded(node, codes, scale) if self.store == "int8" else self.in_blocks(node, codes, scale)

    def refuse(self, node: Node, reason: str) -> None:
        self.kept[reason] += 1
        if self.session.wants_why("weights"):
            self.session.explain("weights", node, reason)

    def narrowed(self, raw: Value, axis: int) -> tuple[Value, Value | None] | str:
        """The constant and, for i8, its scales; why not, where it would be too rough."""
        if (raw, axis) not in self.narrow:
            self.narrow[raw, axis] = self._narrowed(raw, axis)
        return self.narrow[raw, axis]

    def _narrowed(self, raw: Value, axis: int) -> tuple[Value, Value | None] | str:
        array: Any = const_array(raw).astype(np.float32)
        if not np.abs(array).max() <= (HALF if self.store == "f16" else np.finfo(np.float32).max):
            return f"some are beyond the range of {self.store}"
        scale = None
        if self.store == "f16":
            codes = real = array.astype(np.float16)
        elif self.store == "int8":
            codes, scale = as_bytes(array, axis)
            real = codes * scale
        else:
            codes, scale = as_blocks(array)
            real = widened(codes, scale)
        size = np.linalg.norm(array)
        off = float(np.linalg.norm(real - array) / size) if size else 0.0
        if not off <= ROUGH[self.store]:
            return f"{self.store} would be too rough"
        made = const(codes, raw.node.name, raw.node.origin)
        self.errors[made] = off
        return made, None if scale is None else const(scale)

    def in_blocks(self, node: Node, codes: Value, scale: Value) -> Value | None:
        """The product with weights of 4 bits in blocks, where that is faster."""
        zero = const(np.asarray(MIDDLE, dtype("u4").numpy))
        w = build("DequantizeLinear", codes, scale, zero, axis=0, block=BLOCK, to="f32")
        made = build("MatMul", node.args[0], w, origin=node.origin, label=node.name)
        if self.target is None or self.pays(node, [w.node, made.node], self.target):
            return made
        self.refuse(node, "the time to read them is not what limits these")
        return None

    def coded(self, node: Node, codes: Value, scale: Value) -> Value | None:
        """The layer with i8 weights, where that is faster."""
        factors: Any = const_array(scale).reshape(-1)
        args = [node.args[0], build("Cast", codes, to="f32")]
        if node.op == "Conv":
            given: Any = const_array(node.args[2]) if is_const(node.args[2]) else np.inf
            bias = given / factors.astype(np.float64)
            if not (np.abs(bias) < np.finfo(np.float32).max).all():
                self.refuse(node, "their bias is no constant, or too large for their scale")
                return None
            args.append(const(bias.astype(np.float32), node.args[2].name, node.args[2].node.origin))
            factors = factors.reshape(-1, *(1,) * (len(node.args[1].shape) - 2))
        sums = build(node.op, *args, origin=node.origin, label=node.name, **node.attrs)
        made = build("Mul", sums, const(factors), origin=node.origin, label=node.name)
        if self.target is None or self.pays(node, [args[1].node, sums.node, made.node], self.target):
            return made
        self.refuse(node, "the time to read them is not what limits these")
        return None

    def pays(self, node: Node, made: list[Node], target: Target) -> bool:
        """Whether weights come from far, and the cost model sees a gain."""
        if self.before <= target.cpu.l2:
            return False
        times = []
        for nodes in ([node], made):
            out = Value(nodes[-1])
            inside = set(nodes)
            outer = list(dict.fromkeys(a for n in nodes for a in n.args if a.node not in inside))
            constants = frozenset(k for k, a in enumerate(outer) if is_const(a))
            problem = Problem(make_body(nodes, outer, (out,)), target, self.session.threads, constants, cold=True)
            times.append(min((c.cost_us for c in choices(problem)), default=np.inf))
        return times[0] >= GAIN * times[1]


def _place(node: Node) -> int | None:
    """Which argument holds the weights of a layer."""
    if node.types[0].dtype != "f32":
        return None
    if node.op == "Gather":
        return 0 if int_attr(node, "axis") == 0 and len(node.args[0].shape) == 2 else None
    if node.op == "MatMul":
        return 1 if len(node.args[1].shape) == 2 else None
    return 1 if node.op == "Conv" or node.op in RECURRENT else None


def _halves(node: Node, codes: Value) -> Value | tuple[Value, ...]:
    """The layer with f16 weights: recurrences widen them by themselves, rows of a table are widened once taken."""
    if node.op in RECURRENT:
        return replace(node, args=(node.args[0], codes, *node.args[2:])).results
    if node.op == "Gather":
        taken = build("Gather", codes, *node.args[1:], origin=node.origin, label=f"{node.name}_f16", **node.attrs)
        return build("Cast", taken, to="f32", origin=node.origin, label=node.name)
    args = (node.args[0], build("Cast", codes, to="f32"), *node.args[2:])
    return replace(node, args=args).results


def as_bytes(array: Any, axis: int) -> tuple[Any, Any]:
    """Codes and scales of the channels along an axis; exact where a channel holds multiples of some scale already."""
    rows: Any = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    scale = np.where(largest > 0, largest, 1.0) / LARGEST
    sample = rows[:, np.argsort(-np.abs(rows).sum(axis=0), kind="stable")[:SAMPLE]].astype(np.float64)
    left = np.ones(len(rows), bool)
    for steps in range(LARGEST, 0, -1):
        tried = np.where(largest > 0, largest, 1.0) / steps
        off = np.abs(sample - np.rint(sample / tried[:, None]) * tried[:, None]).max(axis=1)
        fits = left & (off <= largest * EXACT)
        scale[fits], left[fits] = tried[fits], False
        if not left.any():
            break
    shape = [1] * array.ndim
    shape[axis] = -1
    scales = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32).reshape(shape)
    codes = np.clip(np.rint(array / scales), -LARGEST, LARGEST).astype(np.int8)
    return codes, scales
