"""Scan: a loop over slices of its inputs, as many turns as these have slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from ..errors import EdgecError
from .context import Context, Held
from .convert import Walk
from .loops import Form, Results, Sliced, converted, tensors
from .table import CONTROL, Refused


def scan(walk: Walk, node: gs.Node, context: Context) -> Results:
    """Before opset 9 it runs over a batch as well, and takes lengths first."""
    body, count = node.attrs["body"], int(context.attr("num_scan_inputs"))
    args = [context.any(k) for k in range(context.opset < 9, len(context.args))]
    if context.opset < 9:
        return _batched(walk, node, context, args, count)
    carried, read = args[: len(args) - count], [context.arg(k) for k in range(len(args) - count, len(args))]
    stacked = len(body.outputs) - len(carried)
    axes, ways = (_each(context, f"scan_input_{key}", count) for key in ("axes", "directions"))
    for value in read:
        walk.must_be_fixed(value, f"{value.name!r}, of which it reads slices,")
    sliced = [
        Sliced(v, context.in_rank(axis, len(v.shape)), bool(back))
        for v, axis, back in zip(read, axes, ways, strict=True)
    ]
    out_axes, out_ways = (_each(context, f"scan_output_{key}", stacked) for key in ("axes", "directions"))
    return converted(
        _scan_form(walk, node, context, carried, sliced, list(zip(out_axes, map(bool, out_ways), strict=True)))
    )


def _each(context: Context, key: str, count: int) -> tuple[int, ...]:
    given = tuple(context.attr(key) or (0,) * count)
    if len(given) != count:
        raise EdgecError(f"{context.where}: {key} has {len(given)} entries; expected {count}")
    return given


def _scan_form(
    walk: Walk,
    node: gs.Node,
    context: Context,
    carried: Sequence[Held],
    sliced: Sequence[Sliced],
    stacks: Sequence[tuple[int, bool]],
) -> Form:
    lengths = {s.value.shape[s.axis] for s in sliced}
    if len(lengths) != 1:
        raise EdgecError(f"{context.where}: its inputs have {sorted(lengths)} slices; expected one number")
    made = [context.const(np.int64(lengths.pop())), context.const(np.bool_(True))]
    turns, always = tensors(walk.publish(context, made))
    return Form(walk, node, context, turns, always, carried, sliced, stacks, counted=False)


def _batched(walk: Walk, node: gs.Node, context: Context, args: Sequence[Held], count: int) -> Results:
    """Opset 8: every argument has the batch first, then the slices; each element of the batch is a scan of its own."""
    if context.has(0):
        raise Refused("its sequences have lengths of their own", "expected no sequence_lens, or opset 9")
    values = tensors(args)
    for value in values:
        walk.must_be_fixed(value, f"{value.name!r}, of which it reads slices,")
    if any(context.attr("directions") or ()):
        raise Refused("it runs backwards", "expected opset 9")
    rows = []
    for b in range(values[0].shape[0]):
        own = [context.reshape(context.slice(v, 0, b, b + 1), v.shape[1:]) for v in values]
        own = tensors(walk.publish(context, own))
        carried, read = own[: len(own) - count], own[len(own) - count :]
        stacks = [(0, False)] * (len(node.attrs["body"].outputs) - len(carried))
        sliced = [Sliced(v, 0, False) for v in read]
        rows.append(converted(_scan_form(walk, node, context, carried, sliced, stacks)))
    columns = [tensors(column) for column in zip(*rows, strict=True)]
    stacked = [[context.reshape(v, (1, *v.shape)) for v in column] for column in columns]
    return [rows[0] if len(rows) == 1 else context.emit("Concat", *rows, axis=0) for rows in stacked]


CONTROL["Scan"] = scan
