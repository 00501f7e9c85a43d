"""Where integers and real numbers meet: tensors behind DequantizeLinear, sums that become real, constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Graph, Node, QParams, Value
from edgec.compiler.op import build, const, const_array, evaluate, is_const
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.rescale.asked import PRODUCTS
from edgec.compiler.rescale.bounds import short
from edgec.compiler.rewrite import Sweep, python_rule, rewrite
from edgec.compiler.session import Session

from .blocks import has_kernels, in_blocks, stays
from .constants import real_constant
from .forms import Forms
from .sums import Stored, Term, with_bias

UNMOVED = ("Transpose", "Reshape", "MaxPool")  # what is behind them has the same scale


def sums(g: Graph, session: Session) -> Graph:
    """Products of quantized tensors whose results stay real are sums of integers all the same. Their multipliers have
    22 bits, with which a core makes real numbers of the bits of sums in one multiply-add, rounded once. Constants that
    are added join the bias."""
    forms = Forms(g.uses(), lying)

    def summed(node: Node) -> Value | None:
        form = forms.product(node)
        if form is None or not session.step("integers", node):
            return None
        (term,) = form.terms
        real = build("Cast", term.value, to="f32")
        return build("Mul", real, multiplier_of(short(term.multiplier)), origin=node.origin, label=node.name)

    return rewrite(g.map(summed), [bias_of_sums], session)


@python_rule("Add")
def bias_of_sums(value: Value, sweep: Sweep) -> Value | str | None:
    """A constant that is added to sums times a number, or one per channel: in steps of the sums."""
    for real, other in (value.node.args, value.node.args[::-1]):
        product = real.node
        if product.op != "Mul":
            continue
        cast = product.args[0].node
        if cast.op != "Cast" or cast.args[0].node.op not in PRODUCTS or not is_const(product.args[1]):
            continue
        total, factor, added = cast.args[0], product.args[1], real_constant(other)
        if added is None or not all(map(is_const, total.node.args[1:])) or real.shape != value.shape:
            return "what is added, weights or bias are not constant"
        if any(sweep.uses(v) != 1 for v in (real, Value(cast), total)):
            return "something else reads the sums"
        more = with_bias(Term(total, 0, const_array(factor).astype(np.float64), sums=True), added)
        if more is None:
            return "what is added is no number per channel, or too large for 32 bits"
        origin, whole = value.node.origin, build("Cast", more.value, to="f32")
        return build("Mul", whole, factor, origin=origin, label=value.node.name)
    return None


def lying(node: Node) -> Stored | None:
    """The tensor behind a DequantizeLinear with one scale, as it lies."""
    if node.op != "DequantizeLinear" or is_const(node.args[0]) or node.types[0].dtype != "f32":
        return None
    x, pair = node.args[0], pair_of(node)
    return Stored(x, pair.scale[0], pair.zero[0]) if pair is not None and x.type.dtype in BYTES else None


def scales_of_ports(g: Graph) -> dict[str, QParams]:
    """What the bytes of inputs and outputs stand for, by name."""
    found: dict[str, QParams] = {}
    users = g.users()
    for value in g.inputs:
        here = value
        while (readers := users.get(here, [])) and readers[0].op in UNMOVED:
            here = Value(readers[0])
        known = [pair_of(r) for r in readers if r.op == "DequantizeLinear" and r.args[0] == here]
        if known and known[0] is not None:
            found[value.name] = known[0]
    for name, value in g.results:
        node = value.node
        while node.op in UNMOVED:
            node = node.args[0].node
        if node.op == "QuantizeLinear" and (pair := pair_of(node)) is not None:
            found[name] = pair
    return found


def pair_of(node: Node) -> QParams | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear that has one of each."""
    _, scale, zero = node.args
    if not (is_const(scale) and is_const(zero)) or scale.type.size != 1:
        return None
    return QParams((float(const_array(scale).item()),), (int(const_array(zero).item()),))


def real_constants(g: Graph, session: Session) -> Graph:
    """Quantized constants that are still read become real numbers, but for weights that kernels widen."""
    g = in_blocks(g, session)
    users, kernels = g.users(), has_kernels(session.target)

    def real(node: Node) -> Value | None:
        if node.op != "DequantizeLinear" or not all(map(is_const, node.args)) or (kernels and stays(node, users)):
            return None
        return const(evaluate(node, [const_array(a) for a in node.args])[0], node.name, node.origin)

    return g.map(real)


def multiplier_of(exact: Any) -> Value:
    """f32, as one number where all are the same."""
    array = np.asarray(exact, np.float32)
    return const(array.reshape(-1)[0] if array.size and np.all(array == array.reshape(-1)[0]) else array)


def numpy_type(name: str) -> Any:
    return dtype(name).numpy
