"""Rescales sums of bytes by one multiply-add that rounds once, where that gives the same bytes (`rescale/once.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgec.compiler.ir import Graph, Value
from edgec.compiler.op import build, const, const_array, full_attrs
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.rescale import direct
from edgec.compiler.rescale.asked import PRODUCTS, asked
from edgec.compiler.rescale.bounds import RESCALED
from edgec.compiler.rescale.once import farthest, line
from edgec.compiler.rewrite import Sweep, python_rule, rewrite
from edgec.compiler.session import Session


@graph_pass("rescale-once", promise=exact, after={"integers": "it makes sums of integers"})
def rescale_once(graph: Graph, *, session: Session) -> Graph:
    """Sums of bytes are rescaled by one multiply-add where constants show that it gives the same: on 64-bit ARM."""
    if session.target is not None and not session.target.rounds_once:
        return graph
    return rewrite(graph, [rescaled_once], session)


@python_rule("Edgec.Rescale")
def rescaled_once(value: Value, sweep: Sweep) -> Value | str | None:
    """Where the bytes are of one convolution or matrix product by constants."""
    node = value.node
    sums = node.args[0].node
    if len(node.args) != 2 or sums.op not in PRODUCTS:
        return None
    if sweep.uses(Value(sums)) != 1:
        return "something else reads the sums"
    wanted = asked(node)
    if isinstance(wanted, str):
        return wanted
    attrs: Any = full_attrs(node)
    limits = {name: attrs[name] for name in ("to", "low", "high")}
    if direct.straight(wanted).all():
        bits = 16 if direct.farthest(wanted) < 2**RESCALED - 1 else 32
        given = {**limits, "zero": attrs["zero"], "bits": bits}
        return build("Edgec.RescaleOnce", *node.args, origin=node.origin, label=node.name, **given)
    made = line(wanted)
    if isinstance(made, str):
        return made
    bias = const_array(sums.args[2]).astype(np.int64) + made.start  # in 32 bits that wrap
    start = const(bias.astype(np.uint64).astype(np.uint32).view(np.int32), sums.args[2].name, sums.args[2].node.origin)
    again = Value(replace(sums, args=(*sums.args[:2], start)))
    shape = (-1, *[1] * (len(value.shape) - 2)) if sums.op == "Edgec.ConvInteger" else (-1,)
    numbers = (const(x.reshape(shape)) for x in (made.factor, made.addend))
    bits = 16 if farthest(wanted, made) < 2**RESCALED - 1 else 32
    return build("Edgec.RescaleOnce", again, *numbers, origin=node.origin, label=node.name, bits=bits, **limits)
