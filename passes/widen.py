"""Holds numbers of f16 and bf16 in f32, rounded to their type: a CPU computes them in f32 anyway.

Convolutions and matrix products then have the kernels of f32, and what joins these rounds in registers. Values that are
f16 by themselves need no rounding: results of maxima, of moves, of ReLU. An f16 that only operators read which work
element by element, and smoothly, is left as it is: that is more exact. So is what stands between a product and the
softmax of its results, and the softmax itself: attention stays one kernel. Inputs and outputs of the model keep their
types; so do tables that rows are taken from, and whatever moves the elements of constants.
"""

from __future__ import annotations

from edgec.compiler.errors import IRError
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS, build, const, const_array, full_attrs, is_const, rebuild
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.session import Session

NARROW = frozenset({"f16", "bf16"})
HEAVY = frozenset({"contract", "window"})  # kinds of operators that have kernels of f32 only
STAY = frozenset({"BitCast", "QuantizeLinear", "DequantizeLinear"})  # the element type is what they are about
# results are numbers of an argument, moved or with another sign, or whole numbers
EXACT = frozenset(
    "Relu Neg Abs Max Min Sign Floor Ceil Round Where Clip MaxPool ReduceMax ReduceMin Gather GatherElements GatherND "
    "ReverseSequence Reshape Transpose Expand Tile DepthToSpace SpaceToDepth Trilu Concat Split Slice Pad TopK "
    "ScatterND ScatterElements TensorScatter Edgec.Select Edgec.Sized Edgec.Compress Edgec.MaxPoolPlace".split()
)
JUMPS = frozenset("Floor Ceil Round Sign Mod".split())  # a number that is not rounded may be beyond the step
STEPS = {"canonicalize": "it makes one operator of several", "fold": "constants are computed in their own type"}


@graph_pass("widen", promise=lossy, after=STEPS)
def widen(graph: Graph, *, rounded: bool = True, session: Session) -> Graph:
    """Holds f16 and bf16 in f32 where a model has convolutions, matrix products or pooling in them.

    `rounded=false`: results are not rounded to their type in between.
    """
    session.known_rules.add("widen")
    return in_f32(graph, session, rounded)


def in_f32(graph: Graph, session: Session, rounded: bool) -> Graph:
    """The graph on f32, where the target is no GPU and heavy operators compute in fewer bits."""
    if session.target is not None and session.target.gpu is not None:
        return graph
    if not any(OPS[n.op].kind in HEAVY and n.types[0].dtype in NARROW for n in graph.nodes()):
        return graph
    return _Wide(graph, rounded, session).graph()


class _Wide:
    """One run. `kept` and `wide` hold what stands for a value of the old graph: in its type, and in f32. `lying` are
    constants, and what moves their elements: in f32 only where something computes with them. `rough` are not rounded.
    """

    def __init__(self, graph: Graph, rounded: bool, session: Session) -> None:
        self.old, self.session = graph, session
        self.rounds, self.users = rounded, graph.users()
        self.kept: dict[Value, Value] = {}
        self.wide: dict[Value, Value] = {}
        self.lying: set[Value] = set()
        self.rough: set[Value] = set()

    def graph(self) -> Graph:
        for node in self.old.nodes():
            if OPS[node.op].kind == "source":
                self.kept.update((v, v) for v in node.results)
                self.lying.update(v for v in node.results if is_const(v))
            else:
                self.place(node)
        return self.old.with_values(
            tuple(self.in_type(v) for v in self.old.inputs), tuple(self.in_type(v) for v in self.old.outputs)
        )

    def place(self, node: Node) -> None:
        made = None if self.stays(node) or not self.session.step("widen", node) else self.widened(node)
        if made is None:
            made = rebuild(node, [self.in_type(a) for a in node.args])
            self.kept.update(zip(node.results, made.results, strict=True))
            self.lying.update(
                v for v in node.results if all(a in self.lying for a in node.args if a.type.dtype in NARROW)
            )
            return
        for old, new in zip(node.results, made.results, strict=True):
            if old.type.dtype in NARROW:
                self.wide[old] = self.as_it_was(old, new)
            else:
                self.kept[old] = new

    def stays(self, node: Node) -> bool:
        """Whether a node has nothing to widen, or only moves what lies in its own type."""
        kind = OPS[node.op].kind
        narrow = [a for a in node.args if a.type.dtype in NARROW]
        if kind == "control" or node.op in STAY or not (narrow or any(t.dtype in NARROW for t in node.types)):
            return True
        if all(is_const(a) for a in node.args) or (
            self.rounds and node.op == "Softmax" and narrow[0].type.dtype == "bf16"
        ):
            return True  # the definition of Softmax rounds four times, which 8 bits show
        return kind == "map" and node.op in EXACT and self.lying.issuperset(narrow)

    def widened(self, node: Node) -> Node | None:
        """The node on f32; None where its operator does not take that."""
        args = [self.in_f32(a) if a.type.dtype in NARROW else self.kept[a] for a in node.args]
        attrs = {"to": "f32"} if node.op == "Cast" and full_attrs(node)["to"] in NARROW else {}
        try:
            made = rebuild(node, args, **attrs)
        except IRError:
            return None
        wanted = ["f32" if t.dtype in NARROW else t.dtype for t in node.types]
        return made if [t.dtype for t in made.types] == wanted else None

    def as_it_was(self, old: Value, new: Value) -> Value:
        """The number in f32, rounded to the type that it had, which is what leaves the model or is read by others."""
        if not self.rounds or (old.node.op in EXACT and self.rough.isdisjoint(old.node.args)):
            return new
        if old.type.dtype == "f16" and (self.unseen(old) or self.in_attention(old)):
            self.rough.add(old)
            return new
        self.kept[old] = build("Cast", new, to=old.type.dtype, origin=old.node.origin)
        return build("Cast", self.kept[old], to="f32", origin=old.node.origin)

    def unseen(self, value: Value) -> bool:
        """Whether only smooth functions of each element read a value."""
        readers = self.users.get(value, [])
        return value not in self.old.outputs and bool(readers) and all(map(_is_smooth, readers))

    def in_attention(self, value: Value) -> bool:
        """Whether a value stands between the product of queries and keys and that of scores and values, or is this."""
        readers = self.users.get(value, [])
        if value in self.old.outputs or len(readers) != 1:
            return False
        if value.node.op == "Softmax":
            return readers[0].op == "MatMul"
        if value.node.op == "MatMul" and value.node.args[0].node.op == "Softmax":
            return True
        while OPS[readers[0].op].kind == "elementwise":
            result = Value(readers[0])
            readers = self.users.get(result, [])
            if result in self.old.outputs or len(readers) != 1:
                return False
        after = self.users.get(Value(readers[0]), [])
        return readers[0].op == "Softmax" and [n.op for n in after] == ["MatMul"]

    def in_type(self, value: Value) -> Value:
        """What stands for a value, in the type that it had."""
        if value not in self.kept:
            self.kept[value] = build("Cast", self.wide[value], to=value.type.dtype, origin=value.node.origin)
        return self.kept[value]

    def in_f32(self, value: Value) -> Value:
        """What stands for a value of f16 or bf16, in f32."""
        if value not in self.wide:
            kept = self.kept[value]
            if is_const(kept):
                self.wide[value] = const(const_array(kept).astype("float32"), kept.node.name, kept.node.origin)
            else:
                self.wide[value] = build("Cast", kept, to="f32", origin=value.node.origin)
        return self.wide[value]


def _is_smooth(node: Node) -> bool:
    return OPS[node.op].kind == "elementwise" and node.op not in JUMPS and node.types[0].dtype in NARROW
